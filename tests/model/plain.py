"""A repository's contents as plain dicts: columns of samples, what differs between two, and staged edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.model.values import TEXT, Kind, RowKey, cast_or_none, fits_shape, same_or_absent

METADATA = ""
Rows = dict[RowKey, Any]


@dataclass(frozen=True)
class Column:
    """One column: its kind, its samples by row key, and the backend that new ones go to. Never changed in place."""

    kind: Kind
    rows: Rows = field(default_factory=dict)
    backend: str = "i0"

    def same(self, other: Column | None) -> bool:
        """Whether kind and samples are equal."""
        return other is not None and self.kind == other.kind and same_rows(self.rows, other.rows)


Snapshot = dict[str, Column]


def same_rows(one: Rows, other: Rows) -> bool:
    """Whether two columns hold the same samples."""
    return one.keys() == other.keys() and all(same_or_absent(one[key], other[key]) for key in one)


def same_column(one: Column | None, other: Column | None) -> bool:
    """Whether two columns are equal, or both absent."""
    return one is other if one is None or other is None else one.same(other)


def same_snapshot(one: Snapshot, other: Snapshot) -> bool:
    """Whether all columns are equal."""
    return one.keys() == other.keys() and all(column.same(other[name]) for name, column in one.items())


def is_change(before: Snapshot, after: Snapshot) -> bool:
    """Whether there is something to commit: samples, schemas, a backend; not metadata that never had a key."""
    if METADATA not in before and METADATA in after and not after[METADATA].rows:
        after = {name: column for name, column in after.items() if name != METADATA}
    return not same_snapshot(before, after) or any(before[name].backend != after[name].backend for name in before)


def tree_order(key: RowKey) -> tuple[Any, ...]:
    """Sorts keys as columns do: whole numbers first, then text."""
    parts = key if isinstance(key, tuple) else (key,)
    return tuple((isinstance(part, str), part) for part in parts)


def ordered(keys: Iterable[RowKey]) -> list[RowKey]:
    """Keys as a column gives them."""
    return sorted(keys, key=tree_order)


@dataclass
class PlainChanges:
    """Names of columns, and (column, row key) of samples, that changed in one way."""

    columns: list[str] = field(default_factory=list)
    samples: list[tuple[str, RowKey]] = field(default_factory=list)


@dataclass
class PlainDiff:
    """What is in the one and not in the other, and what is in both and differs."""

    added: PlainChanges = field(default_factory=PlainChanges)
    deleted: PlainChanges = field(default_factory=PlainChanges)
    mutated: PlainChanges = field(default_factory=PlainChanges)


def same_but_for_maximum(one: Kind, other: Kind) -> bool:
    """Whether two kinds are equal, or differ only in the maximum of variable shapes of one rank."""
    if one.variable and other.variable and len(one.shape or ()) == len(other.shape or ()):
        return replace(one, shape=other.shape) == other
    return one == other


def plain_diff(before: Snapshot, after: Snapshot) -> PlainDiff:
    """What changes from one snapshot to another."""
    diff = PlainDiff()
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None and same_but_for_maximum(old.kind, new.kind):
            diff.mutated.columns += [name] if old.kind != new.kind else []
            for key in ordered({*old.rows, *new.rows}):
                if key not in old.rows:
                    diff.added.samples.append((name, key))
                elif key not in new.rows:
                    diff.deleted.samples.append((name, key))
                elif not same_or_absent(old.rows[key], new.rows[key]):
                    diff.mutated.samples.append((name, key))
            continue
        diff.deleted.samples += [(name, key) for key in ordered(old.rows if old is not None else ())]
        diff.added.samples += [(name, key) for key in ordered(new.rows if new is not None else ())]
        into = diff.added if old is None else diff.deleted if new is None else diff.mutated
        into.columns += [name] if name != METADATA else []
    return diff


def with_rows(snapshot: Snapshot, name: str, rows: Rows) -> Snapshot:
    """With some samples of a column set, or deleted where the value is None."""
    column = snapshot[name]
    merged = {**column.rows, **rows}
    kept = {key: value for key, value in merged.items() if value is not None}
    return {**snapshot, name: replace(column, rows=kept)}


def without(snapshot: Snapshot, name: str) -> Snapshot:
    """Without a column."""
    return {other: column for other, column in snapshot.items() if other != name}


def with_metadata(snapshot: Snapshot, rows: Rows) -> Snapshot:
    """With some metadata set or deleted; it is a column that is made at the first write."""
    made = snapshot if METADATA in snapshot else {**snapshot, METADATA: Column(TEXT)}
    return with_rows(made, METADATA, rows)


def altered(column: Column, kind: Kind) -> Column | None:
    """A column of arrays with another dtype or shape; None if a sample would lose something, or not fit."""
    assert kind.dtype is not None
    rows = {}
    for key, value in column.rows.items():
        rows[key] = cast_or_none(value, kind.dtype) if fits_shape(value.shape, kind) else None
    if any(value is None for value in rows.values()):
        return None
    return replace(column, kind=kind, rows=rows)
