"""XXH3-64 of many short rows at once: what `xxhash.xxh3_64_intdigest` gives for each (pure).

One call for each row takes ten times as long as all else that is done with a row of a batch. The algorithm for inputs
of 9 to 128 bytes with seed 0 is that of https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_SECRET: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248e"
    "e03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d"
    "8a51e04bcdb45931c89f7ec9d9787364"
)
_PRIME64_1: Final = np.uint64(0x9E3779B185EBCA87)
_AVALANCHE: Final = np.uint64(0x165667919E3779F9)
_LOW: Final = np.uint64(0xFFFFFFFF)
_CHUNK_ROWS: Final = 4096
"""So many rows and what is made of them meanwhile stay in the cache of a core."""
SHORTEST: Final = 9
LONGEST: Final = 128

_Words = npt.NDArray[np.uint64]


def xxh3_rows(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """XXH3-64, seed 0, of each row.

    Args:
        rows: uint8 (rows, width), width 9 to 128.
    """
    width = rows.shape[1]
    assert SHORTEST <= width <= LONGEST
    function = _to_16 if width <= 16 else _to_128
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), _CHUNK_ROWS):
        hashes[start : start + _CHUNK_ROWS] = function(rows[start : start + _CHUNK_ROWS], width)
    return hashes


def _to_16(rows: npt.NDArray[np.uint8], width: int) -> _Words:
    low = _words(rows, 0) ^ (_secret(24) ^ _secret(32))
    high = _words(rows, width - 8) ^ (_secret(40) ^ _secret(48))
    return _avalanche(np.uint64(width) + low.byteswap() + high + _folded(low, high))


def _to_128(rows: npt.NDArray[np.uint8], width: int) -> _Words:
    total = np.full(len(rows), (width * int(_PRIME64_1)) & (2**64 - 1), np.uint64)
    for pair in range((width - 1) // 32 + 1):
        total += _mixed(rows, 16 * pair, 32 * pair)
        total += _mixed(rows, width - 16 * (pair + 1), 32 * pair + 16)
    return _avalanche(total)


def _mixed(rows: npt.NDArray[np.uint8], position: int, secret: int) -> _Words:
    low, high = _words(rows, position), _words(rows, position + 8)
    return _folded(low ^ _secret(secret), high ^ _secret(secret + 8))


def _avalanche(words: _Words) -> _Words:
    words ^= words >> np.uint64(37)
    words *= _AVALANCHE
    words ^= words >> np.uint64(32)
    return words


def _folded(one: _Words, other: _Words) -> _Words:
    """The 128 bits of the products, their halves combined by exclusive or."""
    half = np.uint64(32)
    low1, high1, low2, high2 = one & _LOW, one >> half, other & _LOW, other >> half
    low_low, cross1, cross2 = low1 * low2, high1 * low2, low1 * high2
    middle = (low_low >> half) + (cross1 & _LOW) + cross2
    upper = high1 * high2
    upper += cross1 >> half
    upper += middle >> half
    upper ^= (middle << half) | (low_low & _LOW)
    return upper


def _words(rows: npt.NDArray[np.uint8], position: int) -> _Words:
    """Eight bytes of each row as little-endian numbers, in an array of its own."""
    found: Any = np.ascontiguousarray(rows[:, position : position + 8]).view("<u8").reshape(-1)
    words: _Words = found.astype(np.uint64)
    return words


def _secret(position: int) -> np.uint64:
    return np.uint64(int.from_bytes(_SECRET[position : position + 8], "little"))
