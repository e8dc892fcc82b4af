"""The writer lock: one writer at a time for each staging area, freed by the system when it dies."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from hangar_cloud.backends.store.durable_files import disk_errors_told, open_regular, read_regular, replace_file
from hangar_cloud.errors import WriterLockError

_MOST_AREAS: Final = 256
_MAX_BYTES: Final = 64


class WriterLock:
    """A held lock on one staging area.

    An operating system's lock cannot be taken from a process that lives, so releasing by force
    raises a generation number instead: locks of an older generation count as lost.
    """

    def __init__(self, root: Path, area: int) -> None:
        self.area = area
        self._generation_file = root / "generation"
        self._generation = _generation(root)
        self._seen: tuple[int, int] | None = None
        self._lost = False
        self._lock = _file_lock(root, area, self._generation)
        with disk_errors_told(root):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:  # which is an OSError too
                raise WriterLockError(_held_message(root)) from None
        self._process = os.getpid()
        try:
            with disk_errors_told(root / "staging"):
                self.folder = _take_over(root / "staging", area, self._generation)
        except BaseException:
            self._lock.release()
            raise

    def check(self) -> None:
        """Raises WriterLockError if the lock was released, by force or not, or is another process's."""
        if os.getpid() != self._process:
            raise WriterLockError(
                "this writer checkout was opened in another process, and only that one can use it. Open a reader "
                "here, or close the writer there and open one here with write=True"
            )
        if not self._lock.is_locked or self._generation_changed():
            raise WriterLockError(
                "this writer's lock was released (force_release_writer_lock, or close()); open a new checkout with "
                "write=True"
            )

    def _generation_changed(self) -> bool:
        # A stat is a tenth of the cost of reading the file, and this runs on every single write.
        try:
            status = os.stat(self._generation_file)
        except FileNotFoundError:
            return self._generation != 0
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._seen = seen
            self._lost = _read_generation(self._generation_file) != self._generation
        return self._lost

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def acquire_any(root: Path, several: bool, skip: Sequence[int] = ()) -> WriterLock:
    """The lock of the first free staging area.

    Args:
        root: folder of the repository on this machine.
        several: whether there may be more than one writer here, each with its own area.
        skip: areas that are not wanted.

    Raises:
        WriterLockError: none is free.
    """
    for area in range(_MOST_AREAS if several else 1):
        if area in skip:
            continue
        try:
            return WriterLock(root, area)
        except WriterLockError:
            continue
    raise WriterLockError(_held_message(root))


def last_area(root: Path) -> int:
    """The highest number of a staging area that is there, whoever holds it; -1 where there is none."""
    names = (re.fullmatch(r"(\d+)(\.\d+)?", path.name) for path in (root / "staging").glob("*"))
    return max((int(match[1]) for match in names if match), default=-1)


def is_held(root: Path) -> bool:
    """True if any writer is open on this machine."""
    for area in _areas(root):
        lock = _file_lock(root, area, _generation(root))
        try:
            lock.acquire(timeout=0)
            lock.release()
        except Timeout:
            return True
        except OSError:  # of another user, or on a disk that is read-only
            if _is_seen_held(Path(lock.lock_file)):
                return True
    return False


def force_release(root: Path) -> None:
    """Make every lock that is held now count as lost."""
    root.mkdir(parents=True, exist_ok=True)
    generation = _generation(root)
    replace_file(root / "generation", str(generation + 1).encode())
    for path in root.glob(f"writer-{generation}-*.lock"):
        path.unlink(missing_ok=True)


def _take_over(folder: Path, area: int, generation: int) -> Path:
    """The folder of a staging area, with what the writer before a release by force had staged.

    That writer may still live and hold its files open, so it keeps its own folder's files to itself and
    the new writer gets copies under another name.
    """
    own = _area_folder(folder, area, generation)
    older = [_area_folder(folder, area, number) for number in reversed(range(generation))]
    if own.exists():
        for path in older:  # taken over before; else it would be once more, when the area is moved into a stash
            shutil.rmtree(path, ignore_errors=True)
        return own
    left = next((path for path in older if path.is_dir()), None)
    if left is None:
        return own
    incoming = own.with_name(f"{own.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    shutil.copytree(left, incoming, copy_function=shutil.copyfile)
    os.replace(incoming, own)
    shutil.rmtree(left, ignore_errors=True)
    return own


def _area_folder(folder: Path, area: int, generation: int) -> Path:
    return folder / (f"{area}.{generation}" if generation else str(area))


def _is_seen_held(path: Path) -> bool:
    """Whether somebody holds a lock whose file may be read and not written; False where that cannot be told."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        descriptor = open_regular(path)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _areas(root: Path) -> list[int]:
    pattern = re.compile(rf"writer-{_generation(root)}-(\d+)\.lock")
    found = (pattern.fullmatch(path.name) for path in root.glob("writer-*.lock"))
    return [int(match[1]) for match in found if match]


def _file_lock(root: Path, area: int, generation: int) -> FileLock:
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / f"writer-{generation}-{area}.lock", thread_local=False)


def _generation(root: Path) -> int:
    return _read_generation(root / "generation")


def _read_generation(path: Path) -> int:
    try:
        return int(read_regular(path, _MAX_BYTES))
    except (OSError, ValueError):
        return 0


def _held_message(root: Path) -> str:
    return (
        f"the writer lock of {root} is held: only one writer checkout can be open at a time. Close the other one "
        "(or end its process); if you are sure that nobody writes, call force_release_writer_lock()"
    )
