"""Files on a local disk that appear whole, once, and survive a crash of the machine."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hangar_cloud.backends.errors import AccessDeniedError, HangarError, StoreError
from hangar_cloud.backends.store.paths import OWN_PREFIX, TEMPORARY_PREFIX

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

    A crash leaves the file behind under a name that no listing shows, until `remove_leftovers` finds it.
    """
    make_folder(target.parent)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
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


def replace_file(target: Path, data: bytes) -> None:
    """Make ``data`` the contents of ``target``, whole or not at all; its folder is made if missing.

    Never writes through a link that lies in the way: the temporary name is a fresh one, and a link at ``target`` is
    replaced.
    """
    with disk_errors_told(target), temporary_sibling(target) as temporary:
        write_flushed(temporary, data)
        publish_over(temporary, target)


@contextmanager
def disk_errors_told(place: Path) -> Iterator[None]:
    """Turn what the system says of a full, read-only or broken disk into a StoreError or AccessDeniedError."""
    try:
        yield
    except HangarError:
        raise
    except PermissionError as error:
        raise AccessDeniedError(
            f"Cannot write {place}: the operating system refused ({error.strerror}). Check the owner and permissions "
            "of the folder."
        ) from error
    except OSError as error:
        raise StoreError(
            f"Cannot write {place}: {error.strerror or error}. Check the disk and its free space, and do it again; "
            "what was written before is intact."
        ) from error


def open_regular(file: Path) -> int:
    """A descriptor that reads a regular file; whoever unpacked a repository may have put anything in its place.

    Raises FileNotFoundError for anything else: a pipe would make its reader wait, a device never end.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
    number = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", str(file))
    return number


def read_regular(file: Path, limit: int | None = None) -> bytes:
    """The contents of a regular file; raises FileNotFoundError for anything else, and OSError if it is over limit."""
    with os.fdopen(open_regular(file), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"the file has {size} bytes, where at most {limit} are read", str(file))
        return stream.read()


def write_at(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of some bytes at a place in an open file. Raises OSError, after which a part of them may be there."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


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
