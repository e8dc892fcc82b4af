"""Moving a branch or tag to a commit that exists, while garbage collections may be running."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from hangar_cloud.backends.store.durable_files import disk_errors_told
from hangar_cloud.catalog.commits import commit_path
from hangar_cloud.catalog.watch import Watch, land
from hangar_cloud.errors import GarbageCollectionError, RefNotFoundError
from hangar_cloud.storage import Storage

_LOCK_SECONDS = 60

T = TypeVar("T")


def refer(storage: Storage, digest: str, move: Callable[[], T]) -> T:
    """Move a pointer to a commit; what that reaches is not collected meanwhile.

    Args:
        storage: of the repository.
        digest: of the commit.
        move: moves the pointer.

    Raises:
        RefNotFoundError: the commit is not in the repository, perhaps not any more.
    """
    path = commit_path(digest)

    def check() -> tuple[list[str], str]:
        if not storage.store.exists(path):
            raise collected(storage, digest)
        return [path], digest

    if storage.is_bucket:
        watch = Watch(storage.store)
        watch.start()
        # Asked for before it is looked at, since it could not be made again.
        watch.announce([path], digest)
        return land(watch, check, lambda _: move())
    with alone_with_refs(storage):
        check()
        return move()


def collected(storage: Storage, digest: str) -> RefNotFoundError:
    """What to raise where the log of a branch names a commit that is not there any more."""
    return RefNotFoundError(
        f"commit {digest[:12]} is not in {storage.location} any more: no branch or tag referred to it, and a garbage "
        "collection (gc) removed it"
    )


@contextlib.contextmanager
def alone_with_refs(storage: Storage) -> Iterator[None]:
    """Keep a local repository's garbage collection and those who make pointers to old commits apart."""
    from filelock import FileLock, Timeout

    with disk_errors_told(storage.root):
        storage.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(storage.root / "refs.lock")
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise GarbageCollectionError(
                f"a garbage collection, or a fetch, of {storage.location} in another process holds its branches for "
                f"more than {_LOCK_SECONDS} seconds; nothing was changed. Try again when it is through"
            ) from None
    try:
        yield
    finally:
        lock.release()
