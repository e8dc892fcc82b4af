"""Blocks that follow each other in a pack, read as one range: one look, one request, one write to the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.object_source import Extent
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.packs import pack_path

_RUN_BYTES: Final = 2 * 1024 * 1024


def read_blocks(packs: PackReader, samples: Sequence[PackedSample]) -> list[memoryview]:
    """The decoded blocks of samples, one sample of each block; each block verified as `PackReader.read` does.

    Args:
        packs: where they are read from.
        samples: in the order of their blocks, as far as possible.

    Raises:
        as `PackReader.read`, without saying which sample it is about.
    """
    runs = _runs(samples)
    if len(runs) == len(samples):
        return packs._source.read_many([packs.extent(sample) for sample in samples])
    found: list[Any] = []
    missing: list[tuple[int, list[PackedSample]]] = []
    for run in runs:
        try:
            found.append(packs._source.read_local(_extent(packs, run)))
        except HangarError:
            missing.append((len(found), run))
            found.append(None)
    # Where some blocks of a run are here, the others are fetched one by one.
    extents = [
        [packs.extent(sample) for sample in run] if _some_here(packs, run) else [_extent(packs, run)]
        for _, run in missing
    ]
    if missing:
        fetched = iter(packs._source.read_many([extent for those in extents for extent in those]))  # type: ignore[misc]
        for (place, run), those in zip(missing, extents, strict=True):
            parts: list[Any] = [next(fetched) for _ in those]
            found[place] = parts[0] if len(parts) != len(run) or isinstance(parts[0], list) else parts
    return [block for blocks in found for block in blocks]


def _runs(samples: Sequence[PackedSample]) -> list[list[PackedSample]]:
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


def _extent(packs: PackReader, run: Sequence[PackedSample]) -> Extent[list[memoryview]]:
    """The part of a pack that holds a run, with the checks of its blocks."""
    extents = [packs.extent(sample) for sample in run]
    first = extents[0].offset

    def verify(data: memoryview, fetched: bool) -> list[memoryview]:
        return [e.verify(data[e.offset - first : e.offset - first + e.length], fetched) for e in extents]

    return Extent(pack_path(run[0].place.pack), first, extents[-1].offset + extents[-1].length - first, verify)


def _some_here(packs: PackReader, run: Sequence[PackedSample]) -> bool:
    """Whether blocks of a run that cannot be read as a whole are on this machine, judged by three of them."""
    return any(packs.is_local(sample) for sample in {id(s): s for s in (run[0], run[len(run) // 2], run[-1])}.values())
