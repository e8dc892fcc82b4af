"""Putting staged changes away, and bringing them back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from hangar_cloud.alive import Alive
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.rebase import describe, find_conflicts, rebase
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.stashes import Stashes, StashInfo
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.column_writer import OpenBlocks
from hangar_cloud.errors import NothingToCommitError, StashConflictError, StashNotFoundError, UncommittedChangesError
from hangar_cloud.in_turn import in_turn
from hangar_cloud.storage import Storage


class Stash:
    """The stashes of a repository on this machine, in a checkout for writing: ``co.stash("name")``, ``co.stash.pop()``.

    Args:
        storage: of the repository.
        staging: of the writer.
        working: what is staged in it.
        samples: writes to it.
        packs: reads from it.
        alive: refuses once the checkout is closed.
        blocks: counts its open ``with`` blocks.
        stand: gives the branch and the commit that it stands on.
        drop_no_changes: clears the staging area if a commit of it would change nothing; is told what comes next.
    """

    def __init__(
        self,
        storage: Storage,
        staging: StagingArea,
        working: WorkingSet,
        samples: SampleWriter,
        packs: PackReader,
        alive: Alive,
        blocks: OpenBlocks,
        stand: Callable[[], tuple[str, str | None]],
        drop_no_changes: Callable[[str], None],
    ) -> None:
        self._storage = storage
        self._staging = staging
        self._working = working
        self._turn = working.turn
        self._samples = samples
        self._packs = packs
        self._alive = alive
        self._blocks = blocks
        self._stand = stand
        self._drop_no_changes = drop_no_changes
        self._stashes = Stashes(storage.root)

    @in_turn
    def __call__(self, name: str) -> StashInfo:
        """Put everything staged away under a name; the checkout is left as its commit is.

        Raises:
            RuntimeError: nothing is staged.
            ValueError: the name cannot be one, or is taken.
            PermissionError: inside a ``with`` block.
        """
        self._alive()
        check_name(name, "stash")
        self._blocks.refuse("stash changes")
        self._drop_no_changes("stash changes")
        if not self._working.dirty:
            raise NothingToCommitError("nothing to stash: nothing is staged")
        branch, base = self._stand()
        touched = [name for name in {*self._working.base, *self._working.columns} if self._is_touched(name)]
        rows = sum(len(column.staged) for column in self._working.columns.values())
        time = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        info = StashInfo(name, time, branch, base or "", tuple(sorted(touched)), rows)
        with self._stashes.alone():
            self._stashes.refuse_taken(name)
            self._let_go()
            try:
                self._stashes.put(self._staging.folder, info)
            finally:
                self._take_up()
        return info

    def list(self) -> list[StashInfo]:
        """All stashes, the newest first."""
        self._alive()
        return self._stashes.all()

    @in_turn
    def pop(self, name: str | None = None) -> StashInfo:
        """Stage a stash's changes again, on top of this checkout's commit, and forget the stash.

        Args:
            name: of the stash; the newest by default.

        Raises:
            ValueError: no such stash; or it changes what was changed, in another way, between the commit that
                it was made on and this one: the stash is kept.
            RuntimeError: there are staged changes.
            PermissionError: inside a ``with`` block.
        """
        self._alive()
        if name is not None:
            check_name(name, "stash")
        self._blocks.refuse("bring stashed changes back")
        self._drop_no_changes("bring stashed changes back")
        if self._working.dirty:
            raise UncommittedChangesError(
                "there are staged changes; commit them, stash them too, or call reset_staging_area(), before stashed "
                "changes are brought back"
            )
        with self._stashes.alone():
            info = self._newest() if name is None else self._stashes.find(name)
            self._move_base(info)
            self._let_go()
            try:
                self._stashes.take(info.name, self._staging.folder)
            finally:
                self._take_up()
        return info

    def drop(self, name: str) -> str:
        """Delete a stash and the changes in it; returns its name. Raises ValueError where there is none."""
        self._alive()
        with self._stashes.alone():
            self._stashes.drop(check_name(name, "stash"))
        return name

    def __len__(self) -> int:
        """Number of stashes."""
        return len(self.list())

    def __repr__(self) -> str:
        rows = [
            f"\n    {info.name} : {info.time}, {info.branch} at {info.base[:12] or 'no commit'}, "
            f"{info.samples} samples in {len(info.columns)} columns"
            for info in self.list()
        ]
        return "Hangar Stash" + ("".join(rows) or "\n    empty")

    def _newest(self) -> StashInfo:
        found = self._stashes.all()
        if not found:
            raise StashNotFoundError("there is no stash to bring back")
        return found[0]

    def _move_base(self, info: StashInfo) -> None:
        """Put a stash, where it lies, on top of this checkout's commit."""
        storage, (branch, base) = self._storage, self._stand()
        area = StagingArea(self._stashes.folder(info.name))
        try:
            was = area.setting("base")
            writer = SampleWriter(
                area, storage.index, storage.has_pack, lambda _: None, holders=storage.moved_packs.holders
            )
            columns = {} if was is None else storage.commit(was).trees
            stashed = WorkingSet(columns, area, writer, storage.nodes)
            conflicts = find_conflicts(stashed, self._working.base, storage.nodes)
            if conflicts:
                raise StashConflictError(
                    f"stash {info.name!r} cannot be brought back onto commit {(base or 'none')[:12]} of branch "
                    f"{branch!r}: {describe(conflicts)} was changed there, in another way, since commit "
                    f"{(was or 'none')[:12]} that the stash was made on. The stash is kept; bring it back on a branch "
                    "made from that commit, commit it there and merge",
                    conflicts,
                )
            rebase(stashed, area, self._working.base, branch=branch, base=base)
        finally:
            area.close()

    def _let_go(self) -> None:
        """Close the files of the staging area."""
        self._samples.close()
        self._packs.forget()
        self._staging.close()

    def _take_up(self) -> None:
        """Go on with the staging area that is there now."""
        branch, base = self._stand()
        self._staging.open()
        if not self._staging.dirty:
            self._staging.clear(branch, base)
        self._samples.start_over()
        self._working.reload(self._working.base)
        self._packs.forget()

    def _is_touched(self, name: str) -> bool:
        base, column = self._working.base.get(name), self._working.columns.get(name)
        return base is None or column is None or bool(column.staged) or column.entry != base
