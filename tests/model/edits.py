"""Changes to staged contents: what is done to a checkout, and what it does to the plain dicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from hangar_cloud.errors import (
    ColumnExistsError,
    ColumnNotFoundError,
    HangarError,
    InvalidNameError,
    InvalidSampleError,
    InvalidSchemaError,
    SampleNotFoundError,
)
from tests.model.plain import METADATA, Column, Rows, Snapshot, altered, ordered, with_metadata, with_rows, without
from tests.model.values import KINDS, SEEDS, KeyType, Kind, RowKey, same_value, value_of

NAMES = ["a", "b", "c"]
FEW_KEYS: list[KeyType] = [0, 1, 2, 7, "0", "1", "x", "dir/f.png"]
_DTYPES = ["<i2", "<i8", "<f4", "<f8", "|u1", "|b1"]
_MANY = 300


@dataclass(repr=False)
class Edit:
    """One change.

    Attributes:
        words: what it is, for the trace of a failure.
        do: carries it out on a writer checkout.
        after: the contents then.
        touched: columns that count as changed, even if they are as before.
        refused: the error that it must raise instead.
        partly: contents that a killed process may leave, besides those before and after.
    """

    words: str
    do: Callable[[Any], Any]
    after: Snapshot
    touched: set[str] = field(default_factory=set)
    refused: type[HangarError] | None = None
    partly: list[Snapshot] = field(default_factory=list)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.words)


def edits(snapshot: Snapshot) -> st.SearchStrategy[Edit]:
    """Any change to these contents, also some that must be refused."""
    names = sorted(name for name in snapshot if name != METADATA)
    made = [_add(snapshot), _set_metadata(snapshot)]
    if snapshot.get(METADATA, Column(KINDS[0])).rows:
        made.append(_delete_metadata(snapshot))
    if names:
        which = st.sampled_from(names)
        some = [_update, _update, _set, _set, _block, _refused_value, _many]
        rare = [_remove, _rename, _change_backend, _delete_absent]
        made += [which.flatmap(partial(make, snapshot)) for make in (*some, *rare)]
    filled = [name for name in names if snapshot[name].rows]
    if filled:
        made += [st.sampled_from(filled).flatmap(partial(make, snapshot)) for make in (_delete, _pop)]
    arrays = [name for name in names if snapshot[name].kind.type == "ndarray"]
    if arrays:
        made.append(st.sampled_from(arrays).flatmap(partial(_alter, snapshot)))
    return st.one_of(made)


def additions(snapshot: Snapshot) -> st.SearchStrategy[Edit]:
    """A new column."""
    return _add(snapshot)


def row_keys(kind: Kind) -> st.SearchStrategy[RowKey]:
    """Keys of a column's rows, from a small set, so that they meet again."""
    keys = st.sampled_from(FEW_KEYS)
    return st.tuples(keys, st.sampled_from(FEW_KEYS[:5])) if kind.nested else keys


_seeds = st.integers(0, SEEDS - 1)


def _backends(kind: Kind) -> list[str]:
    return ["i0", "p0", "t0"] if kind.type == "ndarray" else ["i0", "p0"]


def _options(backend: str, kind: Kind) -> dict[str, Any] | None:
    """Tiles so small that arrays of some elements are cut."""
    return {"tile": [3] * len(kind.shape or ())} if backend == "t0" else None


@st.composite
def _add(draw: Any, snapshot: Snapshot) -> Edit:
    name, kind = draw(st.sampled_from(NAMES)), draw(st.sampled_from(KINDS))
    backend = draw(st.sampled_from(_backends(kind)))

    def do(checkout: Any) -> None:
        if kind.type == "ndarray":
            options = {"backend": backend, "backend_options": _options(backend, kind)}
            checkout.add_ndarray_column(
                name, kind.shape, np.dtype(kind.dtype), None, kind.variable, kind.nested, **options
            )
        else:
            make = checkout.add_str_column if kind.type == "str" else checkout.add_bytes_column
            make(name, kind.nested, backend=backend)

    words = f"add column {name!r}: {kind}, {backend}"
    if name in snapshot:
        return Edit(words, do, snapshot, refused=ColumnExistsError)
    return Edit(words, do, {**snapshot, name: Column(kind, {}, backend)}, {name})


def _remove(snapshot: Snapshot, name: str) -> st.SearchStrategy[Edit]:
    def do(checkout: Any) -> None:
        assert checkout.columns.delete(name) == name

    return st.just(Edit(f"remove column {name!r}", do, without(snapshot, name), {name}))


