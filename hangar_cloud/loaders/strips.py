"""Which windows of an epoch the blocks of neighbouring samples come in (pure: no catalog, no I/O)."""

from __future__ import annotations

from typing import Final

import numpy as np

from hangar_cloud.loaders.permutations import Positions, permutation

_ABOUT: Final = 0.15


class Strips:
    """Blocks in windows, by strips of neighbouring ones that are in random order.

    Args:
        count: number of blocks.
        blocks: of them in a window, about.
        length: blocks in a strip, at most. Of fewer strips than a window has places it would mix fewer of them.
        seed, epoch: what the order follows from.

    `order` are the blocks in the order of the epoch, `cuts` where in it windows begin, and its end.
    """

    def __init__(self, count: int, blocks: int, length: int, seed: int, epoch: int) -> None:
        self._count = count
        self._length = length = _fitting(blocks, max(1, min(length, blocks, count // blocks)))
        self._strips = permutation(-(-count // length), seed, epoch, "blocks")
        if length == 1:
            self._by_strip = np.arange(count)
            self.order, self.cuts = self._strips, _window_cuts(count, blocks)
            self._openings, self._spread = self.cuts, np.ones(count, np.int64)
            return
        self._openings = _openings(len(self._strips), max(1, round(blocks / length)))
        # Strips that are opened first are used up soon: there are too few of them to take a block from each.
        windows = np.arange(len(self._openings) - 1)
        self._spread = np.repeat(np.minimum(2 ** np.minimum(windows, length), length), np.diff(self._openings))
        # Blocks of each strip by lot: in random order first, and then by their strips.
        drawn = permutation(count, seed, epoch, "strips")
        self._by_strip = drawn[np.sort(drawn // length * count + np.arange(count)) % count]
        self.order, self.cuts = self._in_windows()

    def opened(self, window: int) -> list[slice]:
        """The strips that a window opens, as numbers of their first block and of the one behind the last."""
        chosen = self._strips[slice(*self._openings[window : window + 2].tolist())] if window < self._last else ()
        return [self._blocks(strip) for strip in chosen]

    def left(self, window: int) -> list[int]:
        """The blocks of later windows in those strips that are open when a window ends."""
        begin = int(self._openings[max(window + 1 - self._length, 0)])
        end = int(self._openings[min(window + 1, self._last)])
        found: list[int] = []
        for place in range(begin, end):
            members = self._by_strip[self._blocks(int(self._strips[place]))]
            found += members[self._windows_of(place, len(members)) > window].tolist()
        return found

    def most_open(self, sizes: Positions) -> int:
        """The most of what blocks have, of such sizes, that is opened and not read when a window begins."""
        place, window = self._windows()
        opening = np.searchsorted(self._openings, place, "right") - 1
        held = np.zeros(self._last + 3, np.int64)
        np.add.at(held, opening, sizes[self._by_strip])
        np.subtract.at(held, window + 1, sizes[self._by_strip])
        return int(np.cumsum(held).max(initial=0))

    @property
    def _last(self) -> int:
        return len(self._openings) - 1

    def _blocks(self, strip: int) -> slice:
        return slice(strip * self._length, min((strip + 1) * self._length, self._count))

    def _windows_of(self, place: int, count: int) -> Positions:
        """The windows of the blocks of the strip that is opened as this one, as they were drawn."""
        window = int(np.searchsorted(self._openings, place, "right")) - 1
        numbers = np.arange(count, dtype=np.int64)
        windows: Positions = np.minimum(window + numbers * self._spread[place] // self._length, self._last)
        return windows

    def _in_windows(self) -> tuple[Positions, Positions]:
        place, window = self._windows()
        # Of a window's blocks that of the first strip comes first.
        sorted_out = np.argsort(window * len(self._strips) + place, kind="stable")
        ends = np.flatnonzero(np.diff(window[sorted_out], append=-1)) + 1
        return self._by_strip[sorted_out], np.append(0, ends)

    def _windows(self) -> tuple[Positions, Positions]:
        """For each block, in the order of `_by_strip`, which strip that is opened it is of, and its window."""
        numbers = np.arange(self._count, dtype=np.int64)
        places = np.empty_like(self._strips)
        places[self._strips] = np.arange(len(self._strips))
        place = np.repeat(places, self._length)[: self._count]
        window = np.searchsorted(self._openings, place, "right") - 1
        window += numbers % self._length * self._spread[place] // self._length
        # What is left when all strips were opened makes one window: one by one they would mix less and less.
        return place, np.minimum(window, self._last)


def _fitting(blocks: int, most: int) -> int:
    """The longest strips that make windows of about so many blocks."""
    lengths = range(most, 1, -1)
    return next((n for n in lengths if abs(max(1, round(blocks / n)) * n - blocks) <= blocks * _ABOUT), most)


def _openings(count: int, strips: int) -> Positions:
    """Where, among the strips, those begin that a window opens, and their end: the first ones open fewer."""
    first = np.cumsum([max(strips // part, 1) for part in (4, 2)])
    cuts = np.concatenate([np.zeros(1, np.int64), first, np.arange(first[-1] + strips, count, strips, dtype=np.int64)])
    return np.append(cuts[cuts < count], count)


def _window_cuts(count: int, blocks: int) -> Positions:
    """Where windows of so many blocks are cut, the first ones being of an eighth, a quarter and a half of them."""
    if count <= blocks:
        return np.array([0, count] if count else [0], np.int64)
    first = np.cumsum([max(blocks // part, 1) for part in (8, 4, 2)])
    cuts = np.concatenate([np.zeros(1, np.int64), first, np.arange(first[-1] + blocks, count, blocks, dtype=np.int64)])
    return np.append(cuts[cuts < count], count)
