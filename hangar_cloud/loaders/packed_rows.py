"""Many packed samples of one shape at once: each block is decoded once, each sample compared with its digest."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from itertools import chain, groupby
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.pack_reader import UNREADABLE, PackedSample
from hangar_cloud.backends.values import sample_digest, sample_digests
from hangar_cloud.brought_blocks import BroughtBlocks
from hangar_cloud.column import ColumnReader
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.whereabouts import Rows

# From here on numpy copies, which lets other threads go on meanwhile; it takes a microsecond to begin.
_LONG_SAMPLE: Final = 4096
_LOOK_SECONDS: Final = 0.01


class _OfLeaf(NamedTuple):
    """Samples wanted of one leaf: its digests, packs, offsets, stored lengths, starts and sizes, and their rows."""

    packed: tuple[bytes, bytes, list[int], list[int], list[int], list[int]]
    rows: list[int]

    def starts(self) -> Iterator[int]:
        """Where each sample begins in its block."""
        return map(self.packed[4].__getitem__, self.rows)

    def digests(self) -> list[bytes]:
        """Of each sample."""
        digests = self.packed[0]
        return [digests[row * 32 : row * 32 + 32] for row in self.rows]


class _Wanted(NamedTuple):
    """Samples that are wanted: the block of each, and what their leaves say of them, in the same order."""

    blocks: list[BlockName]
    leaves: list[_OfLeaf]


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
            wanted = self._planned(positions)
            if wanted is None:
                return False
            raws = self._brought.take(dict.fromkeys(wanted.blocks))
            samples = self._samples(wanted, raws)
            if samples:
                raws.update(zip(samples, self._column._packs.read_blocks(list(samples.values())), strict=True))
        except HangarError:
            return False
        target, goals = out.reshape(-1).view(np.uint8), places.tolist()
        if len(raws) == len(goals):
            return self._take_each(wanted, raws, target, goals)
        return self._take_runs(wanted, raws, target, goals)

    def bring(self, positions: Positions, is_kept: bool, held: bool = True) -> bool:
        """Hold samples in memory until they are read, or have them on this machine where there is no room; False where
        they would be fetched again.

        What cannot be read is told when it is.

        Args:
            positions: of the samples.
            is_kept: whether what is fetched now stays on this machine until it is read.
            held: whether this process is the one that reads them; else they are brought onto this machine alone.
        """
        packs = self._column._packs
        try:
            wanted = self._planned(positions)
            if wanted is None:
                return False
            samples = self._samples(wanted)
            if held:
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

    def drop(self, positions: Positions) -> None:
        """Hold nothing of some samples that were brought."""
        with suppress(HangarError):
            wanted = self._planned(positions)
            if wanted is not None:
                self._brought.take(wanted.blocks)

    def wait_for_others(self, positions: Positions, patience: float, is_over: Callable[[], bool]) -> bool:
        """Wait until samples are on this machine that other processes bring; False if none came for some seconds.

        Args:
            positions: of the samples.
            patience: seconds.
            is_over: asked whether to wait no longer.
        """
        try:
            wanted = self._planned(positions)
        except HangarError:  # told where it is read
            return True
        packs = self._column._packs
        absent = [] if wanted is None else packs.absent(list(self._samples(wanted).values()))
        since = time.monotonic()
        while absent and not is_over():
            if time.monotonic() - since > patience:
                return False
            time.sleep(_LOOK_SECONDS)
            left = packs.absent(absent)
            if len(left) < len(absent):
                since = time.monotonic()
            absent = left
            if not absent:
                # It is told by their first bytes: the others may be on their way to the disk.
                time.sleep(_LOOK_SECONDS)
        return True

    def _planned(self, positions: Positions) -> _Wanted | None:
        """What is wanted; None if a sample is not packed, or not of its column's size."""
        rows, schema = self._rows, self._column._entry.schema
        numbers = rows.leaf[positions]
        wanted = _Wanted([], [])
        begin = 0
        for end in [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(positions)]:
            leaf = self._column._nodes.leaf(rows.leaves[numbers[begin]], schema)
            if leaf.packed is None or leaf.values is not None:
                return None
            some = _OfLeaf(leaf.packed, rows.row[positions[begin:end]].tolist())
            _, packs, offsets, _, _, sizes = some.packed
            if set(map(sizes.__getitem__, some.rows)) != {self._size}:
                return None
            names = [packs[row * 16 : row * 16 + 16] for row in some.rows]
            wanted.blocks.extend(zip(names, map(offsets.__getitem__, some.rows), strict=True))
            wanted.leaves.append(some)
            begin = end
        return wanted

    def _samples(self, wanted: _Wanted, known: Container[BlockName] = ()) -> dict[BlockName, PackedSample]:
        """One sample of each block that is not known."""
        found: dict[BlockName, PackedSample] = {}
        blocks = iter(wanted.blocks)
        size, prefix = self._size, self._prefix
        for (digests, _, _, stored, starts, _), rows in wanted.leaves:
            # The rows come first: where they end, no block of the next leaf is taken.
            for row, block in zip(rows, blocks, strict=False):
                if block not in known and block not in found:
                    place = Place(*block, stored[row], starts[row], size)
                    found[block] = PackedSample(place, digests[row * 32 : row * 32 + 32], prefix)
        return found

    def _take_each(
        self, wanted: _Wanted, raws: dict[BlockName, memoryview], out: npt.NDArray[np.uint8], places: list[int]
    ) -> bool:
        """Compare samples of different blocks with their digests, and copy them; False if one is not what it should
        be."""
        size, prefix = self._size, self._prefix
        is_long = size >= _LONG_SAMPLE
        target: Any = out if is_long else out.data
        starts = chain.from_iterable(some.starts() for some in wanted.leaves)
        digests = chain.from_iterable(some.digests() for some in wanted.leaves)
        for block, place, start, digest in zip(wanted.blocks, places, starts, digests, strict=True):
            raw = raws[block]
            # A block that is one sample was compared when it was read.
            if len(raw) != size:
                raw = raw.cast("B")[start : start + size]
                if len(raw) != size or sample_digest(prefix, raw) != digest:
                    return False
            begin = place * size
            target[begin : begin + size] = np.frombuffer(raw, np.uint8) if is_long else raw.cast("B")
        return True

    def _take_runs(
        self, wanted: _Wanted, raws: dict[BlockName, memoryview], out: npt.NDArray[np.uint8], places: list[int]
    ) -> bool:
        """The same for samples of which some follow each other in a block."""
        starts = list(chain.from_iterable(some.starts() for some in wanted.leaves))
        digests = list(chain.from_iterable(some.digests() for some in wanted.leaves))
        done = 0
        for block, run in groupby(wanted.blocks):
            end = done + len(list(run))
            # Some codecs give signed bytes, which are not assigned to others.
            raw = raws[block].cast("B")
            if not self._take(starts[done:end], digests[done:end], raw, out, places[done:end]):
                return False
            done = end
        return True

    def _take(
        self,
        starts: list[int],
        digests: list[bytes],
        raw: memoryview,
        out: npt.NDArray[np.uint8],
        places: list[int],
    ) -> bool:
        """Compare the samples of a run with their digests, and copy them; False if one is not what it should be."""
        size, prefix, first, count = self._size, self._prefix, starts[0], len(places)
        if max(starts) + size > len(raw):
            return False
        # As in `_take_each`.
        if len(raw) != size and sample_digests(prefix, (raw[start : start + size] for start in starts)) != digests:
            return False
        begins = range(first, first + count * size, size)
        if places == list(range(places[0], places[0] + count)) and starts == list(begins):
            places, size, starts = places[:1], count * size, [first]
        target: Any = out if size >= _LONG_SAMPLE else out.data
        source: Any = np.frombuffer(raw, np.uint8) if size >= _LONG_SAMPLE else raw
        for place, start in zip(places, starts, strict=True):
            begin = place * self._size
            target[begin : begin + size] = source[start : start + size]
        return True
