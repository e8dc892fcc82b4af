"""Which windows of an epoch the blocks of neighbouring samples come in (pure: no catalog, no I/O)."""

from __future__ import annotations

from collections.abc import Sequence
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
        lanes: rising numbers of the blocks, with gaps: a strip, of four, two or one then, ends at every multiple of
            its length. 0, 1, 2 … if None.

    `order` are the blocks in the order of the epoch, `cuts` where in it windows begin, and its end.
    """

    def __init__(
        self, count: int, blocks: int, length: int, seed: int, epoch: int, lanes: Positions | None = None
    ) -> None:
        self._count = count
        most = max(1, min(length, blocks, count // blocks))
        # Lanes are those of stretches of four blocks: strips of three would lie in two of them.
        lengths = range(most, 0, -1) if lanes is None else [n for n in (4, 2, 1) if n <= most]
        self._length = length = _fitting(blocks, lengths)
        self._edges = strip_edges(count, length, lanes)
        self._strips = permutation(len(self._edges) - 1, seed, epoch, "blocks")
        if length == 1:
            self._by_strip = np.arange(count)
            self.order, self.cuts = self._strips, _cuts(count, blocks, (8, 4, 2))
            self._openings, self._spread = self.cuts, np.ones(count, np.int64)
            return
        self._openings = _cuts(len(self._strips), _strips_for(blocks, length), (4, 2))
        # Strips that are opened first are used up soon: there are too few of them to take a block from each.
        windows = np.arange(len(self._openings) - 1)
        self._spread = np.repeat(np.minimum(2 ** np.minimum(windows, length), length), np.diff(self._openings))
        # Blocks of each strip by lot: in random order first, and then by their strips.
        drawn = permutation(count, seed, epoch, "strips")
        self._by_strip = drawn[np.sort(self._strip_of(drawn) * count + np.arange(count)) % count]
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
            windows = self._windows_of(np.full(len(members), place), np.arange(len(members)))
            found += members[windows > window].tolist()
        return found

    def most_open(self, sizes: Positions) -> int:
        """The most of what blocks have, of such sizes, that is opened and not read when a window begins."""
        place, window = self._windows()
        held = np.zeros(self._last + 3, np.int64)
        np.add.at(held, self._opening(place), sizes[self._by_strip])
        np.subtract.at(held, window + 1, sizes[self._by_strip])
        return int(np.cumsum(held).max(initial=0))

    @property
    def _last(self) -> int:
        return len(self._openings) - 1

    def _blocks(self, strip: int) -> slice:
        return slice(*self._edges[strip : strip + 2].tolist())

    def _strip_of(self, blocks: Positions) -> Positions:
        return np.searchsorted(self._edges, blocks, "right") - 1

    def _opening(self, place: Positions) -> Positions:
        """The windows that open strips, by their places in the order of opening."""
        return np.searchsorted(self._openings, place, "right") - 1

    def _windows_of(self, place: Positions, drawn: Positions) -> Positions:
        """The windows of blocks that were drawn so from strips at these places in the order of opening."""
        window = self._opening(place) + drawn * self._spread[place] // self._length
        # What is left when all strips were opened makes one window: one by one they would mix less and less.
        windows: Positions = np.minimum(window, self._last)
        return windows

    def _in_windows(self) -> tuple[Positions, Positions]:
        place, window = self._windows()
        # Of a window's blocks that of the first strip comes first.
        sorted_out = np.argsort(window * len(self._strips) + place, kind="stable")
        ends = np.flatnonzero(np.diff(window[sorted_out], append=-1)) + 1
        return self._by_strip[sorted_out], np.append(0, ends)

    def _windows(self) -> tuple[Positions, Positions]:
        """The place of its strip in the order of opening, and the window, of each block, as in `_by_strip`."""
        places = np.empty_like(self._strips)
        places[self._strips] = np.arange(len(self._strips))
        lengths = np.diff(self._edges)
        place = np.repeat(places, lengths)
        return place, self._windows_of(place, np.arange(self._count) - np.repeat(self._edges[:-1], lengths))


def strip_edges(count: int, length: int, lanes: Positions | None) -> Positions:
    """Where strips of blocks begin, and the number of blocks; the arguments are those of `Strips`."""
    numbers = (np.arange(count, dtype=np.int64) if lanes is None else lanes) // length
    return np.append(np.flatnonzero(np.diff(numbers, prepend=-1)), count)


def _fitting(blocks: int, lengths: Sequence[int]) -> int:
    """The first of some lengths of strips that makes windows of about so many blocks, or the first of all."""
    longer = (n for n in lengths if n > 1)
    return next((n for n in longer if abs(_strips_for(blocks, n) * n - blocks) <= blocks * _ABOUT), lengths[0])


def _strips_for(blocks: int, length: int) -> int:
    """How many strips a window opens, to have so many blocks."""
    return max(1, round(blocks / length))


def _cuts(count: int, size: int, parts: tuple[int, ...]) -> Positions:
    """Where groups of so many are cut, the first ones being of such parts of it: an eighth, a quarter …"""
    if count <= size:
        return np.array([0, count] if count else [0], np.int64)
    first = np.cumsum([max(size // part, 1) for part in parts])
    cuts = np.concatenate([np.zeros(1, np.int64), first, np.arange(first[-1] + size, count, size, dtype=np.int64)])
    return np.append(cuts[cuts < count], count)
