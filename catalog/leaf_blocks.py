"""Which extents of packs the rows of a leaf lie in, from whole columns (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.catalog.leaf import Leaf

# Blocks of samples so small that more of them share one are looked at in part.
_FAR: Final = 96


class BlockRows(NamedTuple):
    """Rows of a leaf, one behind the other, that lie in one extent: its pack, offset and length; the first row, and the
    one behind the last."""

    pack: bytes
    offset: int
    stored: int
    first: int
    end: int


def block_rows(leaf: Leaf, start: int = 0, end: int | None = None) -> Iterator[BlockRows]:
    """The extents of rows from `start` to before `end`, in the order of rows; rows without a place are left out.

    One extent is given several times where its rows are apart.
    """
    places = leaf.places
    end = len(leaf) if end is None else end
    if places is None or start >= end:
        return
    packs, offsets, stored = (column[start:end] for column in places[1:4])
    differ = (offsets[1:] != offsets[:-1]) | (packs[1:] != packs[:-1]).any(axis=1)
    firsts = np.concatenate(([0], np.flatnonzero(differ) + 1))
    bounds = [*firsts.tolist(), end - start]
    heads = zip(offsets[firsts].tolist(), stored[firsts].tolist(), strict=True)
    for i, (offset, length) in enumerate(heads):
        pack = packs[bounds[i]].tobytes()
        if offset >= 0 and pack != NO_PACK:
            yield BlockRows(pack, offset, length, start + bounds[i], start + bounds[i + 1])


def block_name(leaf: Leaf, row: int) -> tuple[bytes, int] | None:
    """Pack and offset of the extent that a row lies in, None where its value stands in the leaf."""
    places = leaf.places
    if places is None:
        return None
    offset = int(places[2][row])
    return None if offset < 0 else (places[1][row].tobytes(), offset)


def block_around(leaf: Leaf, row: int) -> tuple[int, int]:
    """The rows about a packed row, itself included, that lie in its extent: the first, and the one behind the last."""
    places = leaf.places
    assert places is not None
    _, packs, offsets, *_ = places
    low, high = max(row - _FAR, 0), min(row + _FAR, len(offsets))
    other = (offsets[low:high] != offsets[row]) | (packs[low:high] != packs[row]).any(axis=1)
    before, behind = np.flatnonzero(other[: row - low]), np.flatnonzero(other[row - low :])
    return (low + int(before[-1]) + 1 if len(before) else low), (row + int(behind[0]) if len(behind) else high)
