"""Blocks that follow each other in a pack, read as one range: one look, one request, one write to the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.object_source import Extent
from hangar_cloud.backends.pack_reader import PackedSample, PackReader

_RUN_BYTES: Final = 2 * 1024 * 1024


def read_blocks(packs: PackReader, samples: Sequence[PackedSample]) -> list[memoryview]:
    """The decoded blocks of samples, one sample of each block; each block verified as `PackReader.read` does.

    Args:
        packs: where they are read from.
        samples: in the order of their blocks, as far as possible.

    Raises:
        as `PackReader.read`, without saying which sample it is about.
    """
    runs = [_Run(packs, members) for members in _neighbours(samples)]
    found: list[list[memoryview] | None] = [_read_local(packs, run) for run in runs]
    missing = [i for i, blocks in enumerate(found) if blocks is None]
    if missing:
        # Where some blocks of a run are here, the others are fetched one by one.
        asked = [
            [_single(part) for part in runs[i].parts] if _some_here(packs, runs[i]) else [runs[i].extent]
            for i in missing
        ]
        came = iter(packs._source.read_many([extent for extents in asked for extent in extents]))
        for i, extents in zip(missing, asked, strict=True):
            found[i] = [block for _ in extents for block in next(came)]
    return [block for blocks in found if blocks is not None for block in blocks]


class _Run:
    """Blocks that follow each other: the part of a pack that holds them, with the checks of each."""

    def __init__(self, packs: PackReader, samples: Sequence[PackedSample]) -> None:
        self.samples = samples
        self.parts = [packs.extent(sample) for sample in samples]
        first, last = self.parts[0], self.parts[-1]
        self.extent = Extent(first.path, first.offset, last.offset + last.length - first.offset, self._verify)

    def _verify(self, data: memoryview, fetched: bool) -> list[memoryview]:
        first = self.parts[0].offset
        return [e.verify(data[e.offset - first : e.offset - first + e.length], fetched) for e in self.parts]


def _neighbours(samples: Sequence[PackedSample]) -> list[list[PackedSample]]:
    runs: list[list[PackedSample]] = []
    end, size = (b"", -1), 0
    for sample in samples:
        place = sample.place
        if (place.pack, place.offset) != end or size + place.stored > _RUN_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(sample)
        end, size = (place.pack, place.offset + place.stored), size + place.stored
    return runs


def _read_local(packs: PackReader, run: _Run) -> list[memoryview] | None:
    try:
        return packs._source.read_local(run.extent)
    except HangarError:
        return None


def _single(part: Extent[memoryview]) -> Extent[list[memoryview]]:
    """An extent whose value is a list of one block."""
    return Extent(part.path, part.offset, part.length, lambda data, fetched: [part.verify(data, fetched)])


def _some_here(packs: PackReader, run: _Run) -> bool:
    """Whether blocks of a run that cannot be read as a whole are on this machine, judged by three of them."""
    if len(run.parts) == 1:
        return False
    return any(packs._source.is_local(run.parts[i]) for i in {0, len(run.parts) // 2, len(run.parts) - 1})
