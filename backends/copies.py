"""Every place at which bytes were ever kept, whatever a reader would be told (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from hangar_cloud.backends.moves import Move, Moves, Spot


class Copies:
    """Follows moves forward from a place, all of them. A purge has to find what no reader is led to.

    Args:
        moves: of one store.
    """

    def __init__(self, moves: Moves) -> None:
        self._out_of: dict[str, list[Move]] = {}
        for _, move in moves.all():
            self._out_of.setdefault(move.path, []).append(move)

    def of(self, path: str, offset: int, length: int) -> set[Spot]:
        """The place itself, and each that its bytes, or what was put in their stead, were moved to."""
        found = {Spot(path, offset, length)}
        waiting = list(found)
        while waiting:
            spot = waiting.pop()
            new = {after for move in self._out_of.get(spot.path or "", ()) if (after := _after(move, spot)) is not None}
            waiting += new - found
            found |= new
        return found


def _after(move: Move, spot: Spot) -> Spot | None:
    if move.to is None or spot.offset < move.offset or spot.offset + spot.length > move.offset + move.length:
        return None
    if move.copied:
        return Spot(move.to, move.at + spot.offset - move.offset, spot.length)
    return Spot(move.to, move.at, move.size) if (move.offset, move.length) == (spot.offset, spot.length) else None


def paths_of(spots: Iterable[Spot]) -> set[str]:
    """The objects that spots are in."""
    return {spot.path for spot in spots if spot.path is not None}
