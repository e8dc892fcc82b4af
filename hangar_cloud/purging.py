"""Purging: erasing a sample's bytes from all of history, for good. Reached as `Repository.purge`.

The order of the steps, and why each may be the last of a process that dies, is in `docs/purge.md`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hangar_cloud import __version__, writer_lock
from hangar_cloud.backends.blocks import decode_blocks, most_decoded
from hangar_cloud.backends.errors import PurgedBytesError
from hangar_cloud.backends.extents import Extent
from hangar_cloud.backends.move_log import MoveLog
from hangar_cloud.backends.packs import NO_PACK, pack_path
from hangar_cloud.catalog import condemned
from hangar_cloud.catalog.marking import CommitReader, Marker
from hangar_cloud.catalog.moves_file import decode_moves
from hangar_cloud.catalog.node_reader import node_extent
from hangar_cloud.catalog.occurrences import Hit, digest_of
from hangar_cloud.catalog.records import records_path
from hangar_cloud.catalog.tombstones import new_tombstone, read_tombstones, tombstone_path
from hangar_cloud.catalog.whereabouts import Whereabouts, identity
from hangar_cloud.erasing import Doomed, Eraser, OvertakenError
from hangar_cloud.errors import GarbageCollectionError, HangarError, InvalidArgumentError, SampleNotFoundError
from hangar_cloud.garbage import Unreferenced
from hangar_cloud.progress import byte_progress
from hangar_cloud.purge_machine import clear_machine, refuse_staged, scratch_folder
from hangar_cloud.purge_report import PurgeReport
from hangar_cloud.purge_targets import Found, Target, Targets
from hangar_cloud.referring import alone_with_refs
from hangar_cloud.roots import node_source
from hangar_cloud.storage import Storage
from hangar_cloud.sweep import Sweep

_ROUNDS: Final = 20


def purge(storage: Storage, target: Target, reason: str, author: str, dry_run: bool) -> PurgeReport:
    """See `Repository.purge`."""
    if storage.is_bucket:
        storage.refuse_offline("purge samples of a bucket")
        with scratch_folder(storage.root) as folder:
            return Purge(storage, folder, reason, author, dry_run).run(target)
    lock = writer_lock.acquire_any(storage.root, False)
    try:
        with alone_with_refs(storage), scratch_folder(storage.root) as folder:
            return Purge(storage, folder, reason, author, dry_run).run(target)
    finally:
        lock.release()


def take_over(storage: Storage, digests: frozenset[bytes]) -> None:
    """Erase what a local repository has of samples that were purged elsewhere; makes no tombstones.

    Raises:
        WriterLockError: a writer is open.
        DirtyStagingError: a sample is among the uncommitted changes.
    """
    lock = writer_lock.acquire_any(storage.root, False)
    try:
        with alone_with_refs(storage), scratch_folder(storage.root) as folder:
            Purge(storage, folder, "", "", False).erase(digests)
    finally:
        lock.release()


class Purge:
    """One purge; the caller holds the locks of a local repository.

    Args:
        storage: of the repository.
        folder: an existing folder for what is written.
        reason: why.
        author: who.
        dry_run: change nothing.
    """

    def __init__(self, storage: Storage, folder: Path, reason: str, author: str, dry_run: bool) -> None:
        self._storage = storage
        self._store = storage.store
        self._folder = folder
        self._reason = reason
        self._author = author
        self._dry_run = dry_run
        self._here = False
        self._vain: set[str] = set()

    def run(self, target: Target) -> PurgeReport:
        """Look where the samples are, say that they are purged, erase them, and look again.

        Raises:
            SampleNotFoundError: nobody has such a sample.
        """
        report, found = self._report(Targets(self._storage).digests(target))
        digests = frozenset(bytes.fromhex(digest) for digest in report.digests)
        self._refuse_parts(found)
        refuse_staged(self._storage, digests, self._folder)
        eraser = Eraser(self._store, digests, self._folder, shared=self._storage.is_bucket)
        doomed = eraser.look(found.hits)
        report.rewritten = doomed.names
        if self._dry_run:
            return report
        self._bury(digests)
        self._erase_all(eraser, doomed, found, digests, report)
        return report

    def erase(self, digests: frozenset[bytes]) -> None:
        """Erase samples without a word about them. Raises as `run`."""
        self._here = True
        found = Targets(self._storage).find(digests, here=True)
        refuse_staged(self._storage, digests, self._folder)
        eraser = Eraser(self._store, digests, self._folder, shared=self._storage.is_bucket)
        report = PurgeReport(False, [])
        here = [extent for hit in found.hits for extent in _extents(hit) if self._is_here(extent)]
        self._erase_all(eraser, eraser.look(found.hits), found, digests, report)
        for extent in here:
            # What was in the same block or leaf was here, and is wanted here again.
            with contextlib.suppress(HangarError):
                self._storage.source.read(extent)

    def _refuse_parts(self, found: Found) -> None:
        """Raises InvalidArgumentError in a clone that holds only parts of what the samples are in.

        Samples share blocks, and values leaves: who reads another one would fetch their bytes again.
        """
        if self._storage.holds_everything or self._storage.is_bucket:
            return
        moves = MoveLog(decode_moves).read_all(self._store)
        for hit in found.hits:
            place = hit.row.place
            packed = place is not None and place.pack != NO_PACK
            name = pack_path(place.pack) if place is not None and packed else records_path(hit.leaf.place.object)
            if name not in moves and not self._store.exists(name):
                raise InvalidArgumentError(
                    f"sample {hit.digest.hex()[:12]} is in {name}, which is not in this clone as a whole, so its bytes "
                    "would be fetched again. Nothing was changed. Purge it in the remote, opened by its URL, and then "
                    "fetch here: that takes the purge over"
                )

    def _is_here(self, extent: Extent[Any]) -> bool:
        try:
            return self._storage.source.is_local(extent)
        except PurgedBytesError:
            return False

    def _erase_all(
        self, eraser: Eraser, doomed: Doomed, found: Found, digests: frozenset[bytes], report: PurgeReport
    ) -> None:
        """Erase until there is nothing left: what was committed or moved meanwhile is found when it is looked again."""
        seen = set(doomed.seen)
        for _ in range(_ROUNDS):
            if not doomed.names:
                break
            self._erase(eraser, doomed)
            self._storage.forget()
            found = Targets(self._storage).find(digests, here=self._here)
            doomed = eraser.look(found.hits)
            report.rewritten += [name for name in doomed.names if name not in report.rewritten]
            seen |= doomed.seen
        else:
            raise GarbageCollectionError(
                f"samples that are being purged from {self._storage.location} came back time and again: a writer "
                "stores them as fast as they are erased. Stop it, and purge again"
            )
        if self._vain:
            self._delete([])
        report.erased = eraser.erased
        report.left = clear_machine(self._storage, found.hits, seen)

    def _report(self, wanted: frozenset[bytes]) -> tuple[PurgeReport, Found]:
        targets = Targets(self._storage)
        with byte_progress("looking for the samples"):
            found = targets.find(wanted)
        there = {hit.digest for hit in found.hits}
        before = read_tombstones(self._store, {*wanted, *there})
        digests = there | before.keys()
        unknown = wanted - digests - {digest_of(hit.row, hit.schema) for hit in found.hits}
        if unknown:
            raise SampleNotFoundError(
                f"no commit in {self._storage.location} has a sample of digest {min(unknown).hex()}, and none was "
                "purged. What a remote has is purged there: open that by its URL"
            )
        report = PurgeReport(
            self._dry_run,
            sorted(digest.hex() for digest in digests),
            sorted(digest.hex() for digest in before),
            found.samples,
        )
        report.branches, report.tags = targets.referring(report.commits)
        return report, found

    def _bury(self, digests: frozenset[bytes]) -> None:
        """Say of the samples that they are purged; of one that was before, what was said then stays."""
        before = read_tombstones(self._store, set(digests))
        for digest in sorted(digests - before.keys()):
            tombstone = new_tombstone(digest, self._reason, self._author, __version__)
            self._store.put_if_absent(tombstone_path(digest), tombstone.encode())
        if self._storage.is_bucket:
            self._tell_writers()

    def _tell_writers(self) -> None:
        """Who looks below `gc/` before moving a branch sees that there is something new to know."""
        older = condemned.look(self._store).purges
        self._store.put_if_absent(condemned.new_purge_path(), condemned.encode_note())
        self._store.delete(older)

    def _erase(self, eraser: Eraser, doomed: Doomed) -> None:
        try:
            eraser.rewrite(doomed)
        except OvertakenError as error:
            self._vain |= error.made
            return
        self._delete(doomed.names)

    def _delete(self, names: Sequence[str]) -> None:
        """Delete objects that all is moved out of, and those that were made in vain."""
        if not self._storage.is_bucket:
            self._store.delete(names)
            return
        vain, self._vain = sorted(self._vain - set(names)), set()
        left: Sequence[Sequence[Unreferenced]] = [batch for batch in map(_unreferenced, (names, vain)) if batch]
        sweep = _PurgeSweep(self._store, time.time(), "purge")
        sweep.prepare()
        while left:
            part = sweep.take(left)
            swept = sweep.delete(part, lambda _: self._mark(vain))
            left = [*swept.left, *left[len(part) :]]

    def _mark(self, vain: Sequence[str]) -> Marker:
        """What must stay of all that is about to be deleted.

        All bytes but those to be erased were moved out of what held them, so whatever refers to these objects is led
        elsewhere. Of what was made in vain, another purge may have made the same, and refer to it.
        """
        marker = Marker(CommitReader(self._store), node_source(self._storage), Whereabouts(self._store))
        moves = MoveLog(decode_moves).read_all(self._store).all() if vain else ()
        for name in {move.to for _, move in moves if move.to is not None}.intersection(vain):
            (marker.packs if name.startswith("packs/") else marker.records).add(identity(name))
        return marker


class _PurgeSweep(Sweep):
    """Deletes what writers asked to keep, too: all but the purged samples is elsewhere by now."""

    def _wanted(self) -> tuple[frozenset[str], list[str]]:
        return frozenset(), []


def _extents(hit: Hit) -> Iterator[Extent[Any]]:
    """The leaf and the block that hold a row and its sample."""
    place = hit.row.place

    def verify(data: memoryview, fetched: bool) -> None:
        if place is not None:
            decode_blocks(data, hit.digest, most_decoded(place))

    yield node_extent(hit.leaf, hit.schema)
    if place is not None and place.pack != NO_PACK:
        yield Extent(pack_path(place.pack), place.offset, place.stored, verify)


def _unreferenced(names: Sequence[str]) -> list[Unreferenced]:
    return [Unreferenced(name.partition("/")[0], identity(name), 0) for name in names]
