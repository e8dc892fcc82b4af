"""What differs between two commits, or between a commit and the staging area."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.keys import KeyType, RowKey, encode_key
from hangar_cloud.catalog.merge import Merge, SampleConflict, SchemaConflict, merge_columns, same_row
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.normal_form import same_setup
from hangar_cloud.catalog.receipts import is_reserved
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.tree_diff import DiffOnce, DiffTrees, RowChange, diff_trees
from hangar_cloud.catalog.working_set import WorkingColumn, WorkingSet
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


class NestedColumnDataKey(NamedTuple):
    """A subsample of a nested column."""

    column: str
    sample: KeyType
    subsample: KeyType


class MetadataRecordKey(NamedTuple):
    """A key of the metadata."""

    key: KeyType


SampleKey = FlatColumnDataKey | NestedColumnDataKey


class Changes(NamedTuple):
    """Columns (with their schemas), samples and metadata keys that changed in one way."""

    schema: dict[ColumnSchemaKey, ColumnSchema]
    samples: tuple[SampleKey, ...]
    metadata: tuple[MetadataRecordKey, ...]


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


def diff_columns(storage: Storage, before: Columns, after: Columns, diff: DiffTrees = diff_trees) -> Diff:
    """What changes from one set of columns to another; reads no sample bytes, and only tree nodes
    that differ."""
    added, deleted, mutated = _Collector(), _Collector(), _Collector()
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None and old.schema.has_same_rows(new.schema):
            for change in diff(storage.nodes, (old.schema, old.root), (new.schema, new.root)):
                into = added if change.before is None else deleted if change.after is None else mutated
                into.add_keys(name, [change.key])
            if old.schema != new.schema:
                mutated.add_schema(name, new)
            continue
        if old is not None:
            deleted.add_keys(name, _keys(storage, old))
        if new is not None:
            added.add_keys(name, _keys(storage, new))
        if old is not None and new is not None:
            mutated.add_schema(name, new)
        elif new is not None:
            added.add_schema(name, new)
        elif old is not None:
            deleted.add_schema(name, old)
    return Diff(added.changes(), deleted.changes(), mutated.changes())


def collect_staged(storage: Storage, working: WorkingSet) -> Diff:
    """What a working set changes of its base; reads no sample bytes."""
    working.flush()
    added, deleted, mutated = _Collector(), _Collector(), _Collector()
    for name in sorted({*working.base, *working.columns}):
        base, column = working.base.get(name), working.columns.get(name)
        if base is not None and column is not None and base.schema.has_same_rows(column.entry.schema):
            if column.entry.schema != base.schema:
                mutated.add_schema(name, column.entry)
            for change in staged_changes(storage.nodes, base, column):
                into = added if change.before is None else deleted if change.after is None else mutated
                into.add_keys(name, [change.key])
            continue
        if base is not None:
            deleted.add_keys(name, _keys(storage, base))
        if column is not None:
            added.add_keys(name, (key for key, _ in column.iterate()))
        if base is not None and column is not None:
            mutated.add_schema(name, column.entry)
        elif column is not None:
            added.add_schema(name, column.entry)
        elif base is not None:
            deleted.add_schema(name, base)
    return Diff(added.changes(), deleted.changes(), mutated.changes())


def staged_changes(nodes: NodeReader, base: ColumnEntry, column: WorkingColumn) -> Iterator[RowChange]:
    """What a column that has nothing in memory changes of its base, in key order; both of schemas with the same rows.

    Looks at staged keys only, unless the column was made anew or came by another name: then at all of both.
    """
    if column.entry.root == base.root:
        for key in sorted(column.staged, key=encode_key):
            was, row = nodes.find(base.root, base.schema, key), column.staged[key]
            if not same_row(was, row):
                yield RowChange(key, was, row)
        return
    before = ((encode_key(key), key, 0, row) for key, row in _rows(nodes, base))
    after = ((encode_key(key), key, 1, found) for key, found in column.iterate())
    for key, pair in groupby(heapq.merge(before, after, key=itemgetter(0)), itemgetter(1)):
        rows: dict[int, Any] = {side: row for _, _, side, row in pair}
        if not same_row(rows.get(0), rows.get(1)):
            yield RowChange(key, rows.get(0), rows.get(1))


def has_changes(nodes: NodeReader, base: dict[str, ColumnEntry], working: WorkingSet) -> bool:
    """True if a commit would change anything; staged rows that say what the base says already are no change."""
    names = {name for name, column in working.columns.items() if name != METADATA or name in base or len(column)}
    if names != set(base):
        return True
    for name in names:
        column = working.columns[name]
        if not same_setup(base[name], column.entry):
            return True
        if column.pending or _has_changed_rows(nodes, base[name], column):
            return True
    return False


def _has_changed_rows(nodes: NodeReader, base: ColumnEntry, column: WorkingColumn) -> bool:
    if column.entry.root != base.root:
        return any(True for _ in staged_changes(nodes, base, column))
    # In no order: sorting a million staged keys takes longer than finding the first that differs.
    staged = column.staged.items()
    return any(not same_row(nodes.find(base.root, base.schema, key), row) for key, row in staged)


def diff_commits(storage: Storage, master: str, dev: str) -> DiffAndConflicts:
    """The diff of merging commit `dev` into commit `master`."""
    ours, theirs = storage.commit(master).trees, storage.commit(dev).trees
    once = DiffOnce()
    diff = diff_columns(storage, ours, theirs, once)
    bases = history.merge_bases(master, dev, storage.commit)
    if bases in ([master], [dev]):
        return DiffAndConflicts(diff, no_conflicts())
    merge = merge_columns(storage.nodes, [storage.commit(base).trees for base in bases], ours, theirs, once)
    return DiffAndConflicts(diff, conflicts_of(merge))


def no_conflicts() -> Conflicts:
    """The conflicts of a merge that has none."""
    none = _Collector().changes()
    return Conflicts(none, none, none, none, False)


def conflicts_of(merge: Merge) -> Conflicts:
    """The conflicts of a merge, by kind."""
    kinds = {kind: _Collector() for kind in ("t1", "t21", "t22", "t3")}
    for conflict in merge.schemas:
        entry = conflict.ours or conflict.theirs
        assert entry is not None
        kinds[conflict.kind].add_schema(conflict.column, entry)
    for sample in merge.samples:
        kinds[sample.kind].add_keys(sample.column, [sample.key])
    t1, t21, t22, t3 = (kinds[kind].changes() for kind in ("t1", "t21", "t22", "t3"))
    return Conflicts(t1, t21, t22, t3, merge.conflict)


def describe_conflicts(schemas: Sequence[SchemaConflict], samples: Sequence[SampleConflict], shown: int = 5) -> str:
    """The first few conflicts in words."""
    words = {
        "t1": "added on both sides",
        "t21": "removed here, changed there",
        "t22": "changed here, removed there",
        "t3": "changed on both sides",
    }
    lines = [f"column {conflict.column!r} ({conflict.why or words[conflict.kind]})" for conflict in schemas]
    lines += [f"{_place(c)} ({words[c.kind]})" for c in samples[:shown]]
    more = len(schemas) + len(samples) - shown
    return "; ".join(lines[:shown]) + (f"; and {more} more" if more > 0 else "")


def _place(conflict: SampleConflict) -> str:
    if conflict.column == METADATA:
        return f"metadata {conflict.key!r}"
    return f"sample {conflict.key!r} of column {conflict.column!r}"


class _Collector:
    """Gathers the changes of one way."""

    def __init__(self) -> None:
        self._schemas: dict[ColumnSchemaKey, ColumnSchema] = {}
        self._samples: list[SampleKey] = []
        self._metadata: list[MetadataRecordKey] = []

    def add_schema(self, name: str, entry: ColumnEntry) -> None:
        if name != METADATA:
            self._schemas[ColumnSchemaKey(name, entry.schema.column_layout)] = entry.schema

    def add_keys(self, name: str, keys: Iterable[RowKey]) -> None:
        for key in keys:
            if isinstance(key, tuple):
                self._samples.append(NestedColumnDataKey(name, *key))
            elif name == METADATA:
                if not is_reserved(key):
                    self._metadata.append(MetadataRecordKey(key))
            else:
                self._samples.append(FlatColumnDataKey(name, key))

    def changes(self) -> Changes:
        return Changes(self._schemas, tuple(self._samples), tuple(self._metadata))


def _keys(storage: Storage, entry: ColumnEntry) -> Iterable[RowKey]:
    for ref in storage.nodes.leaves(entry.root):
        yield from storage.nodes.leaf(ref, entry.schema).keys


def _rows(nodes: NodeReader, entry: ColumnEntry) -> Iterator[tuple[RowKey, Row]]:
    for ref in nodes.leaves(entry.root):
        leaf = nodes.leaf(ref, entry.schema)
        for i, key in enumerate(leaf.keys):
            yield key, leaf.row(i)
