"""Which extents of packs the rows of a leaf lie in, from whole columns (pure)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.backends.sample_extents import PackedSample
from hangar_cloud.backends.values import DIGEST_LENGTH
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
    heads = leaf.extent_heads
    _, packs, offsets, stored, *_ = places
    for i in range(bisect_right(heads, start) - 1, bisect_left(heads, end)):
        row = heads[i]
        offset, pack = offsets.item(row), packs[row].tobytes()
        if offset >= 0 and pack != NO_PACK:
            yield BlockRows(pack, offset, stored.item(row), max(row, start), min(heads[i + 1], end))


def block_samples(leaf: Leaf, schema: ColumnSchema, start: int = 0, end: int | None = None) -> list[PackedSample]:
    """A sample of each extent of the rows from `start` to before `end`, each extent once, in the order of rows.

    Made of whole columns: what a record for each row takes is most of what reading small samples costs.
    """
    places = leaf.places
    end = len(leaf) if end is None else end
    if places is None or start >= end:
        return []
    heads = leaf.extent_heads
    rows = np.array(heads[bisect_right(heads, start) - 1 : bisect_left(heads, end)])
    rows[0] = start
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


def row_samples(leaf: Leaf, schema: ColumnSchema, start: int, end: int) -> list[PackedSample] | None:
    """The samples of the rows from `start` to before `end`; None if any has no place.

    Made of whole columns: a `Row` for each costs as much as ten of these.
    """
    packed = leaf.packed
    if packed is None or leaf.shapes:
        return None
    digests, packs, *numbers = packed
    offsets, stored, starts, sizes = (column[start:end] for column in numbers)
    if min(offsets, default=-1) < 0:
        return None
    prefix = schema.prefix(None)
    names = (packs[i : i + 16] for i in range(start * 16, end * 16, 16))
    known = (digests[i : i + DIGEST_LENGTH] for i in range(start * DIGEST_LENGTH, end * DIGEST_LENGTH, DIGEST_LENGTH))
    places = map(Place._make, zip(names, offsets, stored, starts, sizes, strict=True))
    return [PackedSample(place, digest, prefix) for place, digest in zip(places, known, strict=True)]


def block_name(leaf: Leaf, row: int) -> tuple[bytes, int] | None:
    """Pack and offset of the extent that a row lies in, None where its value stands in the leaf."""
    places = leaf.places
    if places is None:
        return None
    offset = int(places[2][row])
    return None if offset < 0 else (places[1][row].tobytes(), offset)


def block_around(leaf: Leaf, row: int) -> tuple[int, int]:
    """The rows about a packed row, itself included, that lie in its extent: the first, and the one behind the last."""
    heads = leaf.extent_heads
    i = bisect_right(heads, row)
    return max(heads[i - 1], row - _FAR), min(heads[i], row + _FAR)
