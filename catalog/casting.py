"""Casting numbers only where nothing is lost: not a digit, not a sign of zero, not a bit of a NaN (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def always_exact(old: np.dtype[Any], new: np.dtype[Any]) -> bool:
    """True if no value can be lost, whatever the values are."""
    if old.newbyteorder("=") == new.newbyteorder("="):
        return True
    # Not so from floats, where widening makes a signalling NaN a quiet one; and numpy calls int64 to float64 safe.
    exact_kinds = old.kind in "iu" and (new.kind in "iu" or old.itemsize < 8)
    return exact_kinds and np.can_cast(old, new, "safe")


def cast_exact(values: Array, new: np.dtype[Any]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The values in another dtype, and which of them lose nothing by it (those of the others mean nothing).

    Args:
        values: one-dimensional, of numpy kind b, i, u, f or c, in either byte order.
        new: likewise.
    """
    source = values.astype(values.dtype.newbyteorder("="), copy=False)
    target = new.newbyteorder("=")
    if source.dtype == target:
        return source.astype(new), np.ones(len(values), bool)
    with np.errstate(all="ignore"):
        cast, exact = _cast(source, target)
    return cast.astype(new, copy=False), exact


def _cast(source: Array, target: np.dtype[Any]) -> tuple[Array, npt.NDArray[np.bool_]]:
    if source.dtype.kind == "c" or target.kind == "c":
        return _cast_complex(source, target)
    if source.dtype.kind == "f":
        inside = np.ones(len(source), bool) if target.kind == "f" else _in_range(source, target)
        cast = _plain(np.where(inside, source, source.dtype.type(0)), target)
        return cast, inside & _same_bits(_plain(cast, source.dtype), source)
    if target.kind == "f":
        cast = _plain(source, target)
        back = _plain(np.where(_in_range(cast, source.dtype), cast, target.type(0)), source.dtype)
        return cast, _in_range(cast, source.dtype) & _same_bits(back, source)
    cast = source.astype(target)
    sign_kept = (cast < 0) == (source < 0) if "b" not in (source.dtype.kind, target.kind) else True
    return cast, _same_bits(cast.astype(source.dtype), source) & sign_kept


def _cast_complex(source: Array, target: np.dtype[Any]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Real and imaginary part one by one; what is not complex has no imaginary part."""
    parts = (source.real, source.imag) if source.dtype.kind == "c" else (source, None)
    if target.kind != "c":
        cast, exact = _cast_part(parts[0], target)
        assert parts[1] is not None
        return cast, exact & _same_bits(parts[1], np.zeros_like(parts[1]))
    made = np.zeros(len(source), target)
    made.real, exact = _cast_part(parts[0], made.real.dtype)
    if parts[1] is not None:
        made.imag, imag_exact = _cast_part(parts[1], made.real.dtype)
        exact = exact & imag_exact
    return made, exact


def _cast_part(source: Array, target: np.dtype[Any]) -> tuple[Array, npt.NDArray[np.bool_]]:
    if source.dtype == target:
        return source, np.ones(len(source), bool)
    return _cast(source, target)


def _in_range(numbers: Array, whole: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    """Which floats an integer (or bool) dtype can hold; a conversion of others would be undefined."""
    low, high = (0, 1) if whole.kind == "b" else (np.iinfo(whole).min, np.iinfo(whole).max)
    wide = numbers.astype(np.result_type(numbers.dtype, np.float64), copy=False)
    return np.asarray((wide >= float(low)) & (wide < float(high + 1)))


def _plain(source: Array, target: np.dtype[Any]) -> Array:
    """A cast into zeroed memory, so that the padding of long doubles is the same every time."""
    cast = np.zeros(len(source), target)
    np.copyto(cast, source, casting="unsafe")
    return cast


def _same_bits(one: Array, other: Array) -> npt.NDArray[np.bool_]:
    width = one.dtype.itemsize
    # x86's long doubles have ten bytes, and the rest is padding.
    used = 10 if one.dtype == np.longdouble and np.finfo(np.longdouble).nmant == 63 else width
    bits = [np.ascontiguousarray(part).view(np.uint8).reshape(len(part), width)[:, :used] for part in (one, other)]
    return np.asarray((bits[0] == bits[1]).all(axis=1))
