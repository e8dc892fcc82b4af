"""The size limit of a cache folder: files go, least recently used first, before others come."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

from filelock import FileLock, Timeout

from hangar_cloud.backends.store.paths import OWN_PREFIX

# Processes write beside each other, each unseen by the others until they look. The shares leave room for that.
_CHECK_SHARE: Final = 64
_FULL_SHARE: Final = 0.78
_KEEP_SHARE: Final = 0.7
_LOCK_SECONDS: Final = 1.0
_ABANDONED_SECONDS: Final = 3600.0


class _File(NamedTuple):
    used_at: float
    used: int
    path: Path


class CacheLimit:
    """Keeps folders of re-fetchable files under a size, together with every other process.

    Args:
        folders: folders whose files are all safe in a remote.
        max_bytes: the limit in bytes of disk really used (sparse files count what they hold).
        lock: path of the lock file that makes one process at a time evict.
        sparse: that of the folders whose files are read by descriptor and never mapped into memory. They are emptied
            before they are removed, since readers that hold one open would keep its bytes on the disk.
    """

    def __init__(self, folders: list[Path], max_bytes: int, lock: Path, sparse: Path | None = None) -> None:
        self.folders = folders
        self.max_bytes = max_bytes
        self._lock = lock
        self._sparse = sparse
        self._unchecked = max_bytes  # so that the first write looks at what earlier processes left

    def fits(self, size: int) -> bool:
        """False for what is so large that all else would have to go for it."""
        return size <= self.max_bytes * _KEEP_SHARE

    def make_room(self, size: int) -> list[Path]:
        """Take note that `size` bytes are about to be written; evicts when enough came together.

        Returns:
            paths that were removed, for the caller to close.
        """
        self._unchecked += size
        if self._unchecked * _CHECK_SHARE < self.max_bytes:
            return []
        self._unchecked = 0
        return self.evict(size)

    def evict(self, incoming: int = 0) -> list[Path]:
        """Where the folders and `incoming` bytes come near the limit, remove files until they are well below it."""
        try:
            with FileLock(self._lock, timeout=_LOCK_SECONDS):
                return self._evict(incoming)
        except Timeout:
            return []

    def _evict(self, incoming: int) -> list[Path]:
        files = sorted(self._files())
        total = sum(file.used for file in files) + incoming
        removed: list[Path] = []
        if total <= self.max_bytes * _FULL_SHARE:
            return removed
        unfinished_before = time.time() - _ABANDONED_SECONDS
        for used_at, used, path in files:
            if total <= self.max_bytes * _KEEP_SHARE:
                break
            # Another process is writing that one, unless it died.
            if path.name.startswith(OWN_PREFIX) and used_at > unfinished_before:
                continue
            with contextlib.suppress(FileNotFoundError):
                self._remove(path)
                total -= used
                removed.append(path)
        return removed

    def _files(self) -> list[_File]:
        found = []
        for folder in self.folders:
            for path in folder.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        found.append(_File(max(status.st_atime, status.st_mtime), status.st_blocks * 512, path))
        return found

    def _remove(self, path: Path) -> None:
        if self._sparse is not None and self._sparse in path.parents:
            os.truncate(path, 0)
        os.unlink(path)
