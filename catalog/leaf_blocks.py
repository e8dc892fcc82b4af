"""Which extents of packs the rows of a leaf lie in, from whole columns (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.backends.sample_extents import PackedSample
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.schema import ColumnSchema

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


def block_samples(leaf: Leaf, schema: ColumnSchema, start: int = 0, end: int | None = None) -> list[PackedSample]:
    """A sample of each extent of the rows from `start` to before `end`, each extent once, in the order of rows.

    Made of whole columns: what a record for each row takes is most of what reading small samples costs.
    """
    places = leaf.places
    end = len(leaf) if end is None else end
    if places is None or start >= end:
        return []
    packs, offsets = (column[start:end] for column in places[1:3])
    differ = (offsets[1:] != offsets[:-1]) | (packs[1:] != packs[:-1]).any(axis=1)
    rows = np.concatenate(([0], np.flatnonzero(differ) + 1)) + start
    digests, names, *numbers = (column[rows] for column in places)
    found: dict[tuple[bytes, int], PackedSample] = {}
    known, ids = digests.tobytes(), names.tobytes()
    prefix = None if leaf.shapes else schema.prefix(None)
    for i, (row, offset, stored, first, size) in enumerate(
        zip(rows.tolist(), *(column.tolist() for column in numbers), strict=True)
    ):
        pack = ids[i * 16 : i * 16 + 16]
        if offset >= 0 and pack != NO_PACK and (pack, offset) not in found:
            digest = known[i * 32 : i * 32 + 32]
            means = prefix or schema.prefix(tuple(dimension[row] for dimension in leaf.shapes))
            found[pack, offset] = PackedSample(Place(pack, offset, stored, first, size), digest, means)
    return list(found.values())


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
