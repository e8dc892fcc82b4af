"""Kinds of columns, values of them, and what equality means: every bit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

KeyType = int | str
RowKey = int | str | tuple[KeyType, KeyType]

_NUMBERS = [0, 1, 2, -1, 100, 1000, 2**40]
_FLOATS = [0.0, 1.0, -0.0, math.nan, 0.5, 1e30, math.inf]
_TEXTS = ["", "0", "täxt", "x" * 33, "long " * 60, "\x00\ud7ff", "y"]
_BLOBS = [b"", b"\x00", b"0", b"\xff" * 32, b"\xfe" * 33, bytes(range(256)) * 2, b"z"]
SEEDS = len(_NUMBERS)


@dataclass(frozen=True)
class Kind:
    """What a column holds: "ndarray", "str" or "bytes"; flat or nested; and of arrays dtype and shape."""

    type: str
    nested: bool = False
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    variable: bool = False


FLAT_KINDS = [
    Kind("ndarray", dtype="<f4", shape=(3,)),
    Kind("ndarray", dtype="<f8", shape=()),
    Kind("ndarray", dtype="<i8", shape=()),
    Kind("ndarray", dtype="|u1", shape=(20, 20)),
    Kind("ndarray", dtype="<i2", shape=(6, 5), variable=True),
    Kind("ndarray", dtype="|b1", shape=(2, 2)),
    Kind("str"),
    Kind("bytes"),
]
KINDS = [*FLAT_KINDS, *(replace(kind, nested=True) for kind in FLAT_KINDS)]
TEXT = Kind("str")


def value_of(kind: Kind, seed: int) -> Any:
    """A value for a column of that kind; equal seeds give equal values."""
    if kind.type == "str":
        return _TEXTS[seed % SEEDS]
    if kind.type == "bytes":
        return _BLOBS[seed % SEEDS]
    assert kind.dtype is not None
    assert kind.shape is not None
    shape = kind.shape
    if kind.variable:
        shape = tuple(1 + (seed * (i + 3)) % most for i, most in enumerate(shape))
    dtype = np.dtype(kind.dtype)
    if dtype.kind == "f":
        value = np.full(shape, _FLOATS[seed % SEEDS], np.float64)
    else:
        number = _NUMBERS[seed % SEEDS]
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
            number = seed % SEEDS
        value = np.full(shape, number, np.int64)
    made = value.astype(dtype)
    if made.size > 100:
        made.reshape(-1)[seed % made.size] = 7
    return made


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are equal in type, dtype, shape and every bit."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return type(one) is type(other) and bool(one == other)


def same_or_absent(one: Any, other: Any) -> bool:
    """The same, where None stands for no value."""
    if one is None or other is None:
        return one is other
    return same_value(one, other)


def fits_shape(shape: tuple[int, ...], kind: Kind) -> bool:
    """Whether an array of that shape may be in a column."""
    assert kind.shape is not None
    if not kind.variable:
        return shape == kind.shape
    return len(shape) == len(kind.shape) and all(n <= most for n, most in zip(shape, kind.shape, strict=True))


def cast_or_none(value: np.ndarray, dtype: str) -> np.ndarray | None:
    """The same numbers in another dtype; None if any would lose something."""
    target = np.dtype(dtype)
    if value.dtype == target:
        return value
    if not all(_holds(target, number) for number in value.reshape(-1).tolist()):
        return None
    return value.astype(target)


def _holds(target: np.dtype, number: float | bool) -> bool:
    if isinstance(number, float) and target.kind != "f":
        if not math.isfinite(number) or not number.is_integer() or (math.copysign(1, number) < 0 and number == 0):
            return False
        number = int(number)
    if target.kind == "b":
        return number in (0, 1)
    if target.kind in "iu":
        return bool(np.iinfo(target).min <= number <= np.iinfo(target).max)
    if not isinstance(number, float):
        largest = 2 ** (np.finfo(target).nmant + 1)
        return abs(int(number)) <= largest or int(target.type(number)) == number
    if not math.isfinite(number):
        return True
    with np.errstate(over="ignore"):
        return float(target.type(number)) == number
