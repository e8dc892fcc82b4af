"""Samples on their way to this machine before they are read."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from hangar_cloud.backends.background import BACKGROUND
from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import HangarError
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.sample_extents import payload_of
from hangar_cloud.backends.store.ranges import DEFAULT_JOIN_GAP
from hangar_cloud.brought_blocks import BroughtBlocks
from hangar_cloud.catalog.segment_file import prepare_to_decode

_FIRST_BYTES: Final = 1024 * 1024
_MOST_PARTS: Final = 16
_LANES: Final = 5
_PART_BYTES: Final = 4 * 1024 * 1024
_PART_REQUESTS: Final = 10
# Stores join what is as near as this into one request.
_NEAR: Final = DEFAULT_JOIN_GAP


class Part(NamedTuple):
    """Samples to fetch together, one of each block; the bytes of the blocks; and the first row behind them."""

    samples: list[PackedSample]
    nbytes: int
    end: int


_NOTHING: Final = Part([], 0, 0)


class Prefetch:
    """Samples that are being fetched in the background. What goes wrong there is told when they are read.

    Args:
        parts: what to fetch, in this order; taken from in the background. None for nothing: no thread is started.
        packs: fetches it.
        wanted: asked before each request, whether to go on.
        window: fetch at most so many bytes beyond the row that was last told of by `at` (fewer at first, in case little
            is read); None for no bound.
        hold: have twice as many bytes of what was fetched in `held` until somebody takes them.
    """

    def __init__(
        self,
        parts: Iterator[Part] | None,
        packs: PackReader,
        wanted: Callable[[], bool],
        window: int | None = None,
        hold: bool = False,
    ) -> None:
        self.held: BroughtBlocks[PackedSample] | None = BroughtBlocks(2 * (window or 0)) if hold else None
        self._parts = parts or iter(())
        self._packs = packs
        self._wanted = wanted
        self._most = window
        self._window = window if window is None else min(window, _FIRST_BYTES)
        self._lock = ForkLock()
        self._planning = ForkLock()
        self._wanted_now: deque[Part] = deque()
        self._ahead: deque[Part] = deque()
        self._bytes = 0
        self._want = self._taken = 0
        self._running = 0
        self._ended = parts is None
        self._over = threading.Event()
        if self._ended:
            self._over.set()
        else:
            prepare_to_decode()
        self._process = os.getpid()
        self._start()

    @property
    def done(self) -> bool:
        """True once nothing more will be fetched: all is here, or it was cancelled, or failed."""
        return self._over.is_set() or not self._is_mine

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done; False if it is not after `timeout` seconds."""
        return self.done or self._over.wait(timeout)

    def cancel(self) -> None:
        """Send no further request."""
        with self._lock.lock:
            self._ended = True
            if not self._running:
                self._over.set()

    def at(self, row: int) -> None:
        """Rows before this one were read: as much more may be fetched."""
        with self._lock.lock:
            self._is_wanted(row)
            while self._wanted_now and self._wanted_now[0].end <= row:
                self._wanted_now.popleft()
                if self._window is not None and self._most is not None:
                    self._window = min(self._window * 2, self._most)
        self._start()

    def help(self, row: int) -> None:
        """Fetch what comes before a row, which is wanted now, together with the background.

        It returns when all of it is here or on its way. What goes wrong is told when it is read.
        """
        with self._lock.lock:
            self._is_wanted(row)
        self._start()
        with suppress(HangarError):
            while self._is_mine and self._taken < row and (part := self._take()) and part is not _NOTHING:
                self._fetch(part)

    @property
    def _is_mine(self) -> bool:
        """False in a forked child, which has not the threads that would go on."""
        return os.getpid() == self._process

    def _start(self) -> None:
        if not self._is_mine:
            return
        with self._lock.lock:
            while not self._ended and self._running < _LANES and self._has_room():
                if not BACKGROUND.submit(self._go_on):
                    self._ended = True
                    self._over.set()
                    return
                self._running += 1

    def _has_room(self) -> bool:
        return self._window is None or (self._bytes < self._window and len(self._ahead) < _MOST_PARTS)

    def _go_on(self) -> None:
        """Fetch one part, and hand in the next."""
        ended = True
        try:
            part = self._take()
            if part is not None:
                self._fetch(part)
            ended = part is None
        finally:
            with self._lock.lock:
                self._running -= 1
                self._ended = self._ended or ended
                if self._ended and not self._running:
                    self._over.set()
        self._start()

    def _take(self) -> Part | None:
        """The next part, an empty one where it has to wait for `at`; None at the end."""
        with self._planning.lock:
            if self._ended or not self._wanted():
                return None
            if not self._has_room():
                return _NOTHING
            part = next(self._parts, None)
            if part is not None:
                with self._lock.lock:
                    self._note(part)
            return part

    def _note(self, part: Part) -> None:
        """Count a part that is going to be fetched."""
        self._taken = max(self._taken, part.end)
        if self._window is not None:
            self._ahead.append(part)
            self._bytes += part.nbytes
            self._is_wanted(self._want)

    def _is_wanted(self, row: int) -> None:
        """Parts before a row are not ahead any more."""
        self._want = max(self._want, row)
        while self._ahead and self._ahead[0].end <= self._want:
            part = self._ahead.popleft()
            self._bytes -= part.nbytes
            self._wanted_now.append(part)

    def _fetch(self, part: Part) -> None:
        absent = {sample.place[:2]: sample for sample in self._packs.absent(part.samples)}
        with self._packs.arriving.bringing(absent) as mine:
            # What somebody is fetching already is left to them: waiting for it here might be waiting for each other.
            samples = [absent[name] for name in mine]
            if samples and self.held is None:
                self._packs.read_many(samples)
            elif samples and self.held is not None:
                with self.held.promised(sum(sample.place.size for sample in samples)) as fits:
                    # Not remembered as decoded blocks are, which would keep the memory that they were received into.
                    raws = self._packs.read_blocks(samples, are_absent=True, held=fits)
                    self.held.keep({s: payload_of(raw, s.place) for s, raw in zip(samples, raws, strict=True)})


def part_sizes(window: int) -> Iterator[int]:
    """How many bytes parts have that are fetched ahead: small ones first, in case no more is read, and then a share."""
    most = max(min(_PART_BYTES, window // 4), 1)
    size = min(_FIRST_BYTES // 8, most)
    while True:
        yield size
        size = min(size * 2, most)


def parts_of(samples: Sequence[PackedSample], sizes: Iterator[int] | None = None) -> Iterator[Part]:
    """Samples of different blocks, cut into parts of a few requests each, and of some bytes at most."""
    part: list[PackedSample] = []
    nbytes = requests = 0
    last: Place | None = None
    most = _PART_BYTES if sizes is None else next(sizes)
    for sample in samples:
        place = sample.place
        apart = last is None or last.pack != place.pack or not 0 <= place.offset - last.offset <= _NEAR
        if part and (nbytes + place.stored > most or requests + apart > _PART_REQUESTS):
            yield Part(part, nbytes, 0)
            part, nbytes, requests = [], 0, 0
            most = _PART_BYTES if sizes is None else next(sizes)
        part.append(sample)
        nbytes += place.stored
        requests += apart or not requests
        last = place
    if part:
        yield Part(part, nbytes, 0)
