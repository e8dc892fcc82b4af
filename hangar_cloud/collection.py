"""Garbage collection: deleting what no branch, tag or retained log entry refers to. Reached as `Repository.gc`."""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from hangar_cloud import writer_lock
from hangar_cloud.backends.errors import AccessDeniedError, ReadOnlyStoreError
from hangar_cloud.backends.store.leftovers import remove_leftovers
from hangar_cloud.catalog import condemned
from hangar_cloud.catalog.condemned import FOLDER
from hangar_cloud.catalog.marking import CommitReader, Marker
from hangar_cloud.catalog.stashes import Stashes
from hangar_cloud.catalog.whereabouts import Whereabouts
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.garbage import GarbageReport, Survey, Unreferenced
from hangar_cloud.progress import byte_progress
from hangar_cloud.referring import alone_with_refs
from hangar_cloud.roots import mark_private, mark_retained, node_source
from hangar_cloud.storage import Storage
from hangar_cloud.sweep import Sweep

DEFAULT_GRACE: Final = timedelta(days=1)
DEFAULT_KEEP_REFLOG: Final = timedelta(days=30)

Duration = timedelta | float


def collect_garbage(storage: Storage, dry_run: bool, grace: Duration, keep_reflog: Duration) -> GarbageReport:
    """See `Repository.gc`."""
    seconds = _seconds(grace, "grace"), _seconds(keep_reflog, "keep_reflog")
    if storage.is_bucket:
        storage.refuse_offline("collect the garbage of a bucket")
        return Collection(storage, dry_run, *seconds).of_bucket()
    lock = writer_lock.acquire_any(storage.root, False)
    try:
        with alone_with_refs(storage):
            return Collection(storage, dry_run, *seconds).of_folder()
    finally:
        lock.release()


class Collection:
    """One garbage collection.

    Args:
        storage: of the repository.
        dry_run: delete nothing.
        grace: seconds; what is younger is kept.
        keep_reflog: seconds; what a branch was within this time is kept.
    """

    def __init__(self, storage: Storage, dry_run: bool, grace: float, keep_reflog: float) -> None:
        self._storage = storage
        self._store = storage.store
        self._grace = grace
        self._keep_reflog = keep_reflog
        self._report = GarbageReport(dry_run)
        self._now = 0.0

    def of_folder(self) -> GarbageReport:
        """In a local repository; the caller holds its locks, so nothing moves meanwhile."""
        self._now = time.time()
        *_, batches = self._find()
        for batch in batches:
            if not self._report.dry_run:
                self._store.delete([item.name for item in batch])
            self._note_removed(batch)
        self._remove_leftovers()
        return self._report

    def of_bucket(self) -> GarbageReport:
        """In a bucket, beside its writers."""
        self._now = self._clock()
        if self._report.dry_run:
            self._note_removed([item for batch in self._find()[2] for item in batch])
            return self._report
        sweep = Sweep(self._store, self._now)
        sweep.prepare()
        survey, marker, found = self._find()
        batches: list[Sequence[Unreferenced]] = [*found]
        while batches:
            part = sweep.take(batches)
            swept = sweep.delete(part, lambda keeps: self._mark_again(survey, marker, keeps))
            self._note_removed(swept.deleted)
            self._report.rescued += [item.name for item in swept.rescued]
            batches = [*swept.left, *batches[len(part) :]]
        self._remove_leftovers()
        return self._report

    def _find(self) -> tuple[Survey, Marker, list[list[Unreferenced]]]:
        survey = Survey(self._store, self._now, self._grace, self._report)
        partial = not self._storage.is_bucket and not self._storage.holds_everything
        with byte_progress("marking") as progress:
            reader = CommitReader(self._store, () if self._storage.reads_in_place else survey.commits)
            whereabouts = Whereabouts(self._store)
            marker = Marker(reader, node_source(self._storage), whereabouts, partial=partial, progress=progress)
            mark_retained(self._storage, marker, self._now, self._keep_reflog)
            referred = {"commits": set(marker.commits), "records": set(marker.records), "packs": set(marker.packs)}
            mark_private(self._storage, marker)
            marker.mark(survey.young_commits(), tolerant=True)
        return survey, marker, survey.unreferenced(referred, marker, whole=not partial)

    def _mark_again(self, survey: Survey, marker: Marker, keeps: list[str]) -> Marker:
        """Mark what came to be referred to since, and what writers asked to keep."""
        marker.follow()
        mark_retained(self._storage, marker, self._now, self._keep_reflog)
        # A commit stands for all that it refers to, also one whose branch came and went since.
        marker.mark([*keeps, *survey.newcomers()], tolerant=True)
        return marker

    def _remove_leftovers(self) -> None:
        """What processes left unfinished on a disk when they died."""
        if self._report.dry_run:
            return
        Stashes(self._storage.root).clean_up()
        remove_leftovers(self._storage.root, time.time() - self._grace)
        shared = self._store.local_path(FOLDER)
        if self._storage.is_bucket and shared is not None:
            # Other machines may write to that folder, and from here nobody sees whether they still do.
            remove_leftovers(shared.parent, self._now - max(self._grace, condemned.LEASE_SECONDS))

    def _clock(self) -> float:
        """The store's time: that of an object written just now."""
        path = f"{FOLDER}/clock-{secrets.token_hex(16)}.json"
        try:
            self._store.put_if_absent(path, b"{}\n")
        except (ReadOnlyStoreError, AccessDeniedError):
            if not self._report.dry_run:
                raise
            return time.time()
        try:
            return self._store.stat(path).modified.timestamp()
        finally:
            self._store.delete([path])

    def _note_removed(self, found: Sequence[Unreferenced]) -> None:
        for item in found:
            self._report.remove(item)
        if self._report.dry_run or not found:
            return
        self._storage.forget()
        for item in found:
            _drop_copies(self._storage.root, item.name)


def _drop_copies(root: Path, name: str) -> None:
    """What this machine keeps of an object that is gone."""
    for folder in ("store", "partial"):
        with contextlib.suppress(OSError):
            (root / folder / name).unlink(missing_ok=True)


def _seconds(value: object, name: str) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise InvalidArgumentError(
            f"{name} must be a time: a datetime.timedelta or a number of seconds, not negative, and is {value!r}"
        )
    return float(seconds)
