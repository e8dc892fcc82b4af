"""Keys as they are given to a column that is written: looked at, taken from pairs, or made."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from hangar_cloud.catalog.errors import InvalidNameError, InvalidSampleError
from hangar_cloud.catalog.keys import MAX_INT_KEY, KeyType, RowKey, check_key

_Key = TypeVar("_Key", bound=RowKey)


def pairs_of(other: Any, more: Mapping[str, Any], where: str) -> Iterator[tuple[Any, Any]]:
    """Keys and values of a mapping or of pairs, and of keywords, as `update` takes them.

    Raises:
        InvalidSampleError: `other` is neither a mapping nor pairs; `where` begins the message.
    """
    pairs: Any = ()
    if other is not None:
        pairs = other.items() if isinstance(other, Mapping) or hasattr(other, "items") else other
    if not isinstance(pairs, Iterable):
        raise _neither(where, pairs)
    for pair in pairs:
        try:
            key, value = pair
        except (TypeError, ValueError):
            raise _neither(where, pair) from None
        yield key, value
    yield from more.items()


def checked_key(key: Any, where: str) -> KeyType:
    """The key itself if it may be one.

    Raises:
        InvalidNameError: it may not; `where` begins the message.
    """
    try:
        return check_key(key)
    except InvalidNameError as error:
        raise InvalidNameError(f"{where}: {error}") from None


def keys_of_batch(keys: Any, count: int, where: str, checked: Callable[[Any], _Key]) -> list[_Key]:
    """The keys of `count` values, each looked at.

    Raises:
        InvalidNameError: one may not be a key.
        InvalidSampleError: there are not `count` of them, or one is there twice; `where` begins the message.
    """
    if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
        raise InvalidSampleError(f"{where}: update_batch() takes a sequence of keys, not {type(keys).__name__}")
    listed = [checked(key) for key in (keys.tolist() if isinstance(keys, np.ndarray) else keys)]
    if len(listed) != count:
        raise InvalidSampleError(
            f"{where}: update_batch() got {len(listed)} keys for {count} values; nothing was written"
        )
    if len(set(listed)) < count:
        first: dict[Any, int] = {}
        for i, key in enumerate(listed):
            if first.setdefault(key, i) != i:
                raise InvalidSampleError(
                    f"{where}: key {key!r} is there twice, as keys[{first[key]}] and keys[{i}]; one key has one value. "
                    "Nothing was written"
                )
    return listed


def numbers_after(greatest: int, count: int, where: str) -> list[int]:
    """The `count` whole numbers after one. Raises InvalidNameError where they are too large for keys."""
    if greatest + count > MAX_INT_KEY:
        raise InvalidNameError(
            f"{where}: there are no {count} keys after {greatest}, the greatest it has; use update_batch() with keys "
            "of your own"
        )
    return list(range(greatest + 1, greatest + 1 + count))


def fresh_key() -> str:
    """A key that no sample has: it sorts after those made before, and does not collide between writers."""
    return f"{_clock.next():014x}-{secrets.token_hex(6)}"


def _neither(where: str, given: object) -> InvalidSampleError:
    return InvalidSampleError(
        f"{where}: update() takes a mapping or pairs (key, value); this is neither: {str(given)[:80]!r}"
    )


class _Clock:
    """The time in microseconds; always later than before, even if the system's clock was set back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(time.time_ns() // 1000, self._last + 1)
        return self._last


_clock: Final = _Clock()
