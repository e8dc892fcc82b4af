"""Batches of steps, read ahead in a bounded share of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np

from hangar_cloud.backends.blocks import GROUP_BYTES
from hangar_cloud.errors import HangarError
from hangar_cloud.loaders.fields import Values
from hangar_cloud.loaders.order import EpochOrder
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.source import SampleSource

_READERS: Final = 8
_AHEAD: Final = 2
_FIRST_BYTES: Final = 4 * 1024 * 1024
_GROWTH: Final = 4
_SAMPLE_OVERHEAD: Final = 64

Step = tuple[int, int, int]
"""A step's number, and where its part of the epoch begins and ends."""


class _Portion(NamedTuple):
    """Steps whose samples are read together, and these samples' positions."""

    steps: list[Step]
    positions: Positions


def batches(
    source: SampleSource, order: EpochOrder, steps: Iterator[Step], portion_bytes: int, alone: bool = False
) -> Iterator[tuple[int, Positions, dict[str, Any]]]:
    """The number, positions and batch of each step, in their order.

    Samples are read in portions: as much of a window as `portion_bytes` takes. While one is used up, the next two are
    read in threads; so three times as many bytes are held. `alone` says that these steps are all of the epoch: then
    what has to be fetched is fetched by whole windows, in the middle of which steps may end.

    Raises:
        as `ColumnReader.get_batch`, at the step that has the sample which cannot be read.
    """
    if source.has_all:
        yield from _from_memory(source, order, steps)
        return
    portions = _portions(source, order, steps, portion_bytes)
    with closing(_Reader(source, order if alone else None)) as reader:
        ahead = deque(reader.start(portion) for portion in islice(portions, _AHEAD))
        while ahead:
            portion, future = ahead.popleft()
            read = future.result()
            ahead.extend(reader.start(portion) for portion in islice(portions, 1))
            yield from _of_portion(source, portion, read)


def _from_memory(
    source: SampleSource, order: EpochOrder, steps: Iterator[Step]
) -> Iterator[tuple[int, Positions, dict[str, Any]]]:
    for number, start, stop in steps:
        positions = order.positions(start, stop)
        yield number, positions, source.kept(positions)


def _of_portion(
    source: SampleSource, portion: _Portion, read: tuple[dict[str, Values], Positions | None] | None
) -> Iterator[tuple[int, Positions, dict[str, Any]]]:
    done = 0
    for number, start, stop in portion.steps:
        end = done + stop - start
        positions = portion.positions[done:end]
        if read is None:
            # Read step by step, so that the error comes where its sample does.
            batch = source.read_batch(positions)
        elif read[1] is None:
            batch = source.part(read[0], done, end)
        else:
            batch = source.batch(read[0], read[1][done:end])
        done = end
        yield number, positions, batch


def _portions(source: SampleSource, order: EpochOrder, steps: Iterator[Step], portion_bytes: int) -> Iterator[_Portion]:
    """Steps as they are read together: few at first, so that the first batch does not wait for many others."""
    taken: list[Step] = []
    parts: list[Positions] = []
    # Small samples share blocks. Some of a mixed window lie in most of them, and all would be decoded again.
    whole = order.windowed or (order.mixes and source.sample_bytes < GROUP_BYTES)
    limit = portion_bytes if whole else min(_FIRST_BYTES, portion_bytes)
    room, end = limit, 0
    for step in steps:
        _, start, stop = step
        positions = order.positions(start, stop)
        size = source.bytes_of(positions) + _SAMPLE_OVERHEAD * len(positions)
        if taken and (start >= end or size > room):
            yield _Portion(taken, np.concatenate(parts))
            limit = min(limit * _GROWTH, portion_bytes)
            taken, parts, room = [], [], limit
        if not taken and start < order.count:
            end = order.window_end(start)
        taken.append(step)
        parts.append(positions)
        room -= size
    if taken:
        yield _Portion(taken, np.concatenate(parts))


class _Reader:
    """Reads portions in threads of its own, parts of them in some more where they have to be fetched."""

    def __init__(self, source: SampleSource, windows: EpochOrder | None) -> None:
        self._source = source
        local = all(field.column._storage.holds_everything for field in source.fields.values())
        # What is here already is decoded by one thread at a time anyway.
        self._ahead = ThreadPoolExecutor(1 if local else _AHEAD, "hangar-loader")
        self._pool = None if local else ThreadPoolExecutor(_READERS, "hangar-loader")
        # A few samples of each block of a window are a request each; blocks that small samples share come as a whole.
        useful = windows is not None and windows.windowed and source.sample_bytes >= GROUP_BYTES and not local
        self._windows = windows if useful else None
        self._brought = 0
        self._bringing: Future[None] | None = None

    def start(self, portion: _Portion) -> tuple[_Portion, Future[Any]]:
        """Begin to read a portion."""
        if self._windows is not None and len(portion.positions):
            self._bring_windows(self._windows, portion.steps[0][1], portion.steps[-1][2])
        return portion, self._ahead.submit(self._read, portion, self._bringing)

    def _bring_windows(self, order: EpochOrder, start: int, stop: int) -> None:
        """Begin to fetch the windows of some places in the epoch, as far as that was not begun before."""
        start, end = max(start, self._brought), order.window_end(stop - 1)
        if start < end:
            self._brought = end
            # Before the portion in the same queue, so that who waits for it never holds the thread that it needs.
            self._bringing = self._ahead.submit(self._bring, order.positions(start, end))

    def _bring(self, positions: Positions) -> None:
        if self._pool is not None and self._windows is not None and not self._source.bring(positions, self._pool):
            self._windows = None

    def _read(
        self, portion: _Portion, bringing: Future[None] | None
    ) -> tuple[dict[str, Values], Positions | None] | None:
        if bringing is not None:
            bringing.result()
        try:
            return self._source.read(portion.positions, self._pool)
        except HangarError:
            return None

    def close(self) -> None:
        """Stop, as soon as what is being read is there."""
        self._ahead.shutdown(cancel_futures=True)
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._source.let_go()
