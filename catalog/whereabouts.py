"""In which objects of a store bytes really are, for those who must not be wrong about it: collections and repacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hangar_cloud.backends.move_log import MoveLog
from hangar_cloud.backends.moves import Move, Spot
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.moves_file import decode_moves

_FOLDERS: Final = ("packs/", "records/")


class Whereabouts:
    """Resolves places by all moves of a store, and by which objects are there.

    Of several copies the newest counts that is there. Where none is, that is the newest of all; then something is
    missing.

    Args:
        store: the store. Without moves, it is asked for nothing else.

    Raises:
        CorruptDataError: an entry of the log of moves is damaged or missing.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._log = MoveLog(decode_moves)
        self._there: set[str] | None = None
        self.update()

    @property
    def next(self) -> int:
        """The number that the next entry of the log of moves will have."""
        return self._log.next

    def update(self) -> list[Move]:
        """Read the moves that were recorded since, in order, and return them. Raises as the constructor."""
        known = self._log.next
        moves = self._log.read_all(self._store)
        if self._log.next == known:
            return []
        self._there = None
        return [move for seq, move in sorted(moves.all(), key=_seq) if seq >= known]

    def moved(self, path: str) -> bool:
        """Whether anything of an object was ever moved elsewhere."""
        return path in self._log.moves

    def spot(self, path: str, offset: int, length: int) -> Spot:
        """Where the bytes are that a record or commit says are at this place."""
        spots = self._log.moves.spots(path, offset, length)
        if len(spots) == 1:
            return spots[0]
        there = self._objects()
        return next((spot for spot in spots if spot.path is None or spot.path in there), spots[0])

    def holders(self, path: str) -> Iterator[str]:
        """Every object that may hold bytes of an object: itself, and those that any of it was moved to."""
        yield path
        if self.moved(path):
            there = self._objects()
            yield from (target for target in self._log.moves.targets(path) if target in there)

    def _objects(self) -> set[str]:
        # After the log was read: what is moved to is there before its move is.
        if self._there is None:
            self._there = {info.path for folder in _FOLDERS for info in self._store.list(folder)}
        return self._there


def identity(path: str) -> bytes:
    """The id in the name of a pack or records object."""
    return bytes.fromhex(path.rpartition("/")[2].partition(".")[0])


def _seq(numbered: tuple[int, Move]) -> int:
    return numbered[0]
