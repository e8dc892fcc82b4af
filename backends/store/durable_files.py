"""Files on a local disk that appear whole, once, and survive a crash of the machine."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hangar_cloud.backends.store.paths import OWN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NO_LINKS = {
    errno.EPERM,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
    errno.EACCES,
}


@contextmanager
def temporary_sibling(target: Path) -> Iterator[Path]:
    """Yield an unused name in ``target``'s folder (made if missing); what is left under it is removed at the end.

    A crash leaves the file behind under a name that no listing shows; nothing ever looks at it again.
    """
    make_folder(target.parent)
    temporary = target.parent / f"{OWN_PREFIX}tmp-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents; a crash afterwards does not undo it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
        flush_folder(folder.parent)


def write_flushed(file: Path, data: bytes) -> None:
    """Write a new file and return when its bytes are on the disk."""
    with open(file, "xb", buffering=0) as stream:
        view = memoryview(data)
        while view:
            view = view[stream.write(view) :]
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Return when the names in ``folder`` are on the disk (where the system can say so)."""
    if sys.platform == "win32":  # folders cannot be opened there, and renames are journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def publish_new(temporary: Path, target: Path) -> bool:
    """Give the finished file ``temporary`` the name ``target``; False if that name is taken. Never overwrites."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS or not os.access(target.parent, os.W_OK):
            raise
        if not _publish_under_lock(temporary, target):
            return False
    flush_folder(target.parent)
    return True


def publish_over(temporary: Path, target: Path) -> None:
    """Give the finished file ``temporary`` the name ``target``, replacing what had it."""
    os.replace(temporary, target)
    flush_folder(target.parent)


def _publish_under_lock(temporary: Path, target: Path) -> bool:
    # FAT, some SMB shares and FUSE mounts have no hard links. Every process finds that out the same way, so
    # a lock beside the file, which the system frees after a crash, keeps look-then-rename in one hand.
    from filelock import FileLock

    with FileLock(target.parent / f"{OWN_PREFIX}create.lock"):
        if target.exists():
            return False
        os.replace(temporary, target)
        return True
