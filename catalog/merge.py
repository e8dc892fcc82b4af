"""Three-way merge of columns (pure over record trees; reads no sample bytes).

What differs between ours and theirs is looked up in the merge bases. If ours is what some base has, only
theirs changed it, and theirs is taken; and the other way round. What neither explains, or what two merge
bases of a criss-cross history explain in two ways, is a conflict.

If one side altered the schema of a column and the other changed samples of it, these are carried into the altered
column as far as records suffice (see `carrying`). A column that one side renamed is followed (see `renames`).

The backend of a column says only where new values go, so it is never a conflict: where one side changed it, that one
is taken, and where both did, ours.

Metadata is a column that every commit has, empty where none was ever set: a commit with an idempotency key is merged
as one without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from hangar_cloud.catalog.carrying import Uncarried, UncarriedError, carried_changes, carry, is_carriable
from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.receipts import NEW_METADATA
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.renames import Columns, follow_renames, same_column
from hangar_cloud.catalog.tree_diff import DiffTrees, RowChange, diff_trees


class SampleConflict(NamedTuple):
    """A sample that both sides changed, each in its own way.

    `kind` is "t1" (both added it), "t21" (removed by ours, changed by theirs), "t22" (changed by ours, removed
    by theirs) or "t3" (both changed it). Rows are None where the sample is absent; all are of the merged column's
    schema, so `base` is None as well where its value cannot be told under that.
    """

    kind: str
    column: str
    key: RowKey
    base: Row | None
    ours: Row | None
    theirs: Row | None


class SchemaConflict(NamedTuple):
    """A column whose existence or schema the two sides changed against each other; `kind` as above.

    `ours` and `theirs` are None where the column is absent; `why` says more, for people, where there is more.
    """

    kind: str
    column: str
    ours: ColumnEntry | None
    theirs: ColumnEntry | None
    why: str = ""


@dataclass
class ColumnMerge:
    """One merged column: `changes` go on top of `entry`. Leaves that come out as those of `other` are taken from it."""

    entry: ColumnEntry
    changes: dict[RowKey, Row | None] = field(default_factory=dict)
    other: ColumnEntry | None = None


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


def merge_columns(
    nodes: NodeReader, bases: Sequence[Columns], ours: Columns, theirs: Columns, diff: DiffTrees = diff_trees
) -> Merge:
    """Merge two versions of a set of columns.

    Args:
        nodes: reads the record trees.
        bases: columns of the merge bases; none for unrelated histories, several for criss-cross ones.
        ours: columns of the one side.
        theirs: columns of the other.
        diff: finds what differs between two of them.
    """
    merge = Merge()
    bases, ours, theirs = follow_renames(bases, ours, theirs)
    if METADATA in ours or METADATA in theirs:
        *bases, ours, theirs = [{METADATA: NEW_METADATA, **columns} for columns in (*bases, ours, theirs)]
    for name in sorted({*ours, *theirs}):
        entries = [base.get(name) for base in bases] or [None]
        _merge_column(merge, nodes, diff, name, entries, ours.get(name), theirs.get(name))
        _merge_backend(merge, name, entries, ours.get(name), theirs.get(name))
    return merge


def _merge_column(
    merge: Merge,
    nodes: NodeReader,
    diff: DiffTrees,
    name: str,
    bases: Sequence[ColumnEntry | None],
    ours: ColumnEntry | None,
    theirs: ColumnEntry | None,
) -> None:
    ours_unchanged = any(same_column(base, ours) for base in bases)
    theirs_unchanged = any(same_column(base, theirs) for base in bases)
    same_schema = ours is not None and theirs is not None and ours.schema == theirs.schema
    if len(bases) > 1 and same_schema and not same_column(ours, theirs):
        # One base may explain one sample and another base the next, so no column is taken as a whole.
        assert ours is not None
        assert theirs is not None
        _merge_samples(merge, nodes, diff, name, bases, ours, theirs)
    elif same_column(ours, theirs) or (theirs_unchanged and not ours_unchanged):
        _take(merge, name, ours)
    elif ours_unchanged and not theirs_unchanged:
        _take(merge, name, theirs)
    elif ours is None or theirs is None:
        _refuse(merge, name, bases, ours, theirs)
    elif ours.schema == theirs.schema:
        _merge_samples(merge, nodes, diff, name, bases, ours, theirs)
    elif len(bases) == 1 and bases[0] is not None and _one_altered(bases[0], ours, theirs):
        _merge_altered(merge, nodes, name, bases[0], ours, theirs)
    else:
        _refuse(merge, name, bases, ours, theirs)


def _merge_backend(
    merge: Merge,
    name: str,
    bases: Sequence[ColumnEntry | None],
    ours: ColumnEntry | None,
    theirs: ColumnEntry | None,
) -> None:
    """Give a merged column that both sides have the backend that one of them changed; ours if both did."""
    merged = merge.columns.get(name)
    if merged is None or ours is None or theirs is None:
        return
    known = [(base.backend, base.backend_options) for base in bases if base is not None]
    ours_kept = (ours.backend, ours.backend_options) in known
    theirs_kept = (theirs.backend, theirs.backend_options) in known
    taken = theirs if ours_kept and not theirs_kept else ours
    merged.entry = replace(merged.entry, backend=taken.backend, backend_options=taken.backend_options)


def _one_altered(base: ColumnEntry, ours: ColumnEntry, theirs: ColumnEntry) -> bool:
    """True if one of the two has the base's schema, and the other one that it can be altered to."""
    return base.schema in (ours.schema, theirs.schema) and is_carriable(ours.schema, theirs.schema)


