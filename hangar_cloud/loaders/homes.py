"""Which machine of several gets what of each global batch: what lies in strips that are its own (pure: no I/O).

A global batch stays what it is. Within it samples are dealt to machines by where their bytes lie: strips of neighbours
belong to machines in turns, in all epochs alike. So a machine fetches whole strips, and has them from then on, where
otherwise it would fetch some samples of every strip there is, and others the next time. As every machine gets its part
of each batch and no more, what is left over of one goes to those that lack some.
"""

from __future__ import annotations

from copy import copy
from typing import Final

import numpy as np

from hangar_cloud.loaders.order import EpochOrder
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.shares import Shares

# What else a machine gets of a batch is fetched for as many batches at a time as have so many samples.
_LEAST_OPENED: Final = 64


class Homes:
    """Machines that samples are at home on.

    Args:
        edges: where strips of neighbours begin, and the number of samples: increasing positions, from 0.
        machines: how many they are.
    """

    def __init__(self, edges: Positions, machines: int) -> None:
        self._edges = edges
        self.machines = machines

    def of(self, positions: Positions) -> Positions:
        """The machines of samples, as numbers from 0."""
        found: Positions = (np.searchsorted(self._edges, positions, "right") - 1) % self.machines
        return found


class DealtOrder(EpochOrder):
    """An order whose global batches come with the samples of each machine in that machine's part of them.

    What is `opened` is what one of the machines fetches: its own strips, and what else it gets of a batch.

    Args:
        order: of the epoch.
        homes: of the samples.
        machine: the one that fetches, from 0.
        shares: of any rank, of equal numbers on all machines; ranks of a machine follow each other.
    """

    def __init__(self, order: EpochOrder, homes: Homes, machine: int, shares: Shares) -> None:
        self._order = order
        self._homes = homes
        self._machine = machine
        self._start, self._size = shares.start, shares.batch_size
        self._opened_size = -(-_LEAST_OPENED // self._size) * self._size
        self.count = order.count
        self.mixes, self.windowed, self.opens = order.mixes, order.windowed, order.opens
        self.machines = homes.machines
        self._kept: tuple[int, Positions] | None = None

    def positions(self, start: int, stop: int) -> Positions:
        parts = [np.empty(0, np.int64)]
        while start < stop:
            begin, end = self._around(start, self._size)
            parts.append(self._dealt(begin, end)[start - begin : stop - begin])
            start = end
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def window_end(self, place: int) -> int:
        return self._order.window_end(place)

    def opening_end(self, place: int) -> int:
        return self._around(place, self._opened_size)[1]

    def opened(self, place: int, goes_on: bool) -> list[Positions]:
        begin, end = self._around(place, self._size)[0], self.opening_end(place)
        parts: list[Positions] = []
        # A sample of a batch may come before those of its window do.
        reached = begin if goes_on else self._order.opening_end(begin - 1)
        while reached < end:
            parts += self._order.opened(reached, goes_on)
            goes_on, reached = False, self._order.opening_end(reached)
        own = [positions[self._homes.of(positions) == self._machine] for positions in parts]
        others = []
        for batch in range(begin, end, self._size):
            part, _ = self._parted(batch)
            others.append(part[self._homes.of(part) != self._machine])
        own.append(np.sort(np.concatenate(others)))
        return [positions for positions in own if len(positions)]

    def given_away(self, start: int, stop: int) -> Positions:
        _, others = self._parted(self._around(start, self._size)[0])
        found: Positions = others[self._homes.of(others) == self._machine]
        return found

    def for_planning(self) -> EpochOrder:
        found = copy(self)
        found._order = self._order.for_planning()
        return found

    @property
    def most_open(self) -> int:
        # What is open is not at home on all machines alike.
        most = self._order.most_open
        return min(most, 2 * most // self.machines + self._opened_size)

    def _around(self, place: int, size: int) -> tuple[int, int]:
        """Begin and end of as many samples, counted from where the epoch is begun, amid which a place is."""
        begin = place - (place - self._start) % size
        return begin, min(begin + size, self.count)

    def _parted(self, begin: int) -> tuple[Positions, Positions]:
        """The part of this machine of the batch that begins at a place, and all other parts."""
        _, end = self._around(begin, self._size)
        first, last = parts_of(end - begin, self.machines)[self._machine : self._machine + 2].tolist()
        batch = self._dealt(begin, end)
        return batch[first:last], np.concatenate([batch[:first], batch[last:]])

    def _dealt(self, begin: int, end: int) -> Positions:
        kept = self._kept
        if kept is not None and kept[0] == begin:
            return kept[1]
        positions = self._order.positions(begin, end)
        dealt = positions[deal(self._homes.of(positions), parts_of(end - begin, self.machines))]
        dealt.flags.writeable = False
        self._kept = begin, dealt
        return dealt


def parts_of(count: int, machines: int) -> Positions:
    """Where parts of machines begin among so many samples, and their number: as `Shares` cuts them among ranks."""
    return np.arange(machines + 1, dtype=np.int64) * count // machines


def deal(homes: Positions, bounds: Positions) -> Positions:
    """The samples of a batch as numbers, each in the part of its home as long as there is room; all others follow, in
    their order, where there is some.

    Args:
        homes: of the samples.
        bounds: where the part of each machine begins, and the number of samples.
    """
    by_home = np.argsort(homes, kind="stable")
    counts = np.bincount(homes, minlength=len(bounds) - 1)
    turns = np.arange(len(homes)) - np.repeat(np.cumsum(counts) - counts, counts)
    machines = homes[by_home]
    stays = turns < np.diff(bounds)[machines]
    places = bounds[machines[stays]] + turns[stays]
    is_free = np.ones(len(homes), np.bool_)
    is_free[places] = False
    dealt = np.empty(len(homes), np.int64)
    dealt[places] = by_home[stays]
    dealt[is_free] = np.sort(by_home[~stays])
    return dealt
