"""The order of an epoch's samples, from a seed and the epoch's number (pure: no catalog, no I/O).

Samples are known by their positions: position 0 is the one whose bytes lie first, so that a run of positions is a run
of bytes. In the order of blocks, the samples are cut into blocks of neighbours, the blocks come in random order, and
some blocks that follow each other in it, a window, have their samples mixed. So a reader takes whole blocks, window by
window, and any place of the epoch is found from the numbers of the blocks alone.

Where requests are to be longer than a block is, neighbouring blocks make a strip, and strips come in random order.
Each window opens some of them, and takes one block, drawn by lot, of every one that is open, until nothing is left of
it. So a window mixes as many places as it has blocks, what is fetched are whole strips, and as many are opened for one
window as for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.loaders.permutations import Positions, permutation
from hangar_cloud.loaders.strips import Strips


class EpochOrder:
    """Which position comes when in one epoch.

    `count` is the number of samples; `mixes` tells whether neighbours come far apart, `windowed` whether they do so
    within windows only, which are best read as a whole, and `opens` whether there is more than one thing to open: then
    large samples are best fetched that way, before they are read. What is opened is one part of so many `machines`.
    """

    count: int
    machines = 1
    mixes = True
    windowed = False
    opens = False

    def positions(self, start: int, stop: int) -> Positions:
        """The positions of the samples that come at ``start`` to below ``stop``; read-only."""
        raise NotImplementedError

    def window_end(self, place: int) -> int:
        """The end of the window that a place in the epoch belongs to: what is read together ends there."""
        return self.count

    def opening_end(self, place: int) -> int:
        """The end of what can be read once what `opened` gives for a place was fetched."""
        return self.window_end(place)

    def opened(self, place: int, goes_on: bool) -> list[Positions]:
        """What is to be fetched before a place and all up to its `opening_end` are read, and was not for earlier ones.

        Args:
            place: where what was opened before ends, or where an epoch is gone on with.
            goes_on: whether nothing was fetched for earlier ones.

        Returns:
            positions that are best fetched by one request each.
        """
        return [self.positions(place, self.opening_end(place))]

    def given_away(self, start: int, stop: int) -> Positions:
        """What was opened here for the global batch of these places, and is read on other machines."""
        return np.empty(0, np.int64)

    def for_planning(self) -> EpochOrder:
        """The same order for who looks far ahead of who reads: each would make anew what the other one has made."""
        return copy(self)

    @property
    def most_open(self) -> int:
        """So many samples at most are fetched, and not read yet, when something is opened and read from then on."""
        return self.count


class FixedOrder(EpochOrder):
    """The same in each epoch.

    Args:
        count: number of samples.
        order: their positions; as they lie if None.
        ends: where in the epoch parts end that are best fetched by one request each, the last at its end; None if it
            has no such parts.
    """

    mixes = False

    def __init__(self, count: int, order: Positions | None = None, ends: Positions | None = None) -> None:
        self.count = count
        self._order = order
        self._ends = np.array([count]) if ends is None else ends
        self.opens = ends is not None

    def positions(self, start: int, stop: int) -> Positions:
        return np.arange(start, stop, dtype=np.int64) if self._order is None else self._order[start:stop]

    def opening_end(self, place: int) -> int:
        return int(self._ends[np.searchsorted(self._ends, place, "right")])

    @property
    def most_open(self) -> int:
        return int(np.diff(self._ends, prepend=0).max())


class FullShuffle(EpochOrder):
    """Every order of the samples is as likely as any other. Takes 8 bytes a sample."""

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        self.count = count
        self._order = permutation(count, seed, epoch, "all")
        self._order.flags.writeable = False

    def positions(self, start: int, stop: int) -> Positions:
        return self._order[start:stop]


class BlockShuffle(EpochOrder):
    """Blocks in random order, and samples mixed within windows of blocks.

    Where there are several windows the first ones are smaller, so that the first batch is there soon. Where strips are
    longer than a block, the last window is of what is left of them.

    Args:
        edges: where blocks begin, and the number of samples: increasing, from 0.
        blocks: number of blocks in a window.
        seed, epoch: what the order follows from.
        strip: number of blocks in a strip, at most: windows are to have as many places even if there are few strips.
        lanes: of the blocks, as `Strips` has them.
    """

    windowed = opens = True

    def __init__(
        self, edges: Positions, blocks: int, seed: int, epoch: int, strip: int = 1, lanes: Positions | None = None
    ) -> None:
        self.count = int(edges[-1])
        self._seed, self._epoch = seed, epoch
        self._edges = edges
        self._strips = strips = Strips(len(edges) - 1, blocks, strip, seed, epoch, lanes)
        self._starts = edges[:-1][strips.order]
        self._lengths = np.diff(edges)[strips.order]
        # Where windows end in the epoch.
        self._ends = np.cumsum(self._lengths)[strips.cuts[1:] - 1]
        self._kept: tuple[int, Positions] | None = None

    def positions(self, start: int, stop: int) -> Positions:
        parts = []
        while start < stop:
            number = self._number(start)
            begin, end = int(self._ends[number - 1]) if number else 0, int(self._ends[number])
            parts.append(self._window(number)[start - begin : stop - begin])
            start = end
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def window_end(self, place: int) -> int:
        return int(self._ends[self._number(place)])

    def opened(self, place: int, goes_on: bool) -> list[Positions]:
        number = self._number(place)
        if not goes_on:
            return [self._of_blocks(blocks) for blocks in self._strips.opened(number)]
        later = [self._of_blocks(slice(block, block + 1)) for block in self._strips.left(number)]
        return [np.concatenate([self.positions(place, self.window_end(place)), *later])]

    @lazy_property
    def most_open(self) -> int:
        return self._strips.most_open(np.diff(self._edges))

    def _number(self, place: int) -> int:
        return int(np.searchsorted(self._ends, place, "right"))

    def _of_blocks(self, blocks: slice) -> Positions:
        return np.arange(self._edges[blocks.start], self._edges[blocks.stop], dtype=np.int64)

    def _window(self, number: int) -> Positions:
        kept = self._kept
        if kept is not None and kept[0] == number:
            return kept[1]
        chosen = slice(*self._strips.cuts[number : number + 2].tolist())
        lengths = self._lengths[chosen]
        shifts = self._starts[chosen] - (np.cumsum(lengths) - lengths)
        inside = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(shifts, lengths)
        window: Positions = inside[permutation(len(inside), self._seed, self._epoch, "window", number)]
        window.flags.writeable = False
        self._kept = number, window
        return window


def block_edges(sizes: Positions | int, count: int, block_bytes: int) -> Positions:
    """Where blocks of neighbours begin, and the number of samples.

    Args:
        sizes: bytes of each sample, or of every one.
        count: number of samples.
        block_bytes: about as many bytes make a block; a larger sample is one by itself.
    """
    if isinstance(sizes, (int, np.integer)):
        step = max(1, block_bytes // max(int(sizes), 1))
        return np.append(np.arange(0, count, step, dtype=np.int64), np.int64(count)) if count else np.zeros(1, np.int64)
    before = np.cumsum(sizes) - sizes
    numbers = before // block_bytes
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return np.append(firsts, count).astype(np.int64)


def mixing(order: Sequence[int] | Positions) -> float:
    """How well an order is mixed: 0 as the samples lie, about 1 for a random order.

    It is how far samples that lie side by side come apart in the epoch, on average, over what it is in a random order:
    a third of all samples.
    """
    places = np.empty(len(order), np.int64)
    places[np.asarray(order)] = np.arange(len(order))
    apart = np.abs(np.diff(places)).mean() - 1
    return float(apart / (len(order) / 3 - 1))
