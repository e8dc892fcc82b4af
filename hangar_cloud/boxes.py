"""Boxes of arrays: what an index means of a shape, as numpy reads it (pure)."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any, NamedTuple

from hangar_cloud.errors import InvalidSliceError

PerAxis = int | slice


class Box(NamedTuple):
    """The smallest box with all that an index takes of an array, and what is taken of that box.

    Attributes:
        lows, highs: first element of the box and the one behind the last, in each dimension.
        rest: index that makes of the box what the whole index makes of the array.
    """

    lows: tuple[int, ...]
    highs: tuple[int, ...]
    rest: tuple[PerAxis | EllipsisType, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(high - low for low, high in zip(self.lows, self.highs, strict=True))


def box_of(index: Any, shape: Sequence[int], where: str) -> Box:
    """The box that an index takes of an array.

    Args:
        index: an integer, a slice, ``...`` or a tuple of these, as of ``np.s_[…]``; dimensions that are not named are
            taken whole.
        shape: of the array.
        where: column and key, for the message.

    Raises:
        InvalidSliceError: it is anything else, or out of bounds.
    """
    given = index if isinstance(index, tuple) else (index,)
    spread, ellipsis_at = _spread(given, len(shape), where)
    axes = [_axis(part, size, axis, where) for axis, (part, size) in enumerate(zip(spread, shape, strict=True))]
    rest: list[PerAxis | EllipsisType] = [part for _, _, part in axes]
    if ellipsis_at is not None:
        rest.insert(ellipsis_at, ...)
    return Box(tuple(low for low, _, _ in axes), tuple(high for _, high, _ in axes), tuple(rest))


def _spread(given: tuple[Any, ...], rank: int, where: str) -> tuple[list[Any], int | None]:
    """One part for each dimension, and where an ellipsis stood."""
    places = [i for i, part in enumerate(given) if part is ...]
    named = len(given) - len(places)
    if len(places) > 1:
        raise InvalidSliceError(f"{where}: an index has one `...` at most, and this has {len(places)}")
    if named > rank:
        raise InvalidSliceError(f"{where}: the array has {rank} dimension(s), and the index names {named}")
    at = places[0] if places else len(given)
    whole = [slice(None)] * (rank - named)
    return [*given[:at], *whole, *given[at + 1 :]], at if places else None


def _axis(part: Any, size: int, axis: int, where: str) -> tuple[int, int, PerAxis]:
    """Bounds in one dimension, and what is taken between them."""
    if isinstance(part, slice):
        return _slice(part, size, axis, where)
    try:
        _refuse_bool(part)
        number = operator.index(part)
    except TypeError:
        raise InvalidSliceError(
            f"{where}: read_slice takes integers, slices and `...`, as in np.s_[10:26, :64, 0]; not "
            f"{type(part).__name__} ({str(part)[:40]!r}) in dimension {axis}. Read the box around what you want, and "
            "index that"
        ) from None
    if not -size <= number < size:
        raise InvalidSliceError(f"{where}: {number} is out of bounds for dimension {axis}, which has size {size}")
    low = number % size
    return low, low + 1, 0


def _slice(part: slice, size: int, axis: int, where: str) -> tuple[int, int, slice]:
    try:
        taken = range(size)[part]
    except (TypeError, ValueError) as error:
        raise InvalidSliceError(f"{where}: {part} in dimension {axis}: {error}") from None
    if not taken:
        return 0, 0, slice(None)
    low, high = min(taken[0], taken[-1]), max(taken[0], taken[-1]) + 1
    return low, high, slice(None, None, taken.step)


def _refuse_bool(part: Any) -> None:
    """A bool is an integer to Python and a mask to numpy."""
    if str(getattr(part, "dtype", type(part).__name__)) == "bool":
        raise TypeError
