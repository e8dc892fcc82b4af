"""Which packs may hold a sample by now that records, or an index, say is in another."""

from __future__ import annotations

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.move_log import MoveLogs
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.whereabouts import identity


class MovedPacks:
    """Looks places up in a store's log of moves.

    Args:
        store: the store.
        moves: knows its log.
    """

    def __init__(self, store: ObjectStore, moves: MoveLogs) -> None:
        self._store = store
        self._moves = moves

    def refresh(self) -> None:
        """Take in what was moved since. Call it when a pack is not where it was."""
        log = self._moves.of(self._store.url)
        if log is not None:
            log.refresh(self._store.get_many)

    def holders(self, place: Place) -> list[bytes]:
        """Ids of the packs that may hold what is said to be at a place, the pack of the place itself first.

        Of a block that a purge rewrote, or removed, there are none.
        """
        log = self._moves.of(self._store.url)
        path = pack_path(place.pack)
        if log is None or path not in log.moves:
            return [place.pack]
        spots = log.moves.spots(path, place.offset, place.stored)
        return [identity(spot.path) for spot in reversed(spots) if spot.path is not None and not spot.final]