def _merge_altered(
    merge: Merge, nodes: NodeReader, name: str, base: ColumnEntry, ours: ColumnEntry, theirs: ColumnEntry
) -> None:
    """Merge a column that one side altered with one whose samples the other side changed."""
    ours_altered = theirs.schema == base.schema
    altered, changed = (ours, theirs) if ours_altered else (theirs, ours)
    merged = ColumnMerge(altered)
    conflicts = []
    try:
        for key, before, after, there in carried_changes(nodes, base, changed, altered):
            if same_row(there, after):
                continue
            if same_row(there, before):
                merged.changes[key] = after
                continue
            sides = (there, after) if ours_altered else (after, there)
            was = before if isinstance(before, Row) else None
            conflicts.append(SampleConflict(_kind(before is not None, *sides), name, key, was, *sides))
    except UncarriedError as error:
        sides_in_words = ("here", "there") if ours_altered else ("there", "here")
        why = f"altered {sides_in_words[0]} {error} {sides_in_words[1]}"
        _refuse(merge, name, [base], ours, theirs, why + "; alter it alike on both sides, then merge")
        return
    merge.columns[name] = merged
    merge.samples += conflicts


def _merge_samples(
    merge: Merge,
    nodes: NodeReader,
    diff: DiffTrees,
    name: str,
    bases: Sequence[ColumnEntry | None],
    ours: ColumnEntry,
    theirs: ColumnEntry,
) -> None:
    changes = list(diff(nodes, (ours.schema, ours.root), (theirs.schema, theirs.root)))
    there = [base for base in bases if base is not None and base.schema.column_layout == ours.schema.column_layout]
    keys = [change.key for change in changes]
    rows = [nodes.find_all(base.root, base.schema, keys) for base in there]
    merged = ColumnMerge(ours, other=theirs)
    for i, change in enumerate(changes):
        found = [
            carry(base.schema, ours.schema, change.key, of_base[i]) for base, of_base in zip(there, rows, strict=True)
        ] or [None]
        ours_kept = any(same_row(row, change.before) for row in found)
        theirs_kept = any(same_row(row, change.after) for row in found)
        if ours_kept and not theirs_kept:
            merged.changes[change.key] = change.after
        elif not theirs_kept or ours_kept:
            merge.samples.append(_sample_conflict(name, change, found))
    merge.columns[name] = merged


def _sample_conflict(name: str, change: RowChange, found: Sequence[Row | Uncarried | None]) -> SampleConflict:
    base = next((row for row in found if isinstance(row, Row)), None)
    kind = _kind(any(row is not None for row in found), change.before, change.after)
    return SampleConflict(kind, name, change.key, base, change.before, change.after)


def same_row(one: Row | Uncarried | None, other: Row | Uncarried | None) -> bool:
    """True if both hold the same value, or both are absent; a value that is not known is like none."""
    if isinstance(one, Row) and isinstance(other, Row):
        return one.identity == other.identity
    return one is None and other is None


def _refuse(
    merge: Merge,
    name: str,
    bases: Sequence[ColumnEntry | None],
    ours: ColumnEntry | None,
    theirs: ColumnEntry | None,
    why: str = "",
) -> None:
    kind = _kind(any(base is not None for base in bases), ours, theirs)
    merge.schemas.append(SchemaConflict(kind, name, ours, theirs, why))
    _take(merge, name, ours)


def _take(merge: Merge, name: str, entry: ColumnEntry | None) -> None:
    if entry is not None:
        merge.columns[name] = ColumnMerge(entry)


def _kind(in_base: bool, ours: object | None, theirs: object | None) -> str:
    if not in_base:
        return "t1"
    if ours is None:
        return "t21"
    return "t22" if theirs is None else "t3"
