"""Three-way merge of columns (pure over record trees; reads no sample bytes).

What differs between ours and theirs is looked up in the merge bases. If ours is what some base has, only
theirs changed it, and theirs is taken; and the other way round. What neither explains, or what two merge
bases of a criss-cross history explain in two ways, is a conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.tree_diff import RowChange, diff_trees

Columns = dict[str, ColumnEntry]


class SampleConflict(NamedTuple):
    """A sample that both sides changed, each in its own way.

    `kind` is "t1" (both added it), "t21" (removed by ours, changed by theirs), "t22" (changed by ours, removed
    by theirs) or "t3" (both changed it). Rows are None where the sample is absent.
    """

    kind: str
    column: str
    key: RowKey
    base: Row | None
    ours: Row | None
    theirs: Row | None


class SchemaConflict(NamedTuple):
    """A column whose existence or schema the two sides changed against each other; `kind` as above."""

    kind: str
    column: str


@dataclass
class ColumnMerge:
    """One merged column: `changes` go on top of `entry`."""

    entry: ColumnEntry
    changes: dict[RowKey, Row | None] = field(default_factory=dict)


@dataclass
class Merge:
    """The outcome: merged columns, and what could not be merged (those keep what ours has)."""

    columns: dict[str, ColumnMerge] = field(default_factory=dict)
    samples: list[SampleConflict] = field(default_factory=list)
    schemas: list[SchemaConflict] = field(default_factory=list)

    @property
    def conflict(self) -> bool:
        """True if anything could not be merged."""
        return bool(self.samples or self.schemas)


def merge_columns(nodes: NodeReader, bases: Sequence[Columns], ours: Columns, theirs: Columns) -> Merge:
    """Merge two versions of a set of columns.

    Args:
        nodes: reads the record trees.
        bases: columns of the merge bases; none for unrelated histories, several for criss-cross ones.
        ours: columns of the one side.
        theirs: columns of the other.
    """
    merge = Merge()
    for name in sorted({*ours, *theirs}):
        entries = [base.get(name) for base in bases] or [None]
        _merge_column(merge, nodes, name, entries, ours.get(name), theirs.get(name))
    return merge


def _merge_column(
    merge: Merge,
    nodes: NodeReader,
    name: str,
    bases: Sequence[ColumnEntry | None],
    ours: ColumnEntry | None,
    theirs: ColumnEntry | None,
) -> None:
    ours_unchanged = any(same_column(base, ours) for base in bases)
    theirs_unchanged = any(same_column(base, theirs) for base in bases)
    if same_column(ours, theirs) or (theirs_unchanged and not ours_unchanged):
        _take(merge, name, ours)
    elif ours_unchanged and not theirs_unchanged:
        _take(merge, name, theirs)
    elif ours is not None and theirs is not None and ours.schema == theirs.schema:
        _merge_samples(merge, nodes, name, bases, ours, theirs)
    else:
        merge.schemas.append(SchemaConflict(_kind(any(base is not None for base in bases), ours, theirs), name))
        _take(merge, name, ours)


def _merge_samples(
    merge: Merge,
    nodes: NodeReader,
    name: str,
    bases: Sequence[ColumnEntry | None],
    ours: ColumnEntry,
    theirs: ColumnEntry,
) -> None:
    changes = list(diff_trees(nodes, (ours.schema, ours.root), (theirs.schema, theirs.root)))
    there = [base for base in bases if base is not None and base.schema.column_layout == ours.schema.column_layout]
    comparable = [base for base in there if base.schema.has_same_rows(ours.schema)]
    for base in comparable:
        nodes.prefetch_keys(base.root, base.schema, [change.key for change in changes])
    merged = ColumnMerge(ours)
    for change in changes:
        if not comparable and any(nodes.find(base.root, base.schema, change.key) for base in there):
            # Both sides altered the column alike, so which of them changed this sample beside that is not known.
            kind = _kind(True, change.before, change.after)
            merge.samples.append(SampleConflict(kind, name, change.key, None, change.before, change.after))
            continue
        found = [nodes.find(base.root, base.schema, change.key) for base in comparable] or [None]
        ours_kept = any(same_row(row, change.before) for row in found)
        theirs_kept = any(same_row(row, change.after) for row in found)
        if ours_kept and not theirs_kept:
            merged.changes[change.key] = change.after
        elif not theirs_kept or ours_kept:
            merge.samples.append(_sample_conflict(name, change, found))
    merge.columns[name] = merged


def _sample_conflict(name: str, change: RowChange, found: Sequence[Row | None]) -> SampleConflict:
    base = next((row for row in found if row is not None), None)
    kind = _kind(base is not None, change.before, change.after)
    return SampleConflict(kind, name, change.key, base, change.before, change.after)


def same_column(one: ColumnEntry | None, other: ColumnEntry | None) -> bool:
    """True if both have the same schema and samples, or both are absent."""
    if one is None or other is None:
        return one is other
    digests = [None if entry.root is None else entry.root.digest for entry in (one, other)]
    return one.schema == other.schema and digests[0] == digests[1]


def same_row(one: Row | None, other: Row | None) -> bool:
    """True if both hold the same value, or both are absent."""
    if one is None or other is None:
        return one is other
    return one.identity == other.identity


def _take(merge: Merge, name: str, entry: ColumnEntry | None) -> None:
    if entry is not None:
        merge.columns[name] = ColumnMerge(entry)


def _kind(in_base: bool, ours: object | None, theirs: object | None) -> str:
    if not in_base:
        return "t1"
    if ours is None:
        return "t21"
    return "t22" if theirs is None else "t3"
