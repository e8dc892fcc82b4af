"""Blocks that lie between others which are about to be fetched: the request that fetches those brings them too."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.backends.store.ranges import DEFAULT_JOIN_GAP
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_blocks import block_rows

_MOST_GAP: Final = 1024 * 1024
_SHARE: Final = 4
# Where that is so of all leaves of a batch together, those that lag behind would cost a wait each, one by one.
_SHARE_OF_MANY: Final = 16
_ALL: Final = -1
_MANY_BLOCKS: Final = 16


class Neighbours:
    """Which blocks to fetch together with those that a batch of a column wants.

    One batch alone wants its samples, and gets what a store reads anyway to answer it. Who reads batch after batch is
    going to read what is near as well, and a request costs as much as some hundred kilobytes. So gaps are bridged that
    grow with each batch that has to be fetched; and of a leaf of which a quarter was fetched, the rest comes too, as it
    does of all leaves of a batch of which a quarter was. `rows` is how many rows are in leaves that were fetched whole.
    """

    def __init__(self, packs: PackReader) -> None:
        self._packs = packs
        self._gap = DEFAULT_JOIN_GAP
        self._fetched: Counter[int] = Counter()
        self.rows = 0

    def of(self, wanted: Sequence[Place], leaves: Mapping[int, Leaf]) -> dict[BlockName, tuple[Leaf, int]]:
        """More blocks to fetch, and a row of each.

        Args:
            wanted: places of different blocks that are not on this machine.
            leaves: the records that name these, by the number of their first row.
        """
        if not wanted:
            return {}
        found = blocks_between(wanted, leaves.values(), self._gap)
        if len(wanted) >= _MANY_BLOCKS:
            self._gap = min(self._gap * 4, _MOST_GAP)
        names = {(place.pack, place.offset) for place in wanted} | found.keys()
        open_ = {first: leaf for first, leaf in leaves.items() if self._fetched[first] != _ALL}
        blocks = {
            first: {(part.pack, part.offset): (leaf, part.first) for part in block_rows(leaf)}
            for first, leaf in open_.items()
        }
        before = {first: self._fetched[first] for first in open_}
        many = sum(before.values()) * _SHARE >= sum(map(len, blocks.values()))
        for first, those in blocks.items():
            self._fetched[first] += len(names & those.keys())
            share = _SHARE_OF_MANY if many else _SHARE
            if before[first] * share >= len(those) and self._fetched[first] > before[first]:
                self._fetched[first] = _ALL
                self.rows += len(open_[first])
                found.update(those)
        return {name: place for name, place in found.items() if not self._is_here(*place)}

    def _is_here(self, leaf: Leaf, row: int) -> bool:
        place = leaf.row(row).place
        return place is None or self._packs.seems_local(place)


def blocks_between(
    wanted: Collection[Place], leaves: Iterable[Leaf], gap: int = DEFAULT_JOIN_GAP
) -> dict[BlockName, tuple[Leaf, int]]:
    """Blocks in the gaps between some places; with a row of each.

    Args:
        wanted: places of different blocks.
        leaves: the records whose blocks are looked at.
        gap: bytes of the largest gap; by default of those that a store bridges anyway, to send one request.
    """
    gaps: dict[bytes, list[tuple[int, int]]] = {}
    for one, two in pairwise(sorted(wanted)):
        end = one.offset + one.stored
        if one.pack == two.pack and end < two.offset <= end + gap:
            gaps.setdefault(one.pack, []).append((end, two.offset))
    if not gaps:
        return {}
    between: dict[BlockName, tuple[Leaf, int]] = {}
    for leaf in leaves:
        for pack, offset, stored, row, _ in block_rows(leaf):
            if pack in gaps and _lies_in(gaps[pack], offset, offset + stored):
                between[pack, offset] = leaf, row
    return between


def _lies_in(gaps: list[tuple[int, int]], start: int, end: int) -> bool:
    i = bisect_right(gaps, (start, end)) - 1
    return any(low <= start and end <= high for low, high in gaps[max(i, 0) : i + 2])
