"""Histories as plain dicts, and the merge that people mean: what only one side changed is taken from that side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.model.plain import METADATA, Column, Snapshot, ordered, same_column, with_metadata
from tests.model.values import Kind, RowKey, cast_or_none, fits_shape, same_or_absent


@dataclass(frozen=True)
class PlainCommit:
    """One commit: its parents, all that is in it, and its idempotency key if it has one."""

    parents: tuple[str, ...]
    snapshot: Snapshot
    key: str | None = None


History = dict[str, PlainCommit]


def done_with(history: History, head: str | None, key: str) -> str | None:
    """The commit behind a head that did the work of an idempotency key, found by going back; None if there is none."""
    holding = {digest for digest in history if any(history[one].key == key for one in ancestors(history, digest))}
    found = None
    following = [] if head is None else [head]
    while digest := next((one for one in following if one in holding), None):
        found, following = digest, list(history[digest].parents)
    return found


def ancestors(history: History, digest: str | None) -> set[str]:
    """A commit and everything before it."""
    found: set[str] = set()
    waiting = [] if digest is None else [digest]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += history[one].parents
    return found


def merge_bases(history: History, one: str, other: str) -> list[str]:
    """The common ancestors that are behind no other common ancestor."""
    common = ancestors(history, one) & ancestors(history, other)
    return sorted(
        digest
        for digest in common
        if not any(digest != later and digest in ancestors(history, later) for later in common)
    )


@dataclass
class PlainMerge:
    """A merged snapshot, and by kind ("t1", "t21", "t22", "t3") what is in conflict.

    Columns in conflict stand alone, samples with their row key. Both are as ours has them until they are resolved.
    `unsure` are places whose merge needs a cast: it may be refused, as a conflict, since a merge reads no samples.
    """

    snapshot: Snapshot = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    samples: dict[tuple[str, RowKey], str] = field(default_factory=dict)
    unsure: dict[str | tuple[str, RowKey], str] = field(default_factory=dict)
    ours: Snapshot = field(default_factory=dict)
    theirs: Snapshot = field(default_factory=dict)

    @property
    def conflict(self) -> bool:
        """Whether anything is."""
        return bool(self.columns or self.samples)

    def refusing(self, places: set[str | tuple[str, RowKey]]) -> PlainMerge:
        """The same, where those of the unsure places that are among `places` are in conflict."""
        snapshot, columns, samples = dict(self.snapshot), dict(self.columns), dict(self.samples)
        for place, how in self.unsure.items():
            if place not in places:
                continue
            if isinstance(place, str):
                columns[place], snapshot[place] = how, self.ours[place]
                samples = {(name, key): kind for (name, key), kind in samples.items() if name != place}
            else:
                samples[place] = how
                name, key = place
                snapshot[name] = with_row(snapshot[name], key, self.ours[name].rows.get(key))
        return PlainMerge(snapshot, columns, samples, {}, self.ours, self.theirs)

    def resolved(self, how: str) -> Snapshot:
        """The merged snapshot, with "ours" or "theirs" of everything that is in conflict."""
        side = self.ours if how == "ours" else self.theirs
        made = dict(self.snapshot)
        for name in self.columns:
            made.pop(name, None)
            if name in side:
                made[name] = side[name]
        for name, key in self.samples:
            made[name] = with_row(made[name], key, self.value(how, name, key))
        return made

    def value(self, how: str, name: str, key: RowKey) -> Any:
        """What one side has of a sample in conflict, under the merged column's kind; None if nothing."""
        side = (self.ours if how == "ours" else self.theirs)[name]
        return carried(side.rows.get(key), self.snapshot[name].kind)


def with_row(column: Column, key: RowKey, value: Any) -> Column:
    """With one sample set, or deleted where the value is None."""
    rows = {other: kept for other, kept in column.rows.items() if other != key}
    return replace(column, rows=rows if value is None else {**rows, key: value})


def plain_merge(bases: Sequence[Snapshot], ours: Snapshot, theirs: Snapshot) -> PlainMerge:
    """Merge two snapshots whose merge bases are given: none, one, or several of a criss-cross history."""
    bases, ours, theirs = _follow_renames(bases, ours, theirs)
    if METADATA in ours or METADATA in theirs:
        *bases, ours, theirs = [with_metadata(snapshot, {}) for snapshot in (*bases, ours, theirs)]
    merge = PlainMerge(ours=ours, theirs=theirs)
    for name in sorted({*ours, *theirs}):
        _merge_column(merge, name, [base.get(name) for base in bases] or [None], ours.get(name), theirs.get(name))
        if name in ours and name in theirs:
            backend = _merged_backend([base[name].backend for base in bases if name in base], ours[name], theirs[name])
            merge.snapshot[name] = replace(merge.snapshot[name], backend=backend)
    return merge


def _merged_backend(bases: Sequence[str], ours: Column, theirs: Column) -> str:
    """The backend that one side alone changed; ours if both did, for it is no conflict."""
    return theirs.backend if ours.backend in bases and theirs.backend not in bases else ours.backend


