"""Repacking: small and mostly dead objects are copied into few large ones. Reached as `Repository.repack`.

Nothing is rewritten or deleted: live bytes are copied as they are, and an entry of the log of moves says where they are
now. `docs/repack.md` says why readers and writers may go on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hangar_cloud import writer_lock
from hangar_cloud.backends.errors import CorruptDataError, ObjectNotFoundError
from hangar_cloud.backends.moves import Move, moves_path
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store.leftovers import temporary_folder
from hangar_cloud.catalog.gathering import Gathered, Gatherer, Piece, all_moves, in_entries, is_enough
from hangar_cloud.catalog.live_extents import LiveExtent, LiveExtents, LiveMarker
from hangar_cloud.catalog.marking import CommitReader, commits_listed
from hangar_cloud.catalog.moves_file import encode_moves
from hangar_cloud.catalog.watch import Watch, land
from hangar_cloud.catalog.whereabouts import Whereabouts
from hangar_cloud.collection import DEFAULT_KEEP_REFLOG
from hangar_cloud.errors import GarbageCollectionError
from hangar_cloud.garbage import Count
from hangar_cloud.progress import byte_progress
from hangar_cloud.repack_plan import Candidate, Plan, fewest, make_plan
from hangar_cloud.repack_report import REPACKED_KINDS, RepackReport
from hangar_cloud.roots import mark_private, mark_retained, node_source, staged_packs
from hangar_cloud.storage import Storage

_READ_BYTES: Final = 16 * 1024 * 1024
_READ_EXTENTS: Final = 4096
_ATTEMPTS: Final = 5
_LOOKS_FOR_LOST: Final = 3


def repack(storage: Storage, dry_run: bool) -> RepackReport:
    """See `Repository.repack`."""
    if storage.is_bucket:
        storage.refuse_offline("repack a bucket")
        return _repeatedly(storage, dry_run)
    lock = writer_lock.acquire_any(storage.root, False)
    try:
        return _repeatedly(storage, dry_run)
    finally:
        lock.release()


def _repeatedly(storage: Storage, dry_run: bool) -> RepackReport:
    for attempt in range(_ATTEMPTS):
        with temporary_folder(storage.root) as folder:
            try:
                return Repack(storage, dry_run, folder).run()
            except (ObjectNotFoundError, CorruptDataError) as error:
                # A collection may delete, between our look and our reading, what was moved, or of a deleted branch.
                if not storage.is_bucket or attempt >= _LOOKS_FOR_LOST - 1 or not _is_lost(error):
                    raise
            except _OvertakenError:
                continue
    raise GarbageCollectionError(
        f"another repack or purge of {storage.location} was faster time and again. Nothing was lost; run repack again "
        "when it is through"
    )


def _is_lost(error: BaseException | None) -> bool:
    """Whether an error says that an object is not there."""
    while error is not None:
        if isinstance(error, ObjectNotFoundError):
            return True
        error = error.__cause__
    return False


class _OvertakenError(Exception):
    """Somebody else moved, meanwhile, what was to be moved."""


class Repack:
    """One attempt to repack.

    Args:
        storage: of the repository.
        dry_run: write nothing.
        folder: an existing folder for the new objects until they are stored: up to about 600 MB.
    """

    def __init__(self, storage: Storage, dry_run: bool, folder: Path) -> None:
        self._storage = storage
        self._store = storage.store
        self._folder = folder
        self._report = RepackReport(dry_run)
        self._watch = Watch(storage.store if storage.is_bucket and not dry_run else None)
        self._whereabouts = Whereabouts(storage.store)

    def run(self) -> RepackReport:
        """Copy what is worth it, and record it.

        Raises:
            CorruptDataError: something in use is damaged or missing.
            StoreError: the store failed. What was recorded until then stays so.
        """
        self._watch.start()
        live, plan = self._plan()
        for kind, candidates in zip(REPACKED_KINDS, plan, strict=True):
            sizes = [candidate.size for candidate in candidates]
            self._report.merged[kind] = Count(len(sizes), sum(sizes))
            if self._report.dry_run:
                alive = sum(candidate.live for candidate in candidates)
                self._report.made[kind] = Count(fewest(kind, candidates), alive)
        if not self._report.dry_run and any(plan):
            self._copy(live, plan)
            self._storage.forget()
        return self._report

    def _plan(self) -> tuple[LiveExtents, Plan]:
        storage = self._storage
        partial = not storage.is_bucket and not storage.holds_everything
        with byte_progress("marking") as progress:
            commits = CommitReader(self._store, () if storage.reads_in_place else commits_listed(self._store))
            marker = LiveMarker(commits, node_source(storage), self._whereabouts, partial=partial, progress=progress)
            mark_retained(storage, marker, time.time(), DEFAULT_KEEP_REFLOG.total_seconds())
            mark_private(storage, marker)
        sizes = {info.path: info.size for kind in REPACKED_KINDS for info in self._store.list(f"{kind}/")}
        for kind in REPACKED_KINDS:
            used = [sizes[path] for path in marker.live.paths() if path in sizes and path.startswith(kind)]
            self._report.before[kind] = Count(len(used), sum(used))
        pinned = {path for pack in staged_packs(storage) for path in self._whereabouts.holders(pack_path(pack))}
        return marker.live, make_plan(self._store, sizes, marker.live, pinned)

    def _copy(self, live: LiveExtents, plan: Plan) -> None:
        gatherer = Gatherer(self._folder)
        done: list[Gathered] = []
        total = sum(candidate.live for candidates in plan for candidate in candidates)
        try:
            with byte_progress("repacking", total) as progress:
                for candidates, take in zip(plan, (gatherer.add_segments, gatherer.add_blocks), strict=True):
                    for pieces in self._pieces(live, candidates):
                        take(pieces)
                        progress(sum(len(piece.data) for piece in pieces))
                        done += gatherer.take()
                        if is_enough(done):
                            self._record(done)
                            done = []
                gatherer.finish()
                self._record(done + gatherer.take())
        finally:
            gatherer.close()

    def _pieces(self, live: LiveExtents, candidates: Sequence[Candidate]) -> Iterator[list[Piece]]:
        """The live bytes of objects, verified, in parts of moderate size."""
        waiting: list[tuple[str, LiveExtent]] = []
        size = 0
        for candidate in candidates:
            for extent in live.of(candidate.path):
                if waiting and (size + extent.length > _READ_BYTES or len(waiting) >= _READ_EXTENTS):
                    yield self._read(waiting)
                    waiting, size = [], 0
                waiting.append((candidate.path, extent))
                size += extent.length
        if waiting:
            yield self._read(waiting)

    def _read(self, wanted: Sequence[tuple[str, LiveExtent]]) -> list[Piece]:
        blobs = self._store.get_ranges([(path, extent.offset, extent.length) for path, extent in wanted])
        for (path, extent), data in zip(wanted, blobs, strict=True):
            extent.verify(data, path)
        return [Piece(path, extent.offset, data) for (path, extent), data in zip(wanted, blobs, strict=True)]

    def _record(self, done: Sequence[Gathered]) -> None:
        for group in in_entries(done):
            self._record_entry(group)

    def _record_entry(self, done: Sequence[Gathered]) -> None:
        """Store new objects, and then an entry of the log of moves that refers to them."""
        # What became of an object that was copied to its own name is known already.
        moves = [move for move in all_moves(done) if (move.path, move.offset) != (move.to, move.at)]
        names = [one.path for one in done]

        def publish() -> tuple[Sequence[str], None]:
            for one in done:
                self._store.upload(one.path, one.file)
            return names, None

        if moves:
            land(self._watch, publish, lambda _: self._put(moves))
        for one in done:
            kind = one.path.partition("/")[0]
            self._report.made[kind] = self._report.made[kind].plus(one.size)
            one.file.unlink()

    def _put(self, moves: Sequence[Move]) -> None:
        seq = self._whereabouts.next
        if not self._store.put_if_absent(moves_path(seq), encode_moves(moves, seq)):
            raise _OvertakenError
        self._whereabouts.update()
