"""Samples of an epoch that are fetched before they are read: in its order, as far as there is room for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from typing import Final, NamedTuple

from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.loaders.order import EpochOrder
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.source import SampleSource

# So many seconds without a sample that another process should bring, twice, and it is taken for one that does not. It
# may be so much later in beginning than this one: a machine with too much to do took two seconds for the first request.
_PATIENCE: Final = 2.0
_BEGINNING: Final = 5.0


class Share(NamedTuple):
    """Which of the processes on this machine that read an epoch at the same time, step by step, this one is.

    Attributes:
        number: its number, from 0.
        processes: how many they are.
        begin: where in the epoch the first of them begins: all count its parts from there.
    """

    number: int
    processes: int
    begin: int


class _Part(NamedTuple):
    """Neighbouring samples that are fetched together, and where the window begins for which they are."""

    positions: Positions
    start: int


class Bringer:
    """Brings what an epoch opens to this process, from a place on to its end; or one share of it to this machine.

    Args:
        source: of the samples.
        order: of the epoch.
        place: where in it to begin.
        pool: fetches in it.
        threads: parts that are fetched at once.
        room: bytes that are held, or on their way, before somebody waits for them.
        share: with more processes than this one each brings some parts, and so far ahead that `room` bytes of what this
            machine gets come in the epoch before them. None if there is no other.

    `in_vain` says that what was brought is not kept, or that others bring nothing: nothing more is brought, and samples
    are best read as if nothing were.
    """

    def __init__(
        self,
        source: SampleSource,
        order: EpochOrder,
        place: int,
        pool: Executor,
        threads: int,
        room: int,
        share: Share | None = None,
    ) -> None:
        self.in_vain = False
        self._share = share or Share(0, 1, place)
        self._is_shared = self._share.processes > 1
        self._source = source
        self._order = order
        self._pool = pool
        self._threads = threads
        self._room = room
        self._parts = self._planned(order.for_planning(), self._share.begin if self._is_shared else place)
        self._upcoming: _Part | None = None
        self._begun = False
        self._planning = ForkLock()
        self._changed = threading.Condition()
        self._under_way: list[int] = []
        self._running = 0
        self._next = self._wanted = place
        self._count = order.count
        self._most_open = order.most_open * source.sample_bytes
        self._error: BaseException | None = None
        self._over = False
        self._waited_in_vain = 0
        self._all_begin = time.monotonic() + _BEGINNING

    def go_on(self) -> None:
        """Begin to fetch more, as far as there is room by now."""
        with self._changed:
            while not self._over and self._running < self._threads and self._has_room():
                try:
                    self._pool.submit(self._bring_one)
                except RuntimeError:  # the program ends
                    self._end()
                    return
                self._running += 1

    def wait(self, end: int) -> None:
        """Wait until what comes before a place in the epoch is here, or will not be brought.

        Raises CancelledError after `stop`, and what goes wrong with the program.
        """
        with self._changed:
            self._wanted = max(self._wanted, end)
        self.go_on()
        with self._changed:
            self._changed.wait_for(lambda: self._over or min([self._next, *self._under_way]) >= end)
            if self._error is not None:
                raise self._error

    @property
    def goes_on(self) -> bool:
        """Whether something is still being brought, or will be."""
        return not self.in_vain and (self._running > 0 or self._next < self._count)

    def wait_for_others(self, positions: Positions) -> None:
        """Wait for samples that other processes bring. If none of them come for some seconds, twice, give up.

        Raises as `wait`.
        """
        if not self._is_shared or self.in_vain:
            return
        patience = max(_PATIENCE, self._all_begin - time.monotonic())
        came = self._source.wait_for_others(positions, patience, lambda: self._over)
        if self._error is not None:
            raise self._error
        self._waited_in_vain = 0 if came else self._waited_in_vain + 1
        if self._waited_in_vain > 1:
            self._source.shares_in_vain = True
            self.give_up()

    def let_go(self, start: int, stop: int) -> None:
        """Hold nothing of the global batch that has some places, once these were read: the rest goes elsewhere."""
        if not self._is_shared:
            self._source.drop(self._order.given_away(start, stop))

    def finish(self) -> None:
        """Bring all of the share, if others have theirs. Raises as `wait`."""
        if self._is_shared and not self.in_vain:
            self.wait(self._count)

    def give_up(self) -> None:
        """Bring nothing more, since it is no use."""
        self.in_vain = True
        self._end()

    def stop(self) -> None:
        """Begin nothing more, and let nobody wait."""
        self._end(CancelledError())

    def _end(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._over = True
            self._error = self._error or error
            self._changed.notify_all()

    def _has_room(self) -> bool:
        if self._next >= self._count:
            return False
        if self._is_shared:
            return (self._next - self._wanted) * self._source.sample_bytes <= self._room * self._order.machines
        # What is wanted now is fetched in any case.
        ahead = (self._running + 1) * self._source.strip_bytes
        return self._next < self._wanted or self._source.brought_bytes + ahead <= self._room

    def _bring_one(self) -> None:
        """Bring the next part, and begin with another one."""
        part = None
        try:
            part = self._take()
            if part is not None and not self._brought(part.positions):
                self.give_up()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._end(error)
        finally:
            with self._changed:
                self._running -= 1
                if part is not None:
                    self._under_way.remove(part.start)
                self._changed.notify_all()
        self.go_on()

    def _brought(self, positions: Positions) -> bool:
        return self._source.bring(positions, self._most_open, held=not self._is_shared)

    def _take(self) -> _Part | None:
        """The next part; the one behind it is planned, so that it is known where the next ones begin."""
        with self._planning.lock:
            if self._over:
                return None
            if not self._begun:
                self._begun, self._upcoming = True, next(self._parts, None)
            part, self._upcoming = self._upcoming, next(self._parts, None)
            with self._changed:
                self._next = self._count if self._upcoming is None else self._upcoming.start
                if part is not None:
                    self._under_way.append(part.start)
        return part

    def _planned(self, order: EpochOrder, place: int) -> Iterator[_Part]:
        goes_on = True
        parts = 0
        while place < order.count:
            for positions in order.opened(place, goes_on):
                for neighbours in self._source.strips(positions):
                    if parts % self._share.processes == self._share.number:
                        yield _Part(neighbours, place)
                    parts += 1
            goes_on, place = False, order.opening_end(place)
