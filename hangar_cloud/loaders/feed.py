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
from hangar_cloud.loaders.source import MOST_BLOCK, SampleSource

_READERS: Final = 8
_WINDOW_READERS: Final = 16
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
    what has to be fetched is fetched by whole windows, in the middle of which steps may end, and while one portion is
    read, the windows of the next two are on their way.

    Raises:
        as `ColumnReader.get_batch`, at the step that has the sample which cannot be read.
    """
    if source.has_all:
        yield from _from_memory(source, order, steps)
        return
    portions = _portions(source, order, steps, portion_bytes)
    with closing(_Reader(source, order if alone else None, portion_bytes)) as reader:
        reader.start_more(portions)
        while reader.reading:
            portion, future = reader.reading.popleft()
            read = future.result()
            reader.start_more(portions)
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

    def __init__(self, source: SampleSource, windows: EpochOrder | None, portion_bytes: int) -> None:
        self._source = source
        local = all(field.column._storage.holds_everything for field in source.fields.values())
        # What is here already is decoded by one thread at a time anyway.
        self._ahead = ThreadPoolExecutor(1 if local else _AHEAD, "hangar-loader")
        # A few samples of each block of a window are a request each; blocks that small samples share come as a whole.
        useful = windows is not None and windows.windowed and source.sample_bytes >= GROUP_BYTES and not local
        self._windows = windows if useful else None
        # Then what is read was brought, and is copied without a wait.
        self._whole = useful and source.can_bring
        # What they fetch at once is to be no more than a portion.
        most = max(portion_bytes // max(source.sample_bytes, MOST_BLOCK), _AHEAD)
        readers = min(most, _WINDOW_READERS) if self._whole else _READERS
        self._pool = None if local else ThreadPoolExecutor(readers, "hangar-loader")
        self._bringers = ThreadPoolExecutor(_AHEAD, "hangar-loader") if useful else None
        self._brought = self._windows_begun = 0
        self._bringing: Future[None] | None = None
        self._coming: deque[tuple[_Portion, Future[None] | None]] = deque()
        self.reading: deque[tuple[_Portion, Future[Any]]] = deque()

    def start_more(self, portions: Iterator[_Portion]) -> None:
        """Begin to read further portions, as far as there is room; they are in `reading`, in their order."""
        windows = self._windows
        by_windows = windows is not None and self._whole
        most, most_read = (1 + _AHEAD, 1) if by_windows else (_AHEAD, _AHEAD)
        for portion in islice(portions, max(most - len(self._coming) - len(self.reading), 0)):
            if windows is not None and len(portion.positions):
                self._bring_windows(windows, portion.steps[0][1], portion.steps[-1][2])
            self._coming.append((portion, self._bringing))
        while self._coming and len(self.reading) < most_read:
            portion, bringing = self._coming.popleft()
            self.reading.append((portion, self._ahead.submit(self._read, portion, bringing)))

    def _bring_windows(self, order: EpochOrder, start: int, stop: int) -> None:
        """Begin to fetch the windows of some places in the epoch, as far as that was not begun before."""
        start, end = max(start, self._brought), order.window_end(stop - 1)
        if start < end and self._bringers is not None:
            # By threads of its own: while portions are copied, the next windows are on their way. The first one comes
            # alone, since somebody waits for it.
            after = self._windows_begun == 1
            self._bringing = self._bringers.submit(self._bring, order.positions(start, end), self._bringing, after)
            self._brought = end
            self._windows_begun += 1

    def _bring(self, positions: Positions, before: Future[None] | None, after: bool) -> None:
        """Fetch samples, at the same time as the window before or `after` it, and return when both are here."""
        if before is not None and after:
            before.result()
        if self._pool is not None and self._windows is not None and not self._source.bring(positions, self._pool):
            self._windows = None
        if before is not None:
            before.result()

    def _read(
        self, portion: _Portion, bringing: Future[None] | None
    ) -> tuple[dict[str, Values], Positions | None] | None:
        if bringing is not None:
            bringing.result()
        try:
            # The pool is to go on bringing while what was brought is copied.
            pool = None if self._whole and self._windows is not None else self._pool
            return self._source.read(portion.positions, pool)
        except HangarError:
            return None

    def close(self) -> None:
        """Stop, as soon as what is being read is there."""
        # The pool first: who brings a window would wait for all of it.
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for threads in (self._bringers, self._ahead, self._pool):
            if threads is not None:
                threads.shutdown(cancel_futures=True)
        self._source.let_go()
