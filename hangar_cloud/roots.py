"""What a repository is in use of: the commits that collections and repacks start from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.packs import staged_pack_number
from hangar_cloud.catalog.commits import commit_path
from hangar_cloud.catalog.hint import Kind
from hangar_cloud.catalog.marking import Marker
from hangar_cloud.catalog.pointers import PointerLog, written_at
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.stashes import Stashes
from hangar_cloud.catalog.tracking import TrackingRefs
from hangar_cloud.storage import Storage

_KINDS_OF_REFS: Final[tuple[Kind, ...]] = ("heads", "tags")


def mark_retained(storage: Storage, marker: Marker, now: float, keep_reflog: float) -> None:
    """Mark what branches and tags are at, or were within a time; and where remote branches were seen.

    Args:
        storage: of the repository.
        marker: takes it in.
        now: by the store's clock, in seconds since 1970.
        keep_reflog: seconds.

    Raises:
        CorruptDataError: something of it is damaged or missing. What a branch was before, and an earlier collection
            that kept less of the log removed, is not.
    """
    heads, logged = _heads_and_logged(storage, now, keep_reflog)
    marker.mark(heads)
    marker.mark(logged, collected=True)


def retained(storage: Storage, now: float, keep_reflog: float) -> Iterator[str]:
    """The commits of `mark_retained`, without those that were collected."""
    heads, logged = _heads_and_logged(storage, now, keep_reflog)
    yield from heads
    yield from (digest for digest in logged if storage.store.exists(commit_path(digest)))


def _heads_and_logged(storage: Storage, now: float, keep_reflog: float) -> tuple[list[str], list[str]]:
    heads: list[str] = []
    logged: list[str] = []
    for kind in _KINDS_OF_REFS:
        log = PointerLog(storage.store, kind=kind)
        for name in log.all_names():
            head, earlier = _within(log, name, now, keep_reflog)
            heads += head
            logged += earlier
    if not storage.is_bucket:
        heads += TrackingRefs(storage.root / "remotes").all().values()
    return heads, logged


def node_source(storage: Storage) -> ObjectSource:
    """Reads nodes without fetching what a clone lacks, and without filling the cache of a bucket."""
    if storage.reads_in_place and storage.is_bucket:
        return storage.source
    if storage.is_bucket:
        return ObjectSource(storage.root / "store", None, lambda: [storage.store], moves=storage.moves)
    return ObjectSource(storage.root / "store", storage.root / "partial", offline=True, moves=storage.moves)


def mark_private(storage: Storage, marker: Marker) -> None:
    """Mark what this machine's staging areas and stashes are based on and refer to."""
    bases = [info.base for info in Stashes(storage.root).all() if info.base]
    if not storage.is_bucket:
        for area in _areas(storage.root):
            for pack in _packs(area):
                marker.mark_pack(pack)
            base = area.setting("base")
            bases += [*area.landings(), *([] if base is None else [base])]
    marker.mark(bases, tolerant=True)


def staged_packs(storage: Storage) -> set[bytes]:
    """Ids of the packs that staging areas and stashes of a local repository refer to."""
    if storage.is_bucket:
        return set()
    return {pack for area in _areas(storage.root) for pack in _packs(area)}


def _areas(root: Path) -> Iterator[StagingArea]:
    """Staging areas and stashes with something in them, each open until the next."""
    for folder in (*root.glob("staging/*"), *root.glob("stash/*")):
        if (folder / "staging.duckdb").is_file():
            area = StagingArea(folder)
            try:
                if area.dirty:
                    yield area
            finally:
                area.close()


def _packs(area: StagingArea) -> set[bytes]:
    return {pack for pack in area.packs() if staged_pack_number(pack) is None}


def _within(log: PointerLog, name: str, now: float, keep_reflog: float) -> tuple[list[str], list[str]]:
    """What a branch or tag is, and what it was within the time that its log is kept for."""
    found: tuple[list[str], list[str]] = [], []
    head = log.head(name)
    if head is None:
        return found
    oldest = datetime.fromtimestamp(max(now - keep_reflog, 0), timezone.utc)
    was_until: datetime | None = None
    for pointer in log.entries(name, head.seq):
        # An entry counts as of when another took its place, however long it stood before.
        if was_until is not None and (keep_reflog == 0 or was_until < oldest):
            break
        if pointer.commit is not None:
            found[was_until is not None].append(pointer.commit)
        was_until = written_at(pointer)
    return found
