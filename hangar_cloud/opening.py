"""Opening a writer: the lock, the staging area, and what an earlier writer left in it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from hangar_cloud import writer_lock
from hangar_cloud.catalog.staging import BULK_SCRATCH, UNFINISHED, StagingArea
from hangar_cloud.checkout import Logger
from hangar_cloud.committing import make_committer
from hangar_cloud.errors import DirtyStagingError, RefNotFoundError
from hangar_cloud.no_changes import left_nothing
from hangar_cloud.storage import Storage
from hangar_cloud.writer_checkout import WriterCheckout
from hangar_cloud.writer_lock import WriterLock


def open_writer(storage: Storage, branch: str, user: tuple[str, str], log: Logger) -> WriterCheckout:
    """A writer checkout of a branch, with what was staged for it before.

    In a bucket, staging areas that hold changes for another branch are left alone and a new one is made.

    Raises:
        PermissionError: another writer is open.
        ValueError: changes for another branch are staged.
    """
    lock, staging = _choose_area(storage, branch) if storage.is_bucket else _open_area(storage, [])
    try:
        base = _prepare(storage, staging, branch)
        return WriterCheckout(storage, branch, base, lock, staging, user, log)
    except BaseException:
        staging.close()
        lock.release()
        raise


def _choose_area(storage: Storage, branch: str) -> tuple[WriterLock, StagingArea]:
    """The free staging area that holds changes for a branch of a bucket; else the first that holds none."""
    opened: list[tuple[WriterLock, StagingArea]] = []
    chosen: tuple[WriterLock, StagingArea] | None = None
    clean: tuple[WriterLock, StagingArea] | None = None
    try:
        last = writer_lock.last_area(storage.root)
        while chosen is None:
            lock, staging = _open_area(storage, [held.area for held, _ in opened])
            opened.append((lock, staging))
            resolve_landing(storage, staging)
            if not staging.dirty:
                clean = clean or opened[-1]
            elif staging.setting("branch") == branch:
                chosen = opened[-1]
            if chosen is None and clean is not None and lock.area >= last:
                chosen = clean
        return chosen
    finally:
        for one in opened:
            if one is not chosen:
                one[1].close()
                one[0].release()


def _open_area(storage: Storage, skip: Sequence[int]) -> tuple[WriterLock, StagingArea]:
    """The first free staging area, but for some."""
    lock = writer_lock.acquire_any(storage.root, storage.is_bucket, skip)
    try:
        return lock, StagingArea(lock.folder)
    except BaseException:
        lock.release()
        raise


def _prepare(storage: Storage, staging: StagingArea, branch: str) -> str | None:
    """Bring a staging area onto `branch`; the commit that it is based on."""
    head = storage.head(branch)
    if head is None:
        raise RefNotFoundError(f"there is no branch {branch!r}")
    resolve_landing(storage, staging)
    shutil.rmtree(staging.folder / BULK_SCRATCH, ignore_errors=True)  # of a bulk import that died
    stands_here = (staging.setting("branch"), staging.setting("base")) == (branch, head.commit)
    if not stands_here and left_nothing(storage, staging):
        staging.clear(branch, head.commit)
    if not staging.dirty:
        # Packs of which nothing is staged are of a writer that died at a merge, or when it had just cleared the area.
        packs = any(staging.folder.glob("*.pack"))
        if packs or (staging.setting("branch"), staging.setting("base")) != (branch, head.commit):
            staging.clear(branch, head.commit)
        return head.commit
    staged_on = staging.setting("branch")
    if staged_on != branch:
        raise DirtyStagingError(
            f"there are uncommitted changes on branch {staged_on!r}; open that branch to commit them or to call "
            f"reset_staging_area(), before you write to {branch!r}"
        )
    return staging.setting("base")


def resolve_landing(storage: Storage, staging: StagingArea) -> None:
    """Where a writer died while its commit was landing, find out whether it did; and clear what was to land with it."""
    if staging.landings():
        make_committer(storage).resolve(staging)
    branch = staging.setting("branch")
    if staging.setting(UNFINISHED) is not None and branch is not None:
        # Staged and committed in one go, or not at all: what died between the two is taken back.
        staging.clear(branch, staging.setting("base"))
