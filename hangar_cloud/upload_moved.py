"""Pushing what lies in objects that are nowhere whole any more: what is needed of them goes into new ones.

A repack moved their contents elsewhere, here or where they were fetched from, and the store that is pushed to has its
own log of moves. So the extents that the pushed commits need are gathered into new objects, and an entry of that log
says that they are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from hangar_cloud.backends.errors import PurgedBytesError
from hangar_cloud.backends.move_log import MoveLog
from hangar_cloud.backends.moves import Move, Spot, moves_path
from hangar_cloud.backends.object_source import Extent
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.leftovers import temporary_folder
from hangar_cloud.catalog.gathering import Gathered, Gatherer, Piece, all_moves, in_entries, is_enough
from hangar_cloud.catalog.live_extents import LiveExtent, LiveExtents
from hangar_cloud.catalog.moves_file import encode_moves
from hangar_cloud.catalog.watch import Watch, land
from hangar_cloud.errors import GarbageCollectionError
from hangar_cloud.progress import byte_progress
from hangar_cloud.storage import Storage

_READ_BYTES: Final = 16 * 1024 * 1024
_READ_EXTENTS: Final = 4096
_ATTEMPTS: Final = 20


class MovedUpload:
    """Makes extents of objects readable in a store that lacks these objects.

    Args:
        storage: of the repository that has their bytes, here or in a remote.
        store: where to.
        log: its moves.
    """

    def __init__(self, storage: Storage, store: ObjectStore, log: MoveLog) -> None:
        self._storage = storage
        self._store = store
        self._log = log
        self._there: dict[str, bool] = {}
        self._gone: list[Move] = []

    def send(self, needed: LiveExtents) -> set[str]:
        """Upload what the store lacks of some extents.

        Args:
            needed: under their names of old.

        Returns:
            names of the objects that hold them there.

        Raises:
            CorruptDataError: the store's log of moves is damaged, or an extent here.
            ObjectNotFoundError: an extent is nowhere.
        """
        self._log.read_all(self._store)
        names: set[str] = set()
        missing: list[tuple[str, LiveExtent]] = []
        for path in needed.paths():
            for extent in needed.of(path):
                spot = self._found(path, extent)
                if spot is None:
                    missing.append((path, extent))
                elif spot.path is not None:
                    names.add(spot.path)
        if missing:
            with temporary_folder(self._storage.root) as folder:
                names |= self._gather(missing, folder)
        return names

    def _found(self, path: str, extent: LiveExtent) -> Spot | None:
        """Where the store has an extent, None if it lacks it. What was purged there stays so."""
        if path not in self._log.moves:
            return None
        for spot in self._log.moves.spots(path, extent.offset, extent.length):
            if spot.path is None or self._exists(spot.path):
                return spot
        return None

    def _exists(self, path: str) -> bool:
        if path not in self._there:
            self._there[path] = self._store.exists(path)
        return self._there[path]

    def _gather(self, missing: Sequence[tuple[str, LiveExtent]], folder: Path) -> set[str]:
        gatherer = Gatherer(folder)
        names: set[str] = set()
        done: list[Gathered] = []
        total = sum(extent.length for _, extent in missing)
        try:
            with byte_progress("pushing what was repacked", total) as progress:
                for part in _parts(missing):
                    pieces = self._read(part)
                    blocks = [piece for piece in pieces if piece.path.startswith("packs/")]
                    if blocks:
                        gatherer.add_blocks(blocks)
                    gatherer.add_segments([piece for piece in pieces if not piece.path.startswith("packs/")])
                    progress(sum(len(piece.data) for piece in pieces))
                    done += gatherer.take()
                    if is_enough(done):
                        names |= self._store_all(done)
                        done = []
                gatherer.finish()
                return names | self._store_all(done + gatherer.take())
        finally:
            gatherer.close()

    def _read(self, part: Sequence[tuple[str, LiveExtent]]) -> list[Piece]:
        extents = [_extent(path, extent) for path, extent in part]
        try:
            return self._storage.source.read_many(extents)
        except PurgedBytesError:
            found = []
            for extent in extents:
                try:
                    found.append(self._storage.source.read(extent))
                except PurgedBytesError:
                    self._gone.append(Move(extent.path, extent.offset, extent.length, None, 0, 0))
            return found

    def _store_all(self, done: Sequence[Gathered]) -> set[str]:
        return set[str]().union(*(self._store_entry(group) for group in in_entries(done)))

    def _store_entry(self, done: Sequence[Gathered]) -> set[str]:
        moves = [move for move in [*all_moves(done), *self._gone] if not self._recorded(move)]
        self._gone = []
        names = {one.path for one in done}

        def publish() -> tuple[Collection[str], None]:
            for one in done:
                self._store.upload(one.path, one.file)
            return names, None

        if moves:
            land(Watch(self._store), publish, lambda _: self._record(moves))
        else:
            publish()
        for one in done:
            one.file.unlink()
        return names

    def _recorded(self, move: Move) -> bool:
        spots = self._log.moves.spots(move.path, move.offset, move.length)
        return Spot(move.to, move.at, move.size, move.checksum) in spots

    def _record(self, moves: Sequence[Move]) -> None:
        for _ in range(_ATTEMPTS):
            if self._store.put_if_absent(moves_path(self._log.next), encode_moves(moves, self._log.next)):
                return
            # Who was faster moved other bytes, or copied the same ones: both hold.
            self._log.read_all(self._store)
        raise GarbageCollectionError(
            f"repacks of {self._store.url} were faster time and again. Nothing was lost; push again when they are "
            "through"
        )


def _parts(missing: Sequence[tuple[str, LiveExtent]]) -> Iterator[list[tuple[str, LiveExtent]]]:
    part: list[tuple[str, LiveExtent]] = []
    size = 0
    for path, extent in missing:
        if part and (size + extent.length > _READ_BYTES or len(part) >= _READ_EXTENTS):
            yield part
            part, size = [], 0
        part.append((path, extent))
        size += extent.length
    if part:
        yield part


def _extent(path: str, extent: LiveExtent) -> Extent[Piece]:
    def verify(data: memoryview, fetched: bool) -> Piece:
        extent.verify(bytes(data), path)
        return Piece(path, extent.offset, bytes(data))

    def rewritten(data: memoryview, fetched: bool) -> Piece:
        return Piece(path, extent.offset, bytes(data), extent.length)

    return Extent(path, extent.offset, extent.length, verify, rewritten)
