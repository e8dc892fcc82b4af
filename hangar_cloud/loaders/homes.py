"""Which machine of several gets what of each global batch: what lies in strips that are its own (pure: no I/O).

A global batch stays what it is. Within it samples are dealt to machines by where their bytes lie: strips of neighbours
belong to machines in turns, in all epochs alike. So a machine fetches whole strips, and has them from then on, where
otherwise it would fetch some samples of every strip there is, and others the next time. As every machine gets its part
of each batch and no more, what is left over of one goes to those that lack some.
"""

from __future__ import annotations

import numpy as np

from hangar_cloud.loaders.order import EpochOrder
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.shares import Shares


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
        self.count = order.count
        self.mixes, self.windowed, self.opens = order.mixes, order.windowed, order.opens
        self.machines = homes.machines
        self._kept: tuple[int, Positions] | None = None

    def positions(self, start: int, stop: int) -> Positions:
        parts = [np.empty(0, np.int64)]
        while start < stop:
            begin, end = self._batch(start)
            parts.append(self._dealt(begin, end)[start - begin : stop - begin])
            start = end
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def window_end(self, place: int) -> int:
        return self._order.window_end(place)

    def opening_end(self, place: int) -> int:
        return self._batch(place)[1]

    def opened(self, place: int, goes_on: bool) -> list[Positions]:
        begin, end = self._batch(place)
        parts: list[Positions] = []
        # A sample of the batch may come before those of its window do.
        reached = begin if goes_on else self._order.opening_end(begin - 1)
        while reached < end:
            parts += self._order.opened(reached, goes_on)
            goes_on, reached = False, self._order.opening_end(reached)
        own = [positions[self._homes.of(positions) == self._machine] for positions in parts]
        part = self._dealt(begin, end)[slice(*parts_of(end - begin, self.machines)[self._machine :][:2].tolist())]
        own.append(np.sort(part[self._homes.of(part) != self._machine]))
        return [positions for positions in own if len(positions)]

    @property
    def most_open(self) -> int:
        return self._order.most_open

    def _batch(self, place: int) -> tuple[int, int]:
        begin = place - (place - self._start) % self._size
        return begin, min(begin + self._size, self.count)

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
