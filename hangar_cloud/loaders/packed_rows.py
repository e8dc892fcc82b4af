"""Many packed samples of one shape at once: each block is decoded once, each sample compared with its digest."""

from __future__ import annotations

from typing import Any

import numpy as np

from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.values import sample_digest
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.column import ColumnReader
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.whereabouts import Rows

_Wanted = tuple[tuple[bytes, int], int, bytes]
"""Of a sample: its block, where it begins in that, and its digest."""


class PackedRows:
    """Samples of a column of fixed shape, by position.

    Args:
        column: the column.
        rows: of each sample, by position.
    """

    def __init__(self, column: ColumnReader, rows: Rows) -> None:
        self._column = column
        self._rows = rows
        schema = column._entry.schema
        self._size = schema.fixed_size or 0
        self._prefix = schema.prefix(None)

    def read(self, positions: Positions, out: Any) -> bool:
        """Put samples into `out`, an array of them; False where that takes a closer look, which `get_batch` has."""
        self._column._alive()
        try:
            wanted, blocks = self._planned(positions)
            if wanted is None:
                return False
            packs = self._column._packs
            if any(packs._purged(sample.digest, True) is not None for sample in blocks.values()):
                return False
            raws = packs._source.read_many([packs.extent(sample) for sample in blocks.values()])
        except HangarError:
            return False
        # Some codecs give signed bytes, which memoryviews do not assign to others.
        named = dict(zip(blocks, (raw.cast("B") for raw in raws), strict=True))
        return self._take(wanted, named, memoryview(out.reshape(-1).view(np.uint8)))

    def _planned(self, positions: Positions) -> tuple[list[_Wanted] | None, dict[tuple[bytes, int], PackedSample]]:
        """What is wanted of which blocks; None where some sample is not packed, or is not of its column's size."""
        column, rows, size = self._column, self._rows, self._size
        wanted: list[_Wanted] = []
        blocks: dict[tuple[bytes, int], PackedSample] = {}
        numbers = rows.leaf[positions]
        ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(positions)]
        begin = 0
        for end in ends:
            leaf = column._nodes.leaf(rows.leaves[numbers[begin]], column._entry.schema)
            packed = leaf.packed
            if packed is None or leaf.values is not None:
                return None, {}
            digests, names, offsets, _, starts, sizes = packed
            for row in rows.row[positions[begin:end]].tolist():
                if sizes[row] != size:
                    return None, {}
                block = names[row * 16 : row * 16 + 16], offsets[row]
                wanted.append((block, starts[row], digests[row * 32 : row * 32 + 32]))
                if block not in blocks:
                    blocks[block] = self._sample(leaf, row)
            begin = end
        return wanted, blocks

    def _sample(self, leaf: Leaf, row: int) -> PackedSample:
        found = leaf.row(row)
        assert found.place is not None
        return PackedSample(found.place, found.identity[1:], self._prefix)

    def _take(self, wanted: list[_Wanted], raws: dict[tuple[bytes, int], memoryview], out: memoryview) -> bool:
        size, prefix, place = self._size, self._prefix, 0
        for block, start, digest in wanted:
            raw = raws[block]
            payload = raw[start : start + size]
            # A block that is one sample was compared when it was read.
            if len(payload) != size or (len(raw) != size and sample_digest(prefix, payload) != digest):
                return False
            out[place : place + size] = payload
            place += size
        return True
