"""Opening a writer: the lock, the staging area, and what an earlier writer left in it."""

from __future__ import annotations

from hangar_cloud import writer_lock
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.checkout import Logger
from hangar_cloud.committing import make_committer
from hangar_cloud.errors import DirtyStagingError, RefNotFoundError
from hangar_cloud.storage import Storage
from hangar_cloud.writer_checkout import WriterCheckout
from hangar_cloud.writer_lock import WriterLock

_MOST_AREAS = 256


def open_writer(storage: Storage, branch: str, user: tuple[str, str], log: Logger) -> WriterCheckout:
    """A writer checkout of a branch, with what was staged for it before.

    In a bucket, staging areas that hold changes for another branch are left alone and a new one is made.

    Raises:
        PermissionError: another writer is open.
        ValueError: changes for another branch are staged.
    """
    skipped: list[WriterLock] = []
    try:
        while True:
            lock = writer_lock.acquire_any(storage.root, storage.is_bucket, [held.area for held in skipped])
            try:
                staging = StagingArea(lock.folder)
            except BaseException:
                lock.release()
                raise
            try:
                base = _prepare(storage, staging, branch)
            except DirtyStagingError:
                staging.close()
                if storage.is_bucket and lock.area + 1 < _MOST_AREAS:
                    skipped.append(lock)
                    continue
                lock.release()
                raise
            except BaseException:
                staging.close()
                lock.release()
                raise
            try:
                return WriterCheckout(storage, branch, base, lock, staging, user, log)
            except BaseException:
                staging.close()
                lock.release()
                raise
    finally:
        for held in skipped:
            held.release()


def _prepare(storage: Storage, staging: StagingArea, branch: str) -> str | None:
    """Bring a staging area onto `branch`; the commit that it is based on."""
    head = storage.head(branch)
    if head is None:
        raise RefNotFoundError(f"there is no branch {branch!r}")
    _resolve_landing(storage, staging)
    if not staging.dirty:
        if (staging.setting("branch"), staging.setting("base")) != (branch, head.commit):
            staging.clear(branch, head.commit)
        return head.commit
    staged_on = staging.setting("branch")
    if staged_on != branch:
        raise DirtyStagingError(
            f"there are uncommitted changes on branch {staged_on!r}; open that branch to commit them or to call "
            f"reset_staging_area(), before you write to {branch!r}"
        )
    return staging.setting("base")


def _resolve_landing(storage: Storage, staging: StagingArea) -> None:
    """Where a writer died while its commit was landing, find out whether it did."""
    if staging.landings():
        make_committer(storage).resolve(staging)