@st.composite
def _rename(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    new = draw(st.sampled_from(NAMES))

    def do(checkout: Any) -> None:
        assert checkout.columns.rename(name, new).column == new

    words = f"rename column {name!r} to {new!r}"
    if new in snapshot:
        return Edit(words, do, snapshot, refused=ColumnExistsError)
    return Edit(words, do, {**without(snapshot, name), new: snapshot[name]}, {name, new})


@st.composite
def _change_backend(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    kind = snapshot[name].kind
    backend = draw(st.sampled_from(_backends(kind)))
    after = {**snapshot, name: replace(snapshot[name], backend=backend)}
    options = _options(backend, kind)
    return Edit(
        f"backend of {name!r} is {backend}",
        lambda checkout: checkout[name].change_backend(backend, options),
        after,
        {name},
    )


@st.composite
def _alter(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    column = snapshot[name]
    assert column.kind.shape is not None
    shape = tuple(draw(st.sampled_from([n, n, n + 1, max(1, n - 1)])) for n in column.kind.shape)
    dtype = draw(st.sampled_from([column.kind.dtype, *_DTYPES]))
    variable = draw(st.booleans())
    kind = replace(column.kind, dtype=dtype, shape=shape, variable=variable)
    made = altered(column, kind)

    def do(checkout: Any) -> None:
        checkout.columns.alter(name, np.dtype(dtype), shape, variable)

    words = f"alter {name!r} to {kind}"
    if made is None:
        return Edit(words, do, snapshot, refused=InvalidSchemaError)
    return Edit(words, do, {**snapshot, name: made}, {name} if kind != column.kind else set())


@st.composite
def _set(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    kind = snapshot[name].kind
    key, value = draw(row_keys(kind)), value_of(kind, draw(_seeds))

    def do(checkout: Any) -> None:
        index = (name, *key) if isinstance(key, tuple) else (name, key)
        checkout[index] = value

    return Edit(f"set {name!r}[{key!r}]", do, with_rows(snapshot, name, {key: value}), {name})


def _pairs(kind: Kind, least: int = 1, most: int = 6) -> st.SearchStrategy[Rows]:
    seeds = st.dictionaries(row_keys(kind), _seeds, min_size=least, max_size=most)
    return seeds.map(lambda found: {key: value_of(kind, seed) for key, seed in found.items()})


def grouped(rows: Rows) -> dict[Any, Any]:
    """Rows of a nested column as a dict of dicts; those of a flat one as they are."""
    made: dict[Any, Any] = {}
    for key, value in rows.items():
        if isinstance(key, tuple):
            made.setdefault(key[0], {})[key[1]] = value
        else:
            made[key] = value
    return made


@st.composite
def _update(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    rows = draw(_pairs(snapshot[name].kind, least=0))
    touched = {name} if rows else set()
    return Edit(
        f"update {name!r} {list(rows)}",
        lambda checkout: checkout[name].update(grouped(rows)),
        with_rows(snapshot, name, rows),
        touched,
    )


@st.composite
def _many(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    kind = snapshot[name].kind
    start, count, step = draw(st.integers(0, 60)), draw(st.integers(10, _MANY)), draw(st.sampled_from([1, 3]))
    first = draw(_seeds)
    small = kind.shape is None or int(np.prod(kind.shape)) <= 9
    keys: list[RowKey] = list(range(start, start + (count if small else count // 8) * step, step))
    if kind.nested:
        keys = [(int(key) // 5, int(key) % 5) for key in keys if isinstance(key, int)]
    delete = draw(st.booleans()) and any(key in snapshot[name].rows for key in keys)
    if not delete:
        rows = {key: value_of(kind, first + i) for i, key in enumerate(keys)}
        return Edit(
            f"many of {name!r}: {len(rows)} from {start}",
            lambda checkout: checkout[name].update(grouped(rows)),
            with_rows(snapshot, name, rows),
            {name},
        )
    gone: Rows = dict.fromkeys(key for key in keys if key in snapshot[name].rows)

    def do(checkout: Any) -> None:
        with checkout[name] as column:
            for key in gone:
                del column[key]

    return Edit(f"delete {len(gone)} of {name!r}", do, with_rows(snapshot, name, gone), {name})


class _OwnError(Exception):
    """What a user's code raises inside a block."""


@st.composite
def _block(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    """Writes and deletions within a `with` block, which may end by an error of the user's: what was done stays."""
    kind = snapshot[name].kind
    steps = draw(st.lists(st.tuples(row_keys(kind), st.one_of(st.none(), _seeds)), min_size=1, max_size=8))
    fail = draw(st.booleans())
    rows: Rows = {}
    there = set(snapshot[name].rows)
    done: list[tuple[RowKey, Any]] = []
    for key, seed in steps:
        if seed is None and key not in there:
            continue
        value = None if seed is None else value_of(kind, seed)
        done.append((key, value))
        rows[key] = value
        there = there - {key} if value is None else there | {key}

    def do(checkout: Any) -> None:
        try:
            with checkout[name] as column:
                for key, value in done:
                    if value is None:
                        del column[key]
                    elif isinstance(key, tuple):
                        column[key[0]] = {key[1]: value}
                    else:
                        column[key] = value
                if fail:
                    raise _OwnError
        except _OwnError:
            pass

    deleted: Rows = {key: None for key, value in rows.items() if value is None}
    return Edit(
        f"block of {name!r}: {[(key, value is not None) for key, value in done]}",
        do,
        with_rows(snapshot, name, rows),
        {name} if rows else set(),
        partly=[with_rows(snapshot, name, deleted)],
    )


def _expect(found: Any, rows: Rows) -> None:
    assert found.keys() == rows.keys()
    assert all(same_value(found[key], value) for key, value in rows.items())


@st.composite
def _delete(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    rows, key, _ = _draw_existing(draw, snapshot, name)

    def do(checkout: Any) -> None:
        del checkout[name][key]

    return Edit(f"delete {name!r}[{key!r}]", do, with_rows(snapshot, name, dict.fromkeys(rows)), {name})


@st.composite
def _pop(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    rows, key, whole = _draw_existing(draw, snapshot, name)

    def do(checkout: Any) -> None:
        found = checkout[name].pop(key)
        _expect(found if whole else {key: found}, grouped(rows)[key] if whole else rows)

    return Edit(f"pop {name!r}[{key!r}]", do, with_rows(snapshot, name, dict.fromkeys(rows)), {name})


def _draw_existing(draw: Any, snapshot: Snapshot, name: str) -> tuple[Rows, Any, bool]:
    """Some rows of a column, the key that names them, and whether it is that of a whole nested sample."""
    rows = snapshot[name].rows
    key = draw(st.sampled_from(ordered(rows)[:12]))
    if isinstance(key, tuple) and draw(st.booleans()):
        return {one: value for one, value in rows.items() if one[0] == key[0]}, key[0], True
    return {key: rows[key]}, key, False


@st.composite
def _delete_absent(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    key = draw(row_keys(snapshot[name].kind))

    def do(checkout: Any) -> None:
        del checkout[name][key]

    if key in snapshot[name].rows:
        return Edit(f"delete {name!r}[{key!r}]", do, with_rows(snapshot, name, {key: None}), {name})
    return Edit(f"delete absent {name!r}[{key!r}]", do, snapshot, refused=SampleNotFoundError)


@st.composite
def _refused_value(draw: Any, snapshot: Snapshot, name: str) -> Edit:
    """An update whose last item is not suitable: none of it is written."""
    kind = snapshot[name].kind
    rows = dict(draw(_pairs(kind, least=1, most=3)))
    how = draw(st.sampled_from(["value", "key", "column"]))
    last: Any = (0, 99) if kind.nested else 99
    if how == "value":
        bad: Rows = {**rows, last: 3.5}
        return Edit(
            f"refused value in {name!r}",
            lambda checkout: checkout[name].update(grouped(bad)),
            snapshot,
            refused=InvalidSampleError,
        )
    if how == "key":
        worse: Rows = {**rows, ((0, "no space") if kind.nested else "no space"): value_of(kind, 1)}
        return Edit(
            f"refused key in {name!r}",
            lambda checkout: checkout[name].update(grouped(worse)),
            snapshot,
            refused=InvalidNameError,
        )
    return Edit(
        "absent column", lambda checkout: checkout.columns.delete("absent"), snapshot, refused=ColumnNotFoundError
    )


@st.composite
def _set_metadata(draw: Any, snapshot: Snapshot) -> Edit:
    key, text = draw(st.sampled_from(["licence", "0"])), draw(st.sampled_from(["", "MIT", "long " * 50]))

    def do(checkout: Any) -> None:
        checkout.metadata[key] = text

    made = snapshot if METADATA in snapshot else with_metadata(snapshot, {})
    return Edit(f"metadata {key!r}", do, with_metadata(snapshot, {key: text}), {METADATA}, partly=[made])


@st.composite
def _delete_metadata(draw: Any, snapshot: Snapshot) -> Edit:
    key = draw(st.sampled_from(ordered(snapshot[METADATA].rows)))

    def do(checkout: Any) -> None:
        assert checkout.metadata.pop(key) == snapshot[METADATA].rows[key]

    return Edit(f"metadata without {key!r}", do, with_metadata(snapshot, {key: None}), {METADATA})
