"""Merging one branch into another: fast-forward, three-way, and the resolution of conflicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.packs import pack_path, staged_pack_number
from hangar_cloud.catalog import history
from hangar_cloud.catalog.backoff import ATTEMPTS, back_off
from hangar_cloud.catalog.commits import METADATA, ColumnEntry, Commit, commit_path
from hangar_cloud.catalog.errors import HeadMovedError
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.merge import ColumnMerge, Merge, SampleConflict, merge_columns
from hangar_cloud.catalog.merge_commit import publish_merge
from hangar_cloud.catalog.publishing import Publisher
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_writer import SampleWriter, sealed_row
from hangar_cloud.catalog.schema import Payload
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.watch import Watch, land
from hangar_cloud.diff import conflicts_of, describe_conflicts
from hangar_cloud.errors import InvalidArgumentError, MergeConflictError, StoreUnavailableError
from hangar_cloud.referring import refer
from hangar_cloud.storage import Storage

OURS: Final = "ours"
THEIRS: Final = "theirs"
_METADATA_NAME: Final = "metadata"
_OR_FUNCTION: Final = {
    False: ", strategy='theirs', or a function that decides for each sample",
    True: " or strategy='theirs' (a function is asked about samples, not about columns as a whole)",
}

Resolver = Callable[[str, RowKey, "LazyValue", "LazyValue", "LazyValue"], Any]
Strategy = str | Resolver | None


@dataclass(frozen=True)
class LazyValue:
    """One side of a conflict: read when it is asked for, and only then.

    `exists` tells whether that side has the sample at all. The ancestor of a large sample whose column was altered to
    another dtype is not known: it does not `exist` either, and cannot be returned.
    """

    _packs: PackReader
    _entry: ColumnEntry
    row: Row | None

    @property
    def exists(self) -> bool:
        """False where that side has no such sample."""
        return self.row is not None

    def get(self) -> Any:
        """The value: an ndarray, str or bytes; None where that side has none. May fetch it."""
        if self.row is None:
            return None
        schema, row = self._entry.schema, self.row
        if row.value is not None:
            return schema.decode(row.value, row.shape)
        assert row.place is not None
        packed = PackedSample(row.place, row.identity[1:], schema.prefix(row.shape))
        return schema.decode(self._packs.read(packed), row.shape)


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge: the new head, and how it was reached ("same", "fast-forward" or "three-way")."""

    digest: str
    kind: str


