"""Blocks that follow each other in a pack, read as one range: one look, one request, one write to the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError, HangarError, ObjectNotFoundError
from hangar_cloud.backends.extents import Extent
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.sample_extents import PackedSample, Purged, decoded_blocks, sample_extent

_RUN_BYTES: Final = 4 * 1024 * 1024
# What is held is not all used at the same time: each run is in memory of its own.
_HELD_BYTES: Final = 2 * 1024 * 1024
# What a run may fail with though each of its blocks can be read.
_PERHAPS_ONE_BY_ONE: Final = (CorruptDataError, DataNotLocalError, ObjectNotFoundError)

Numbers = list[int]


def read_runs(
    source: ObjectSource,
    samples: Sequence[PackedSample],
    find_purged: Purged,
    are_absent: bool = False,
    held: bool = False,
) -> list[memoryview]:
    """The decoded blocks of samples, one sample of each block; verified as `sample_extent` does.

    What is not here is fetched, a run at a time; where a run cannot be read as such, its blocks are read one by one.

    Args:
        source: where they are read from.
        samples: of different blocks, in any order.
        find_purged: asked of what was fetched.
        are_absent: whether all of them are known not to be here.
        held: whether what is fetched stays in memory until it is used, so that nobody reads it from here soon.

    Raises:
        CorruptDataError, DataNotLocalError, ObjectNotFoundError, HangarError: as `ObjectSource.read_many`, or what
            `find_purged` gives.
    """
    if len(samples) == 1 and not (are_absent or held):
        return source.read_many([sample_extent(samples[0], find_purged)])
    most = _HELD_BYTES if held else _RUN_BYTES
    here, absent, single = _sorted_out(source, samples, are_absent, most)
    raws: list[memoryview | None] = [None] * len(samples)
    for numbers in here:
        try:
            found = source.read_local(_run([samples[i] for i in numbers], find_purged))
            _put(raws, numbers, found)
        except _PERHAPS_ONE_BY_ONE:
            single += numbers
    if absent:
        try:
            runs = [_run([samples[i] for i in numbers], find_purged) for numbers in absent]
            fetched = source.fetch(runs, held)
            for numbers, found in zip(absent, fetched, strict=True):
                _put(raws, numbers, found)
        except _PERHAPS_ONE_BY_ONE:
            single += chain.from_iterable(absent)
    if single:
        _put(raws, single, source.read_many([sample_extent(samples[i], find_purged) for i in single]))
    return [raw for raw in raws if raw is not None]


def _put(raws: list[memoryview | None], numbers: Numbers, found: Sequence[memoryview]) -> None:
    for i, raw in zip(numbers, found, strict=True):
        raws[i] = raw


def _sorted_out(
    source: ObjectSource, samples: Sequence[PackedSample], are_absent: bool, most: int
) -> tuple[list[Numbers], list[Numbers], Numbers]:
    """The runs that seem to be here, those that do not, and what has to be looked for block by block, as numbers.

    Runs are of so many bytes at most, or of one block.
    """
    here: list[Numbers] = []
    absent: list[Numbers] = []
    single: Numbers = []
    for pack, numbers in _by_pack(samples).items():
        path = pack_path(pack)
        if not source.lies_in_one_piece(path):
            single += numbers
            continue
        spans = [samples[i].place[1:3] for i in numbers]
        are_here = [False] * len(spans) if are_absent else source.seem_local(path, spans)
        for run, is_here in _runs(numbers, spans, are_here, most):
            (here if is_here else absent).append(run)
    return here, absent, single


def _by_pack(samples: Sequence[PackedSample]) -> dict[bytes, Numbers]:
    """Numbers of samples by pack, in the order of their blocks."""
    places = [sample.place for sample in samples]
    found: dict[bytes, Numbers] = {}
    for i in sorted(range(len(places)), key=places.__getitem__):
        found.setdefault(places[i].pack, []).append(i)
    return found


def _runs(
    numbers: Numbers, spans: Sequence[tuple[int, int]], are_here: Sequence[bool], most: int
) -> Iterator[tuple[Numbers, bool]]:
    run: Numbers = []
    begin = end = 0
    was_here = False
    for i, (offset, stored), is_here in zip(numbers, spans, are_here, strict=True):
        if run and (offset != end or is_here != was_here or end + stored - begin > most):
            yield run, was_here
            run = []
        if not run:
            begin, was_here = offset, is_here
        run.append(i)
        end = offset + stored
    if run:
        yield run, was_here


def _run(samples: Sequence[PackedSample], find_purged: Purged) -> Extent[Sequence[memoryview]]:
    """The part of a pack that holds blocks which follow each other, with the checks of each."""
    first, last = samples[0].place, samples[-1].place
    begin = first.offset
    length = last.offset + last.stored - begin

    def verify(data: memoryview, fetched: bool) -> Sequence[memoryview]:
        # Bytes that a purge put in the place of others are of other lengths.
        if len(data) != length:
            raise CorruptDataError(f"{len(data)} bytes are there in the place of {length}")
        if fetched:
            _refuse_purged(samples, find_purged)
        return decoded_blocks(data, begin, samples, fetched)

    return Extent(pack_path(first.pack), begin, length, verify)


def _refuse_purged(samples: Sequence[PackedSample], find_purged: Purged) -> None:
    """Raise what is to be told of the first sample that was purged: a remote may still have it."""
    for sample in samples:
        found: HangarError | None = find_purged(sample.digest, True)
        if found is not None:
            raise found
