"""A checkout for writing: a branch, and the staging area over its head."""

from __future__ import annotations

import atexit
import contextlib
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any, cast

from hangar_cloud.alive import Alive
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.branches import Branches
from hangar_cloud.catalog.backoff import ATTEMPTS
from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.rebase import adds_nothing
from hangar_cloud.catalog.receipts import find_commit
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.checkout import Checkout, Logger, key_below
from hangar_cloud.closing import close_at_exit
from hangar_cloud.column_making import ColumnMaking
from hangar_cloud.column_writer import ColumnWriter, FlatSampleWriter, OpenBlocks
from hangar_cloud.columns import Columns
from hangar_cloud.committing import begin_upload, check_message, make_committer
from hangar_cloud.errors import (
    ClosedError,
    ColumnNotFoundError,
    HangarError,
    InvalidArgumentError,
    InvalidSampleError,
    NothingToCommitError,
    StagingError,
    UncommittedChangesError,
)
from hangar_cloud.in_turn import in_turn
from hangar_cloud.merging import Merger, Strategy, announce
from hangar_cloud.metadata import MetadataWriter
from hangar_cloud.nested_writer import NestedSampleWriter
from hangar_cloud.no_changes import changes_nothing
from hangar_cloud.progress import byte_progress
from hangar_cloud.schema_change import ColumnChanges
from hangar_cloud.settling import OnConflict, commit_rules
from hangar_cloud.stash import Stash
from hangar_cloud.storage import Storage
from hangar_cloud.user_diff import DiffContext, WriterUserDiff
from hangar_cloud.writer_lock import WriterLock


