"""Making nested columns, and comparing them with dicts of dicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.repository.making import same

KINDS = ["fixed", "variable", "big", "text", "blob"]
FLAT = [f"flat-{kind}" for kind in KINDS]
KEYS = [0, "0", 15, "15", 2**63 - 1, "dir/a.png"]


def array(number: int) -> np.ndarray:
    """What the column "fixed" holds."""
    return np.full(3, number, np.float32)


def value_of(kind: str, seed: int) -> Any:
    """A value for the column of that kind."""
    if kind == "fixed":
        return array(seed)
    if kind == "variable":
        return np.full((1 + seed % 4, 1 + seed % 3), seed, np.int16)
    if kind == "big":
        return np.random.default_rng(seed).integers(0, 255, (40, 40), np.uint8)
    return f"täxt {seed}" * (seed % 60) if kind == "text" else bytes([seed % 256]) * (seed * 7 % 300)


def add_columns(checkout: Any) -> None:
    """Nested columns of every kind."""
    checkout.add_ndarray_column("fixed", shape=3, dtype=np.float32, contains_subsamples=True)
    checkout.add_ndarray_column("variable", shape=(4, 3), dtype=np.int16, variable_shape=True, contains_subsamples=True)
    checkout.add_ndarray_column("big", shape=(40, 40), dtype=np.uint8, contains_subsamples=True)
    checkout.add_str_column("text", contains_subsamples=True)
    checkout.add_bytes_column("blob", contains_subsamples=True)


def contents(column: Any) -> dict[Any, dict[Any, Any]]:
    """A nested column as a dict of dicts."""
    return {key: sample.data for key, sample in column.items()}


def agree(column: Any, expected: dict[Any, dict[Any, Any]]) -> bool:
    """Whether a column holds what a dict of dicts does, however it is asked."""

    def ordered(keys):
        return sorted(keys, key=lambda key: (isinstance(key, str), key))

    assert list(column) == list(column.keys()) == ordered(expected)
    assert len(column) == len(expected)
    assert column.num_subsamples == sum(len(subs) for subs in expected.values())
    for sample, subs in expected.items():
        accessor = column[sample]
        assert sample in column
        assert len(accessor) == len(subs)
        assert list(accessor) == list(accessor.keys()) == ordered(subs)
        for found in (accessor.data, accessor[...], accessor[:], column[sample, ...], dict(accessor.items())):
            assert all(same(found[sub], value) for sub, value in subs.items())
        for sub, value in subs.items():
            assert sub in accessor
            assert (sample, sub) in column
            assert same(accessor[sub], value)
            assert same(column[sample, sub], value)
    pairs = [(sample, sub) for sample, subs in expected.items() for sub in subs]
    found = column.get_batch(pairs)
    return all(same(one, expected[s][sub]) for one, (s, sub) in zip(found, pairs, strict=True))


def all_same(found: Any, expected: list[Any]) -> bool:
    """Whether an answer is a list of these values."""
    assert type(found) is type(expected) is list
    assert len(found) == len(expected)
    return all(same(one, other) for one, other in zip(found, expected, strict=True))


def fill_every_kind(checkout: Any) -> None:
    """Columns of every kind, nested and flat. Flat samples are 0, "0" and "k"; nested "a" (0, "0", 7) and 3 ("x")."""
    add_columns(checkout)
    checkout.add_ndarray_column("flat-fixed", shape=3, dtype=np.float32)
    checkout.add_ndarray_column("flat-variable", shape=(4, 3), dtype=np.int16, variable_shape=True)
    checkout.add_ndarray_column("flat-big", shape=(40, 40), dtype=np.uint8)
    checkout.add_str_column("flat-text")
    checkout.add_bytes_column("flat-blob")
    for kind in KINDS:
        checkout[kind]["a"] = {0: value_of(kind, 1), "0": value_of(kind, 2), 7: value_of(kind, 3)}
        checkout[kind, 3, "x"] = value_of(kind, 4)
        checkout[f"flat-{kind}"].update({0: value_of(kind, 5), "0": value_of(kind, 6), "k": value_of(kind, 7)})
