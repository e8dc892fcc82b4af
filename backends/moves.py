"""Moves: where bytes of old objects are now (pure; no I/O, no format).

Records and commits name places, and those names are for ever. What rewrites objects (a repack, a purge) leaves
every reference as it is and records *moves* instead: "these bytes of this object are there now". A reader that does
not find an object looks into them; so places are translated where bytes are fetched, and nowhere above. The entries of
a store's log, `moves/<seq>.parquet`, are immutable and read in order (`docs/format.md` section "Moves").

There are three kinds of moves:

- *copied*: the same bytes lie at another place (`checksum` None, `size` equals `length`). Any part of the range is
  translated by shifting it.
- *rewritten*: other bytes stand in for a whole extent, such as a block without one of its samples (`checksum` is the
  xxh3 of the new bytes, `size` their number, which may differ from `length`). Only that extent is translated, exactly
  as it was recorded, never a part of it; readers check the checksum of the move, and what their own record says of the
  bytes only as far as it still can hold (`Extent.rewritten`).
- *gone*: `to` is None. Reading the extent raises `PurgedBytesError`.

A place is translated again and again: the target of a move may be the origin of a later one. Copies of the same bytes
may exist at several places of such a chain, and the objects that hold them come and go (a writer that stores equal
samples makes an object of the old name anew), so a place resolves to a list, newest first, the place itself being last.
A rewritten or gone extent leaves nothing else in that list: what was there before must not be read again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

MOVES_FOLDER: Final = "moves"


class Move(NamedTuple):
    """Bytes `offset` to `offset + length` of the object `path` are at `at` of the object `to`, `size` bytes."""

    path: str
    offset: int
    length: int
    to: str | None
    at: int
    size: int
    checksum: int | None = None

    @property
    def copied(self) -> bool:
        """Whether the same bytes are there, so that any part of the range may be read."""
        return self.to is not None and self.checksum is None


class Spot(NamedTuple):
    """One place at which wanted bytes may be; `path` is None where they are gone for good.

    `checksum` is None if they are the very bytes that were asked for, else the xxh3 of what stands in for them.
    """

    path: str | None
    offset: int
    length: int
    checksum: int | None = None

    @property
    def final(self) -> bool:
        """Whether nothing older than this may be read in its place."""
        return self.path is None or self.checksum is not None


def moves_path(seq: int) -> str:
    """The name of one entry of a store's log of moves."""
    return f"{MOVES_FOLDER}/{seq:010d}.parquet"


class Moves:
    """All moves of one store that are known. Memory: about 300 bytes a move."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[_Run]] = {}
        self.count = 0

    def add(self, seq: int, moves: Iterable[Move]) -> None:
        """Take in the moves of entry `seq`, which is higher than all before; those of one object do not overlap."""
        by_path: dict[str, list[Move]] = {}
        for move in moves:
            by_path.setdefault(move.path, []).append(move)
            self.count += 1
        for path, group in by_path.items():
            group.sort(key=_offset)
            self._by_path.setdefault(path, []).append(_Run(seq, [move.offset for move in group], group))

    def __contains__(self, path: object) -> bool:
        """Whether anything of an object was moved."""
        return path in self._by_path

    def spots(self, path: str, offset: int, length: int, least: int | None = None) -> list[Spot]:
        """Where a range may be, the best first: newest copies, then older ones, then the place itself.

        Args:
            path: object that the range is said to be in.
            offset: of its first byte.
            length: bytes.
            least: how many bytes at its end are enough; then a spot may be shorter, at its beginning.

        Returns:
            at least one spot; the last is the place itself, unless other bytes, or none, took its place.
        """
        if path not in self._by_path:
            return [Spot(path, offset, length)]
        found = [(-1, Spot(path, offset, length))]
        for seq, spot in found:  # grows meanwhile; ends, since a spot is moved on by later entries only
            found += [one for one in self._onward(seq, spot, least) if one not in found]
        ordered = [spot for _, spot in sorted(found, key=_age)]
        # A repack that raced with a purge may have recorded a copy of what is gone: it does not count.
        return list(dict.fromkeys([spot for spot in ordered if spot.final] or ordered))

    def targets(self, path: str) -> set[str]:
        """Every object that bytes of an object were moved to, at once or in several steps."""
        found: set[str] = set()
        waiting = [path]
        while waiting:
            for run in self._by_path.get(waiting.pop(), ()):
                new = {move.to for move in run.moves if move.to is not None} - found
                found |= new
                waiting += new
        return found

    def all(self) -> Iterator[tuple[int, Move]]:
        """Every move that was taken in, with the number of its entry."""
        for runs in self._by_path.values():
            for run in runs:
                for move in run.moves:
                    yield run.seq, move

    def _onward(self, seq: int, spot: Spot, least: int | None) -> Iterator[tuple[int, Spot]]:
        if spot.path is None:
            return
        for run in self._by_path.get(spot.path, ()):
            if run.seq > seq:
                moved = run.moved(spot, least)
                if moved is not None:
                    yield run.seq, moved


class _Run(NamedTuple):
    """The moves of one entry out of one object, in order."""

    seq: int
    offsets: list[int]
    moves: Sequence[Move]

    def moved(self, spot: Spot, least: int | None) -> Spot | None:
        end = spot.offset + spot.length
        needed = spot.offset if least is None else max(end - least, spot.offset)
        i = bisect_right(self.offsets, needed) - 1
        if i < 0:
            return None
        move = self.moves[i]
        if not move.copied:
            if (move.offset, move.offset + move.length) not in ((spot.offset, end), (needed, end)):
                return None
            return Spot(move.to, move.at, move.size, move.checksum)
        if end > move.offset + move.length:
            return None
        start = max(spot.offset, move.offset)
        return Spot(move.to, move.at + start - move.offset, end - start, spot.checksum)


def _offset(move: Move) -> int:
    return move.offset


def _age(found: tuple[int, Spot]) -> int:
    return -found[0]
