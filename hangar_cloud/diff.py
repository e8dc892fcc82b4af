"""What differs between two commits, or between a commit and the staging area."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Union

from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import KeyType
from hangar_cloud.catalog.merge import Merge, SampleConflict, SchemaConflict, merge_columns
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.tree_diff import diff_trees
from hangar_cloud.storage import Storage

Columns = dict[str, ColumnEntry]


class ColumnSchemaKey(NamedTuple):
    """A column: its name and layout."""

    column: str
    layout: str


class FlatColumnDataKey(NamedTuple):
    """A sample of a flat column."""

    column: str
    sample: KeyType


SampleKey = Union[FlatColumnDataKey]


class Changes(NamedTuple):
    """Columns (with their schemas) and samples that changed in one way."""

    schema: dict[ColumnSchemaKey, ColumnSchema]
    samples: tuple[SampleKey, ...]


class Diff(NamedTuple):
    """What is in the one and not in the other, and what is in both with different values."""

    added: Changes
    deleted: Changes
    mutated: Changes


class Conflicts(NamedTuple):
    """What cannot be merged.

    t1: added on both sides with different values. t21: removed in master, changed in dev. t22: removed
    in dev, changed in master. t3: changed on both sides to different values. conflict: whether there
    is any.
    """

    t1: Changes
    t21: Changes
    t22: Changes
    t3: Changes
    conflict: bool


class DiffAndConflicts(NamedTuple):
    """A diff, and the conflicts that a merge would meet."""

    diff: Diff
    conflict: Conflicts


def diff_columns(storage: Storage, before: Columns, after: Columns) -> Diff:
    """What changes from one set of columns to another; reads no sample bytes, and only tree nodes
    that differ."""
    added = _Collector()
    deleted = _Collector()
    mutated = _Collector()
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            entry, into = (new, added) if old is None else (old, deleted)
            if entry is not None:
                into.add_column(name, entry)
        elif old.schema != new.schema:
            mutated.add_schema(name, new)
            deleted.add_samples(name, _keys(storage, old))
            added.add_samples(name, _keys(storage, new))
            continue
        if old is not None and new is not None:
            trees = ((old.schema, old.root), (new.schema, new.root))
            for change in diff_trees(storage.nodes, *trees):
                into = added if change.before is None else deleted if change.after is None else mutated
                into.add_samples(name, [change.key])
        else:
            one = old or new
            assert one is not None
            (added if old is None else deleted).add_samples(name, _keys(storage, one))
    return Diff(added.changes(), deleted.changes(), mutated.changes())


def diff_commits(storage: Storage, master: str, dev: str) -> DiffAndConflicts:
    """The diff of merging commit `dev` into commit `master`."""
    ours, theirs = storage.commit(master).columns, storage.commit(dev).columns
    diff = diff_columns(storage, ours, theirs)
    bases = history.merge_bases(master, dev, storage.commit)
    if bases in ([master], [dev]):
        return DiffAndConflicts(diff, no_conflicts())
    merge = merge_columns(storage.nodes, [storage.commit(base).columns for base in bases], ours, theirs)
    return DiffAndConflicts(diff, conflicts_of(merge, ours, theirs))


def no_conflicts() -> Conflicts:
    """The conflicts of a merge that has none."""
    return Conflicts(*(_Collector().changes() for _ in range(4)), conflict=False)


def conflicts_of(merge: Merge, ours: Columns, theirs: Columns) -> Conflicts:
    """The conflicts of a merge, by kind."""
    kinds = {kind: _Collector() for kind in ("t1", "t21", "t22", "t3")}
    for conflict in merge.schemas:
        entry = ours.get(conflict.column) or theirs[conflict.column]
        kinds[conflict.kind].add_schema(conflict.column, entry)
    for sample in merge.samples:
        kinds[sample.kind].add_samples(sample.column, [sample.key])
    return Conflicts(*(kinds[kind].changes() for kind in ("t1", "t21", "t22", "t3")), conflict=merge.conflict)


def describe_conflicts(schemas: Sequence[SchemaConflict], samples: Sequence[SampleConflict], shown: int = 5) -> str:
    """The first few conflicts in words."""
    words = {
        "t1": "added on both sides",
        "t21": "removed here, changed there",
        "t22": "changed here, removed there",
        "t3": "changed on both sides",
    }
    lines = [f"column {conflict.column!r} ({words[conflict.kind]})" for conflict in schemas]
    lines += [f"sample {c.key!r} of column {c.column!r} ({words[c.kind]})" for c in samples[:shown]]
    more = len(schemas) + len(samples) - shown
    return "; ".join(lines[:shown]) + (f"; and {more} more" if more > 0 else "")


class _Collector:
    """Gathers the changes of one way."""

    def __init__(self) -> None:
        self._schemas: dict[ColumnSchemaKey, ColumnSchema] = {}
        self._samples: list[SampleKey] = []

    def add_schema(self, name: str, entry: ColumnEntry) -> None:
        self._schemas[ColumnSchemaKey(name, entry.schema.column_layout)] = entry.schema

    def add_column(self, name: str, entry: ColumnEntry) -> None:
        self.add_schema(name, entry)

    def add_samples(self, name: str, keys: Iterable[KeyType]) -> None:
        self._samples += [FlatColumnDataKey(name, key) for key in keys]

    def changes(self) -> Changes:
        return Changes(self._schemas, tuple(self._samples))


def _keys(storage: Storage, entry: ColumnEntry) -> Iterable[KeyType]:
    for ref in storage.nodes.leaves(entry.root):
        yield from storage.nodes.leaf(ref, entry.schema).keys
