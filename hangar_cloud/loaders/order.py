"""The order of an epoch's samples, from a seed and the epoch's number (pure: no catalog, no I/O).

Samples are known by their positions: position 0 is the one whose bytes lie first, so that a run of positions is a run
of bytes. In the order of blocks, the samples are cut into blocks of neighbours, the blocks come in random order, and
some blocks that follow each other in it, a window, have their samples mixed. So a reader takes whole blocks, window by
window, and any place of the epoch is found from the numbers of the blocks alone.

Where requests are to be longer than a block is, neighbouring blocks make a strip, and strips come in random order.
Windows that follow each other, a round, share their strips: each has one block of every one, drawn by lot. So a window
mixes as many places as it has blocks, and what is fetched at once, a round, lies in whole strips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hangar_cloud.loaders.permutations import Positions, permutation


class EpochOrder:
    """Which position comes when in one epoch.

    `count` is the number of samples; `mixes` tells whether neighbours come far apart, `windowed` whether they do so
    within windows only, which are best read as a whole.
    """

    count: int
    mixes = True
    windowed = False

    def positions(self, start: int, stop: int) -> Positions:
        """The positions of the samples that come at ``start`` to below ``stop``; read-only."""
        raise NotImplementedError

    def window_end(self, place: int) -> int:
        """The end of the window that a place in the epoch belongs to: what is read together ends there."""
        return self.count

    def round_end(self, place: int) -> int:
        """The end of the windows that are best fetched together with the one that a place belongs to."""
        return self.window_end(place)

    @property
    def round_count(self) -> int:
        """Number of samples of the largest round."""
        return self.count


class FixedOrder(EpochOrder):
    """The same in each epoch.

    Args:
        count: number of samples.
        order: their positions; as they lie if None.
    """

    mixes = False

    def __init__(self, count: int, order: Positions | None = None) -> None:
        self.count = count
        self._order = order

    def positions(self, start: int, stop: int) -> Positions:
        return np.arange(start, stop, dtype=np.int64) if self._order is None else self._order[start:stop]


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

    Where there are several windows the first ones are smaller, so that the first batch is there soon.

    Args:
        edges: where blocks begin, and the number of samples: increasing, from 0.
        blocks: number of blocks in a window.
        seed, epoch: what the order follows from.
        strip: number of blocks in a strip.
    """

    windowed = True

    def __init__(self, edges: Positions, blocks: int, seed: int, epoch: int, strip: int = 1) -> None:
        self.count = int(edges[-1])
        self._seed, self._epoch = seed, epoch
        count = len(edges) - 1
        order, self._cuts, rounds = _windows(count, blocks, strip if count > blocks else 1, seed, epoch)
        self._starts = edges[:-1][order]
        self._lengths = np.diff(edges)[order]
        # Where windows, and rounds of them, end in the epoch.
        ends = np.cumsum(self._lengths)
        self._ends = ends[self._cuts[1:] - 1]
        self._round_ends = ends[rounds - 1]
        self._kept: tuple[int, Positions] | None = None

    def positions(self, start: int, stop: int) -> Positions:
        parts = []
        while start < stop:
            number = int(np.searchsorted(self._ends, start, "right"))
            begin, end = int(self._ends[number - 1]) if number else 0, int(self._ends[number])
            parts.append(self._window(number)[start - begin : stop - begin])
            start = end
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def window_end(self, place: int) -> int:
        return int(self._ends[np.searchsorted(self._ends, place, "right")])

    def round_end(self, place: int) -> int:
        return int(self._round_ends[np.searchsorted(self._round_ends, place, "right")])

    @property
    def round_count(self) -> int:
        return int(np.diff(self._round_ends, prepend=0).max(initial=0))

    def _window(self, number: int) -> Positions:
        kept = self._kept
        if kept is not None and kept[0] == number:
            return kept[1]
        chosen = slice(int(self._cuts[number]), int(self._cuts[number + 1]))
        lengths = self._lengths[chosen]
        shifts = self._starts[chosen] - (np.cumsum(lengths) - lengths)
        inside = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(shifts, lengths)
        window: Positions = inside[permutation(len(inside), self._seed, self._epoch, "window", number)]
        window.flags.writeable = False
        self._kept = number, window
        return window


def _windows(count: int, blocks: int, strip: int, seed: int, epoch: int) -> tuple[Positions, Positions, Positions]:
    """The blocks in the order of an epoch, and where in it windows are cut, and rounds of them end."""
    strips = permutation(-(-count // strip), seed, epoch, "blocks")
    cuts = _window_cuts(len(strips), blocks)
    if strip == 1:
        return strips, cuts, cuts[1:]
    numbers = np.arange(count, dtype=np.int64)
    # Blocks of each strip by lot: in random order first, and then by their strips.
    drawn = permutation(count, seed, epoch, "strips")
    by_strip = drawn[np.sort(drawn // strip * count + numbers) % count]
    places = np.empty_like(strips)
    places[strips] = np.arange(len(strips))
    place = np.repeat(places, strip)[:count]
    window = (np.searchsorted(cuts, place, "right") - 1) * strip + numbers % strip
    # Of the windows' blocks the one of the first strip comes first.
    sorted_out = np.argsort(window * len(strips) + place)
    ends = np.flatnonzero(np.diff(window[sorted_out], append=-1)) + 1
    rounds = ends[np.diff(window[sorted_out[ends - 1]] // strip, append=-1) != 0]
    return by_strip[sorted_out], np.append(0, ends), rounds


def _window_cuts(count: int, blocks: int) -> Positions:
    """Where windows of so many blocks are cut, the first ones being of an eighth, a quarter and a half of them."""
    if count <= blocks:
        return np.array([0, count] if count else [0], np.int64)
    first = np.cumsum([max(blocks // part, 1) for part in (8, 4, 2)])
    cuts = np.concatenate([np.zeros(1, np.int64), first, np.arange(first[-1] + blocks, count, blocks, dtype=np.int64)])
    return np.append(cuts[cuts < count], count)


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