class WriterCheckout(ColumnMaking, Checkout):
    """The head of a branch, open for writing. Close it to let the next writer in.

    What is staged survives `close()`, the end of the process, and its death.
    """

    def __init__(
        self,
        storage: Storage,
        branch: str,
        base: str | None,
        lock: WriterLock,
        staging: StagingArea,
        user: tuple[str, str],
        log: Logger,
    ) -> None:
        self._storage = storage
        self._branch = branch
        self._base = base
        self._lock = lock
        self._staging = staging
        self._user = user
        self._log = log
        self._blocks = []
        self._open_blocks = OpenBlocks()
        self._alive = Alive(lock.check)
        self._committer = make_committer(storage, f"{user[0]} <{user[1]}>")
        nodes = storage.nodes if storage.is_bucket else None
        storage.purged.forget()
        self._samples = SampleWriter(
            staging,
            storage.index,
            storage.has_pack,
            self._committer.cover,
            nodes,
            storage.moved_packs.holders,
            storage.purged,
            on_sealed=partial(begin_upload, storage, self._committer),
        )
        base_columns = {} if base is None else storage.commit(base).trees
        self._working = WorkingSet(base_columns, staging, self._samples, storage.nodes)
        self._turn = self._working.turn
        self._packs = PackReader(
            storage.source, Path(staging.folder), purged=storage.purged.error, any_purged=storage.purged.any_here
        )
        self._open: dict[str, ColumnWriter] = {}
        self._closed_by_reset = False
        changes = self._changes()
        self._columns = Columns(self._column_names, self._open_column, self._alive, self._remove_column, changes)
        self._at_exit = close_at_exit(self)

    @property
    def branch_name(self) -> str:
        """The branch that a commit will extend."""
        self._alive()
        return self._branch

    @property
    def commit_hash(self) -> str:
        """Digest of the commit that staged changes are on top of; empty before the first commit."""
        self._alive()
        return self._base or ""

    def __setitem__(self, index: tuple[Any, ...], value: Any) -> None:
        """Store a sample: ``co['images', 3] = array``.

        In a nested column, ``co['scans', 'p7', 0] = array`` stores a subsample, and ``co['scans', 'p7'] = {0: array}``
        merges several into a sample.
        """
        self._alive()
        if not isinstance(index, (list, tuple)) or len(index) < 2 or not isinstance(index[0], str):
            raise InvalidArgumentError(
                "a checkout is written to as co[column, key] = value or co[column, sample, subsample] = value; "
                f"not by {index!r}"
            )
        column = self._columns[index[0]]
        column[key_below(column, index)] = value

    @in_turn
    def commit(
        self,
        commit_message: str,
        *,
        on_conflict: OnConflict = "rebase",
        attempts: int = ATTEMPTS,
        idempotency_key: str | None = None,
    ) -> str:
        """Record everything staged as a commit on the branch, and return its digest.

        On a bucket the data is uploaded first, then the branch is moved. If another writer was first, nothing is
        uploaded again: the staged changes are put on top of what it committed, if they do not contradict it.

        Args:
            commit_message: what changed.
            on_conflict: what to do if another writer moved the branch. "rebase" puts the staged changes on top where
                the two changed different samples, or the same ones alike, and raises where they did not. "fail"
                raises in any case. "ours" keeps what is staged of samples that both changed, "theirs" what the other
                writer committed, and a function is called with ``(column, key, ancestor, ours, theirs)`` and decides
                as in `Repository.merge`. Columns that both changed (their schema, or whether they are there) always
                raise.
            attempts: how often to try while other writers are first, with growing random waits between.
            idempotency_key: names this piece of work, in 1 to 120 bytes. If the branch holds a commit with this key
                already, nothing is committed, and the digest of that commit is returned: a job that does not know how
                its last run ended can just be run again. What is staged is dropped where the branch holds it; else it
                goes to a stash, with a warning.

        Warns:
            UserWarning: the work of `idempotency_key` was done before, and what is staged is something else.

        Raises:
            RuntimeError: nothing changed; or another writer moved the branch (`HeadMovedError`), or changed the same
                samples (`CommitConflictError`). What is staged is kept.
            OSError: the store failed; what is staged is kept, and commit can be called again.
            ValueError: an argument cannot be meant.
        """
        self._alive()
        check_message(commit_message)
        rules = commit_rules(on_conflict, attempts, idempotency_key, self._storage.nodes, self._packs)
        self._drop_no_changes("commit")
        if not self._working.dirty:
            done = None if idempotency_key is None else self._find_done(idempotency_key)
            if done is not None:
                return done
            what = "nothing is staged, or the staged contents equal those of its last commit"
            raise NothingToCommitError(f"nothing to commit on branch {self._branch!r}: {what}")
        try:
            with byte_progress("uploading", enabled=self._storage.is_bucket) as progress:
                landed = self._committer.commit(
                    self._working,
                    self._staging,
                    self._samples,
                    branch=self._branch,
                    base=self._base,
                    author=self._user[0],
                    email=self._user[1],
                    message=commit_message,
                    rules=rules,
                    progress=progress,
                )
        except HangarError:
            # What is staged may be on top of another writer's commit by now.
            with contextlib.suppress(StagingError):
                self._base = self._staging.setting("base")
                self._drop_no_changes("commit")
            raise
        if landed.repeated:
            self._drop_repeated(landed.digest, landed.pointer.commit, idempotency_key)
        else:
            self._base = landed.digest
        self._packs.forget()
        return landed.digest

    @property
    def stash(self) -> Stash:
        """Puts staged changes away (``co.stash("name")``) and brings them back (``co.stash.pop("name")``)."""
        self._alive()
        return Stash(
            self._storage,
            self._staging,
            self._working,
            self._samples,
            self._packs,
            self._alive,
            self._open_blocks,
            lambda: (self._branch, self._base),
            self._drop_no_changes,
        )

    @property
    def metadata(self) -> MetadataWriter:
        """A versioned mapping from text to text, about the dataset as a whole."""
        self._alive()
        return MetadataWriter(self._metadata_column, self._alive, self._make_metadata)

    @property
    def diff(self) -> WriterUserDiff:
        """Compares this checkout's commit with others, and with what is staged."""
        self._alive()
        return WriterUserDiff(DiffContext(self._storage, lambda: self._base, self._alive), self._working)

    def merge(self, message: str, dev_branch: str, *, strategy: Strategy = None) -> str:
        """Merge a branch into this one, and return the digest of its new head; see `Repository.merge`.

        The checkout goes on from the merged contents.

        Raises:
            ValueError: there are conflicts, or no such branch.
            RuntimeError: there are staged changes; or `strategy` wrote to this checkout, which changes nothing.
        """
        self._alive()
        check_message(message)
        dev = Branches(self._storage).find(dev_branch)
        merger = Merger(self._storage, self._staging, self._samples, self._user)
        with contextlib.ExitStack() as held:
            with self._turn.lock:
                self._drop_no_changes("merge")
                if self._working.dirty:
                    raise UncommittedChangesError(
                        f"there are uncommitted changes on branch {self._branch!r}; commit them or call "
                        "reset_staging_area() before a merge"
                    )
                # From here on other threads are refused, and need not wait: `strategy` may use them to read.
                held.enter_context(self._working.guard.held())
            try:
                merged = merger.merge(message, self._branch, dev, dev_branch, strategy)
            except BaseException:
                self._samples.start_over()
                self._staging.clear(self._branch, self._base)
                raise
            with self._turn.lock:
                self._samples.start_over()
                self._staging.clear(self._branch, merged.digest)
                self._working.rebase(self._storage.commit(merged.digest).trees)
                self._base = merged.digest
                self._packs.forget()
        announce(merged)
        return merged.digest

    @in_turn
    def reset_staging_area(self, *, force: bool = False) -> str:
        """Give up everything staged, return the digest of the branch's commit, and close the checkout.

        Raises:
            RuntimeError: nothing is staged (unless `force`).
        """
        self._alive()
        self._working.guard.refuse("reset the staging area")
        # What cannot be staged, a purged sample or one that the disk has no room for, is given up like the rest.
        with contextlib.suppress(HangarError):
            self._drop_no_changes("reset the staging area")
        if not self._working.dirty and not force:
            raise NothingToCommitError("nothing to reset: nothing is staged")
        self._committer.publisher.stop()
        self._samples.start_over()
        head = self._storage.head(self._branch)
        self._staging.clear(self._branch, head.commit if head is not None else self._base)
        self._working.rebase(self._working.base)
        digest = self._base or ""
        self._shut()
        self._closed_by_reset = True
        return digest

    @in_turn
    def close(self) -> None:
        """Release the writer lock. What is staged is kept for the next writer.

        `reset_staging_area` closes the checkout too; one call of `close` after it is accepted and does nothing.
        """
        if self._closed_by_reset:
            self._closed_by_reset = False
            return
        self._alive()
        try:
            self._drop_no_changes("close the checkout")
        except InvalidSampleError:
            # A value that was purged meanwhile cannot be packed; it stays in the database, and the commit says so.
            self._drop_no_changes("close the checkout", pack=False)
        self._shut()

    def _find_done(self, idempotency_key: str) -> str | None:
        """The commit on the branch that did the work of a key."""
        head = self._storage.head(self._branch)
        there = None if head is None else head.commit
        return find_commit(self._storage.nodes, self._storage.commit, there, idempotency_key)

    def _drop_repeated(self, digest: str, head: str | None, idempotency_key: str | None) -> None:
        """Go on from the branch's head, which holds what was to be committed; keep what it does not hold."""
        trees = {} if head is None else self._storage.commit(head).trees
        if not adds_nothing(self._working, trees, self._storage.nodes):
            name = f"repeated-{digest[:12]}-{time.time_ns():x}"
            self.stash(name)
            warnings.warn(
                f"commit {digest[:12]} on branch {self._branch!r} did the work of idempotency_key {idempotency_key!r} "
                f"before, so nothing was committed; what was staged is not the same, and is kept in stash {name!r} "
                f"(stash.pop brings it back, stash.drop gives it up)",
                UserWarning,
                stacklevel=3,
            )
        self._samples.start_over()
        self._staging.clear(self._branch, head)
        self._working.rebase(trees)
        self._base = head

    def _drop_no_changes(self, before: str, *, pack: bool = True) -> None:
        """Clear the staging area if a commit of it would change nothing, so that nobody is asked to commit that."""
        self._working.guard.refuse(before)
        self._working.flush(pack=pack)
        if changes_nothing(self._storage, self._working, self._staging, self._committer):
            self._samples.start_over()
            self._staging.clear(self._branch, self._base)
            self._working.rebase(self._working.base)
            self._packs.forget()

    def _log_start(self) -> tuple[str | None, str | None]:
        return self._branch, None

    def _shut(self) -> None:
        atexit.unregister(self._at_exit)
        self._committer.publisher.stop()
        self._samples.close()
        self._staging.close()
        self._alive.end()
        self._lock.release()

    @in_turn
    def _remove_column(self, name: str) -> str:
        self._open_blocks.refuse(f"remove column {name!r}")
        if name not in self._working.columns:
            raise ColumnNotFoundError(f"Cannot remove: {name}. Key does not exist")
        self._working.remove_column(name)
        self._open.pop(name, None)
        return name

    def _changes(self) -> ColumnChanges:
        return ColumnChanges(self._working, self._packs, self._open_blocks)

    def _metadata_column(self) -> FlatSampleWriter | None:
        return cast("FlatSampleWriter", self._open_column(METADATA)) if METADATA in self._working.columns else None

    @in_turn
    def _make_metadata(self) -> FlatSampleWriter:
        if METADATA not in self._working.columns:
            self._working.add_column(METADATA, ColumnEntry(ColumnSchema("str"), None, "i0"))
        return cast("FlatSampleWriter", self._open_column(METADATA))

    def _column_names(self) -> list[str]:
        return sorted(name for name in self._working.columns if name != METADATA)

    @in_turn
    def _open_column(self, name: str) -> ColumnWriter:
        column = self._working.columns[name]
        handle = self._open.get(name)
        if handle is None or handle._column is not column:
            kind = NestedSampleWriter if column.entry.schema.column_layout == "nested" else FlatSampleWriter
            handle = kind(self._storage, self._working, column, self._packs, self._alive, self._open_blocks)
            self._open[name] = handle
        return handle

    def __reduce__(self) -> tuple[Any, ...]:
        raise ClosedError("a checkout for writing cannot be pickled; pickle a reader, Repository.checkout()")

    def _facts(self) -> tuple[str, list[tuple[str, object]]]:
        self._alive()
        facts = [("Writer", True), ("Base Branch", self._branch), ("Num Columns", len(self._columns))]
        return "WriterCheckout", facts