def _follow_renames(
    bases: Sequence[Snapshot], ours: Snapshot, theirs: Snapshot
) -> tuple[list[Snapshot], Snapshot, Snapshot]:
    """A column that one side has under another name, just as some base had it, gets that name everywhere.

    Not so if it may have been renamed in two ways, holds nothing, or the other side has removed it or has something
    else of that name.
    """
    bases, ours, theirs = [dict(base) for base in bases], dict(ours), dict(theirs)
    for side, other in ((ours, theirs), (theirs, ours)):
        known = {name for base in bases for name in base}
        pairs = [
            (old, new)
            for old in known - side.keys() - {METADATA}
            for new in side.keys() - known - {METADATA}
            if side[new].rows and any(old in base and side[new].same(base[old]) for base in bases)
        ]
        for old, new in pairs:
            alone = sum(old == one for one, _ in pairs) == 1 == sum(new == one for _, one in pairs)
            if alone and (old in other) != (new in other):
                for snapshot in (*bases, other):
                    if old in snapshot:
                        snapshot[new] = snapshot.pop(old)
    return bases, ours, theirs


def _merge_column(
    merge: PlainMerge, name: str, bases: Sequence[Column | None], ours: Column | None, theirs: Column | None
) -> None:
    if ours is not None and theirs is not None and ours.kind == theirs.kind:
        merge.snapshot[name] = _merge_samples(merge, name, bases, ours, theirs)
        return
    kept_by_us = any(same_column(base, ours) for base in bases)
    kept_by_them = any(same_column(base, theirs) for base in bases)
    taken = theirs if kept_by_us and not kept_by_them else ours
    if kept_by_us == kept_by_them:
        base = bases[0] if len(bases) == 1 else None
        if base is not None and ours is not None and theirs is not None and _one_altered(base, ours, theirs):
            _merge_altered(merge, name, base, ours, theirs)
            return
        known = any(base is not None for base in bases)
        merge.columns[name] = kind_of_conflict(known, ours, theirs)
    if taken is not None:
        merge.snapshot[name] = taken


def _one_altered(base: Column, ours: Column, theirs: Column) -> bool:
    """Whether one side kept the kind of the base, and the other could have altered the column."""
    one, other = ours.kind, theirs.kind
    arrays = one.type == other.type == "ndarray" and one.nested == other.nested
    return base.kind in (one, other) and arrays and len(one.shape or ()) == len(other.shape or ())


def _merge_altered(merge: PlainMerge, name: str, base: Column, ours: Column, theirs: Column) -> None:
    """What one side changed goes into the column as the other altered it, if all of that fits there."""
    we_altered = theirs.kind == base.kind
    altered, changed = (ours, theirs) if we_altered else (theirs, ours)
    made, conflicts = altered, {}
    for key in ordered({*base.rows, *changed.rows}):
        before, after, there = base.rows.get(key), changed.rows.get(key), altered.rows.get(key)
        if same_or_absent(before, after):
            continue
        if after is not None:
            after = carried(after, altered.kind)
            if after is None:
                merge.columns[name] = "t3"
                merge.snapshot[name] = ours
                return
            if changed.kind.dtype != altered.kind.dtype:
                merge.unsure[name] = "t3"
        if same_or_absent(there, after):
            continue
        if same_or_absent(there, carried(before, altered.kind)) and (there is None) == (before is None):
            made = with_row(made, key, after)
            continue
        sides = (there, after) if we_altered else (after, there)
        conflicts[name, key] = kind_of_conflict(before is not None, *sides)
    merge.snapshot[name] = made
    merge.samples |= conflicts


def carried(value: Any, kind: Kind) -> Any:
    """An array as a column of another kind would have it; None for None, and if it does not fit there."""
    if not isinstance(value, np.ndarray):
        return value
    assert kind.dtype is not None
    return cast_or_none(value, kind.dtype) if fits_shape(value.shape, kind) else None


def _merge_samples(
    merge: PlainMerge, name: str, bases: Sequence[Column | None], ours: Column, theirs: Column
) -> Column:
    there = [base for base in bases if base is not None and base.kind.nested == ours.kind.nested]
    made = ours
    for key in ordered({*ours.rows, *theirs.rows}):
        mine, other = ours.rows.get(key), theirs.rows.get(key)
        if same_or_absent(mine, other):
            continue
        found = [base.rows.get(key) for base in there] or [None]
        before = [_comparable(value, base.kind, ours.kind) for value, base in zip(found, there, strict=False)] or [None]
        kept_by_us = any(same_or_absent(value, mine) for value in before)
        kept_by_them = any(same_or_absent(value, other) for value in before)
        how = kind_of_conflict(any(value is not None for value in found), mine, other)
        if kept_by_us == kept_by_them:
            merge.samples[name, key] = how
            continue
        if any(base.kind.dtype != ours.kind.dtype for base in there):
            merge.unsure[name, key] = how
        if kept_by_us:
            made = with_row(made, key, other)
    return made


_UNLIKE_ANY = object()


def _comparable(value: Any, old: Kind, new: Kind) -> Any:
    """A value of a merge base as the sides would have it, or something that no side has."""
    if value is None or old == new:
        return value
    if old.type != "ndarray" or new.type != "ndarray" or len(old.shape or ()) != len(new.shape or ()):
        return _UNLIKE_ANY
    made = carried(value, new)
    return _UNLIKE_ANY if made is None else made


def kind_of_conflict(known: bool, ours: Any, theirs: Any) -> str:
    """How a conflict is called; `known` tells whether the place was in a merge base."""
    if not known:
        return "t1"
    if ours is None:
        return "t21"
    return "t22" if theirs is None else "t3"