class Merger:
    """Merges into one branch.

    Args:
        storage: of the repository.
        staging: of the writer that merges; clean. New values of resolved conflicts pass through it.
        samples: writes to that staging area.
        user: name and email recorded in the commit.
    """

    def __init__(self, storage: Storage, staging: StagingArea, samples: SampleWriter, user: tuple[str, str]) -> None:
        self._storage = storage
        self._staging = staging
        self._samples = samples
        self._user = user
        self._publisher = Publisher(storage.store, storage.cache)
        self._watch = Watch(storage.store if storage.is_bucket else None)
        self._sealed: dict[int, bytes] = {}
        self._reused: dict[str, bytes] = {}

    def merge(self, message: str, branch: str, dev: str, dev_name: str, strategy: Strategy = None) -> Merged:
        """Merge commit `dev` into a branch and move the branch.

        Args:
            message: of the commit, if one is made.
            branch: merged into.
            dev: commit that is merged.
            dev_name: what the user called it, for messages.
            strategy: what to do about conflicts, see `Repository.merge`.

        Of a race that is lost, the merge is made anew with what the other writer committed.

        Raises:
            MergeConflictError: there are conflicts that the strategy does not resolve; nothing was changed.
            HeadMovedError: other writers were first time after time; nothing was changed.
        """
        if strategy is not None and strategy not in (OURS, THEIRS) and not callable(strategy):
            raise InvalidArgumentError(f"strategy must be 'ours', 'theirs', a function or None, not {strategy!r}")
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._merge(message, branch, dev, dev_name, strategy)
            except HeadMovedError:
                back_off(attempt)
        return self._merge(message, branch, dev, dev_name, strategy)

    def _merge(self, message: str, branch: str, dev: str, dev_name: str, strategy: Strategy) -> Merged:
        storage = self._storage
        self._sealed, self._reused = {}, {}
        pointers = storage.pointers(f"{self._user[0]} <{self._user[1]}>")
        head = pointers.head(branch)
        master = None if head is None else head.commit
        bases = [] if master is None else history.merge_bases(master, dev, storage.commit)
        if master is not None and bases == [dev]:
            return Merged(master, "same")
        if master is None or bases == [master]:
            refer(storage, dev, lambda: pointers.move(branch, head, dev, "merge"))
            return Merged(dev, "fast-forward")
        ours, theirs = storage.commit(master).trees, storage.commit(dev).trees
        merge = merge_columns(storage.nodes, [storage.commit(base).trees for base in bases], ours, theirs)
        if merge.conflict and strategy is not None:
            self._resolve(merge, strategy)
        if merge.conflict:
            raise MergeConflictError(
                f"{dev_name!r} cannot be merged into {branch!r}; nothing was changed. In conflict: "
                f"{describe_conflicts(merge.schemas, merge.samples)}. Change one side so that they agree, or merge "
                f"with strategy='ours'{_OR_FUNCTION[bool(merge.schemas)]}",
                conflicts_of(merge),
            )
        parents = (master, dev)
        made: list[Commit] = []

        def publish() -> tuple[set[str], str]:
            self._publisher.begin(again=bool(made))
            kept = self._publish_packs()
            time = made[0].time if made else None
            digest, commit = publish_merge(self._publisher, storage.nodes, merge, parents, *self._user, message, time)
            made.append(commit)
            return {*self._publisher.names, *kept, commit_path(dev)}, digest

        digest = land(self._watch, publish, lambda digest: pointers.move(branch, head, digest, "merge").commit)
        assert digest is not None
        return Merged(digest, "three-way")

    def _resolve(self, merge: Merge, strategy: str | Resolver) -> None:
        """Settle conflicts in place; what the strategy refuses stays one."""
        if isinstance(strategy, str):
            for conflict in merge.schemas:
                _choose_column(merge, conflict.column, conflict.ours if strategy == OURS else conflict.theirs)
            for sample in merge.samples:
                merge.columns[sample.column].changes[sample.key] = sample.ours if strategy == OURS else sample.theirs
            merge.schemas, merge.samples = [], []
            return
        refused: list[SampleConflict] = []
        new: dict[str, list[tuple[RowKey, Payload]]] = {}
        for sample in merge.samples:
            column = merge.columns[sample.column]
            sides = [
                LazyValue(self._storage.packs, column.entry, row) for row in (sample.base, sample.ours, sample.theirs)
            ]
            name = _METADATA_NAME if sample.column == METADATA else sample.column
            where = f"the merge strategy's value for column {name!r}, sample {sample.key!r}"
            decision = strategy(name, sample.key, *sides)
            if decision is None:
                refused.append(sample)
            elif isinstance(decision, LazyValue) and (decision.row is None or any(decision is side for side in sides)):
                _refuse_unknown(sample, decision is sides[0], where)
                column.changes[sample.key] = decision.row
            else:
                # Another sample's side may be of another column, whose rows would not fit here: only its value does.
                value = decision.get() if isinstance(decision, LazyValue) else decision
                new.setdefault(sample.column, []).append((sample.key, column.entry.schema.encode(value, where)))
        merge.samples = refused
        if not merge.conflict:
            self._store(merge, new)

    def _store(self, merge: Merge, new: dict[str, list[tuple[RowKey, Payload]]]) -> None:
        """Write the new values of resolved conflicts, and publish the packs they are in."""
        for name, payloads in new.items():
            # As a list: a batch of rows has `keys`, so a dict would take it for another dict.
            rows = list(self._samples.write(name, merge.columns[name].entry, payloads, staged=False))
            merge.columns[name].changes.update(rows)
            packs = {row.place.pack for _, row in rows if row.place is not None}
            self._reused |= {pack_path(pack): pack for pack in packs if staged_pack_number(pack) is None}
        self._sealed = sealed = self._samples.seal()
        for column in merge.columns.values():
            column.changes = {key: sealed_row(row, sealed) for key, row in column.changes.items()}

    def _publish_packs(self) -> set[str]:
        """Publish the packs of new values; gives the names of those of others that new values were found in."""
        for number, pack in self._sealed.items():
            self._publisher.pack(self._staging.pack_file(number), pack_path(pack))
        reused = self._reused
        if reused and self._watch.watching:
            self._watch.announce(reused.keys(), None)
            lost = self._watch.missing(reused.keys())
            for name in lost:
                self._samples.forget_pack(reused[name])
            if lost:
                raise StoreUnavailableError(
                    f"{lost[0]}, which holds a value that the merge needs, was removed by a garbage collection just "
                    "now; nothing was changed. Merge again: the value is stored anew then"
                )
        return set(reused)


def _refuse_unknown(sample: SampleConflict, chose_ancestor: bool, where: str) -> None:
    """Raises InvalidArgumentError where the ancestor was chosen that is there but not known; that is no deletion."""
    if chose_ancestor and sample.base is None and sample.kind != "t1":
        raise InvalidArgumentError(
            f"{where}: the ancestor was chosen, but its value is not known, as the column was altered since; choose "
            "ours, theirs or a new value. Nothing was changed"
        )


def _choose_column(merge: Merge, name: str, entry: ColumnEntry | None) -> None:
    if entry is not None:
        merge.columns[name] = ColumnMerge(entry)
    else:
        merge.columns.pop(name, None)


def announce(merged: Merged) -> None:
    """Print how a merge was done, as Hangar's users expect."""
    words = {"fast-forward": "Selected Fast-Forward Merge Strategy", "three-way": "Selected 3-Way Merge Strategy"}
    if merged.kind in words:
        print(words[merged.kind])
