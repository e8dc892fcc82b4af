"""Many packed samples of one shape at once: each block is decoded once, each sample compared with its digest."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.pack_reader import UNREADABLE, PackedSample
from hangar_cloud.brought_blocks import BroughtBlocks
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.column import ColumnReader
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.whereabouts import Rows

# From here on numpy copies, which lets other threads go on meanwhile; it takes a microsecond to begin.
_LONG_SAMPLE: Final = 4096


class _Run(NamedTuple):
    """Samples wanted from one block, one after the other: where each begins in it, and its digest."""

    block: tuple[bytes, int]
    starts: list[int]
    digests: list[bytes]


class PackedRows:
    """Samples of a column of fixed shape, by position.

    Args:
        column: the column.
        rows: of each sample, by position.
        brought: holds what was fetched until it is read.
    """

    def __init__(self, column: ColumnReader, rows: Rows, brought: BroughtBlocks[BlockName]) -> None:
        self._column = column
        self._rows = rows
        self._brought = brought
        schema = column._entry.schema
        self._size = schema.fixed_size or 0
        self._prefix = schema.prefix(None)

    def read(self, positions: Positions, out: Any, places: Positions) -> bool:
        """Put samples into places of `out`, an array; False where that takes a closer look, which `get_batch` has."""
        self._column._alive()
        try:
            runs: list[_Run] = []
            samples: dict[tuple[bytes, int], PackedSample] = {}
            if not self._plan(positions, runs, samples):
                return False
            raws = self._brought.take(samples)
            absent = {name: sample for name, sample in samples.items() if name not in raws}
            if absent:
                raws.update(zip(absent, self._column._packs.read_blocks(list(absent.values())), strict=True))
        except HangarError:
            return False
        # Some codecs give signed bytes, which are not assigned to others.
        blocks = {name: raw.cast("B") for name, raw in raws.items()}
        target, done = out.reshape(-1).view(np.uint8), 0
        goals = places.tolist()
        for run in runs:
            end = done + len(run.starts)
            if not self._take(run, blocks[run.block], target, goals[done:end]):
                return False
            done = end
        return True

    def bring(self, positions: Positions, is_kept: bool) -> bool:
        """Hold samples in memory until they are read, or have them on this machine where there is no room; False where
        they would be fetched again.

        What cannot be read is told when it is.

        Args:
            positions: of the samples.
            is_kept: whether what is fetched now stays on this machine until it is read.
        """
        packs = self._column._packs
        samples: dict[tuple[bytes, int], PackedSample] = {}
        try:
            if not self._plan(positions, [], samples):
                return False
            with self._brought.promised(self._size * len(positions)) as fits:
                if fits:
                    raws = packs.read_blocks(list(samples.values()), held=True)
                    self._brought.keep(dict(zip(samples, raws, strict=True)))
                    return True
            absent = packs.absent(list(samples.values()))
            if absent and is_kept:
                packs.read_blocks(absent, are_absent=True)
        except UNREADABLE:
            return True
        except HangarError:
            return False
        return not packs.absent(absent[:1])

    def _plan(self, positions: Positions, runs: list[_Run], samples: dict[tuple[bytes, int], PackedSample]) -> bool:
        """Say what is wanted, and one sample of each block; False if one is not packed, or not of its column's size."""
        rows, schema = self._rows, self._column._entry.schema
        numbers = rows.leaf[positions]
        begin = 0
        for end in [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(positions)]:
            leaf = self._column._nodes.leaf(rows.leaves[numbers[begin]], schema)
            if not self._plan_leaf(leaf, rows.row[positions[begin:end]].tolist(), runs, samples):
                return False
            begin = end
        return True

    def _plan_leaf(
        self, leaf: Leaf, rows: list[int], runs: list[_Run], samples: dict[tuple[bytes, int], PackedSample]
    ) -> bool:
        packed, size, prefix = leaf.packed, self._size, self._prefix
        if packed is None or leaf.values is not None:
            return False
        digests, names, offsets, stored, starts, sizes = packed
        run = _Run((b"", -1), [], [])
        for row in rows:
            if sizes[row] != size:
                return False
            name, offset, start = names[row * 16 : row * 16 + 16], offsets[row], starts[row]
            digest = digests[row * 32 : row * 32 + 32]
            block = name, offset
            if block != run.block:
                run = _Run(block, [], [])
                runs.append(run)
                if block not in samples:
                    samples[block] = PackedSample(Place(name, offset, stored[row], start, size), digest, prefix)
            run.starts.append(start)
            run.digests.append(digest)
        return True

    def _take(self, run: _Run, raw: memoryview, out: npt.NDArray[np.uint8], places: list[int]) -> bool:
        """Compare the samples of a run with their digests, and copy them; False if one is not what it should be."""
        size, prefix, first, count = self._size, self._prefix, run.starts[0], len(places)
        if max(run.starts) + size > len(raw):
            return False
        # A block that is one sample was compared when it was read.
        if len(raw) != size:
            for start, digest in zip(run.starts, run.digests, strict=True):
                if blake3(prefix + raw[start : start + size]).digest() != digest:
                    return False
        begins = range(first, first + count * size, size)
        if places == list(range(places[0], places[0] + count)) and run.starts == list(begins):
            places, size, starts = places[:1], count * size, [first]
        else:
            starts = run.starts
        target: Any = out if size >= _LONG_SAMPLE else out.data
        source: Any = np.frombuffer(raw, np.uint8) if size >= _LONG_SAMPLE else raw
        for place, start in zip(places, starts, strict=True):
            begin = place * self._size
            target[begin : begin + size] = source[start : start + size]
        return True
