"""Batches of steps, read ahead in a bounded share of memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import chain, islice
from typing import Any, Final, NamedTuple

import numpy as np

from hangar_cloud.backends.blocks import GROUP_BYTES
from hangar_cloud.backends.store.reception import held_for
from hangar_cloud.errors import HangarError
from hangar_cloud.loaders.bringing import Bringer, Share
from hangar_cloud.loaders.fields import Values
from hangar_cloud.loaders.order import EpochOrder
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.source import SampleSource

_READERS: Final = 8
_WINDOW_READERS: Final = 12
_AHEAD: Final = 2
_COPIED_BYTES: Final = 16 * 1024 * 1024
_FIRST_BYTES: Final = 4 * 1024 * 1024
_GROWTH: Final = 4
_SAMPLE_OVERHEAD: Final = 64
# A worker of a data loader has two that are not used yet, as it comes, and reads a third one and a fourth.
_BATCHES_APART: Final = 4

_here: Final = threading.local()

Step = tuple[int, int, int]
"""A step's number, and where its part of the epoch begins and ends."""


class _Portion(NamedTuple):
    """Steps whose samples are read together, and these samples' positions."""

    steps: list[Step]
    positions: Positions


def batches(
    source: SampleSource,
    order: EpochOrder,
    steps: Iterator[Step],
    portion_bytes: int,
    share: Share | None = None,
) -> Iterator[tuple[int, Positions, dict[str, Any]]]:
    """The number, positions and batch of each step, in their order.

    Samples are read in portions: as much of a window as `portion_bytes` takes. While one is used up, the next two are
    read in threads; so three times as many bytes are held.

    `share` says that these steps, with those of other processes on this machine at the same time if there are any, are
    all of the epoch. Then what has to be fetched is fetched by whole windows, in the middle of which steps may end, as
    far ahead as there is room for what was brought.

    Raises:
        as `ColumnReader.get_batch`, at the step that has the sample which cannot be read.
    """
    if source.has_all:
        yield from _from_memory(source, order, steps)
        return
    first = next(steps, None)
    if first is None:
        return
    steps = chain([first], steps)
    with closing(_Reader(source, order, first, portion_bytes, share)) as reader:
        portions = _portions(source, order, steps, reader.portion_bytes)
        reader.start_more(portions)
        while reader.reading:
            portion, future = reader.reading.popleft()
            read = future.result()
            reader.start_more(portions)
            yield from _of_portion(source, portion, read)
        reader.finish()


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


def _by_windows(source: SampleSource, order: EpochOrder, batch: int, share: Share | None) -> bool:
    """Whether samples are best fetched by windows before they are read, for batches of so many bytes."""
    if share is None:
        return False
    # A few samples of each block of a window are a request each; blocks that small samples share come as a whole.
    if not order.opens or source.sample_bytes < GROUP_BYTES:
        return False
    size = order.most_open * source.sample_bytes
    if share.processes > 1:
        return source.can_share(order.machines)
    return source.can_bring_at_once(size, max(batch, _COPIED_BYTES))


def _be_a_reader() -> None:
    """Let it be known that the thread in which this is called reads for a loader."""
    _here.is_reader = True


class _Reader:
    """Reads portions in threads of its own, parts of them in some more where they have to be fetched.

    Args:
        source: of the samples.
        order: of the epoch.
        first: the step to begin with.
        portion_bytes: of a portion, at most.
        share: as `batches` has it. With it they are fetched by windows, if that is of use, else as portions need them.

    `portion_bytes` are what it is best given.
    """

    def __init__(
        self, source: SampleSource, order: EpochOrder, first: Step, portion_bytes: int, share: Share | None
    ) -> None:
        _, place, end = first
        self._source = source
        self._bringer: Bringer | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._held = ExitStack()
        self.reading: deque[tuple[_Portion, Future[Any]]] = deque()
        self.portion_bytes = portion_bytes
        self._most = ahead = _AHEAD
        if all(field.column._storage.holds_everything for field in source.fields.values()):
            # What is here already is decoded by one thread at a time anyway.
            ahead = 1
        elif share is None or not _by_windows(source, order, (end - place) * source.sample_bytes, share):
            self._pool = self._threads(_READERS)
        else:
            # What they fetch at once is to be no more than a portion.
            most = max(min(portion_bytes // source.strip_bytes, _WINDOW_READERS // share.processes), _AHEAD)
            self._pool = self._threads(most)
            room = source.brought_room
            if share.processes > 1:
                # The slowest of them brings what the quickest waits for.
                room += _BATCHES_APART * share.processes * (end - place) * source.sample_bytes
            self._bringer = Bringer(source, order, place, self._pool, most, room, share)
            self._bringer.go_on()
            self.portion_bytes = portion_bytes * 2 // 3
            if source.can_bring:
                # What was brought is only copied: without a wait, and small portions cost no more.
                self.portion_bytes, self._most = min(portion_bytes, _COPIED_BYTES), 1
                self._held.enter_context(held_for(source.brought_room))
        self._ahead = self._threads(ahead)

    def _threads(self, most: int) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(most, "hangar-loader", _be_a_reader)

    def start_more(self, portions: Iterator[_Portion]) -> None:
        """Begin to read further portions, as far as there is room; they are in `reading`, in their order."""
        for portion in islice(portions, max(self._most - len(self.reading), 0)):
            self.reading.append((portion, self._ahead.submit(self._read, portion)))

    def _read(self, portion: _Portion) -> tuple[dict[str, Values], Positions | None] | None:
        bringer, pool = self._bringer, self._pool
        if bringer is not None:
            bringer.wait(portion.steps[-1][2])
            bringer.wait_for_others(portion.positions)
            if self._source.can_bring and bringer.goes_on:
                # The pool is to go on bringing while what was brought is copied.
                pool = None
        try:
            return self._source.read(portion.positions, pool)
        except HangarError:
            return None
        finally:
            if bringer is not None:
                for _, start, stop in portion.steps:
                    bringer.let_go(start, stop)
                bringer.go_on()

    def finish(self) -> None:
        """Bring what is left of the share of this process, where others wait for it."""
        if self._bringer is not None:
            self._bringer.finish()

    def close(self) -> None:
        """Stop, as soon as what is being read is there."""
        if getattr(_here, "is_reader", False):
            # The collector finds in any thread that nobody has an iterator any more. One that reads would wait for
            # itself, or another one of the same samples for what it holds a lock of.
            with suppress(RuntimeError):
                threading.Thread(target=self._close, name="hangar-loader", daemon=True).start()
        else:
            self._close()

    def _close(self) -> None:
        with self._held:
            # The pool first: who waits for what is brought would wait for all of it.
            if self._bringer is not None:
                self._bringer.stop()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            for threads in (self._ahead, self._pool):
                if threads is not None:
                    threads.shutdown(cancel_futures=True)
            self._source.let_go()
