"""The size limit of a cache folder: whole files go, least recently used first."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

_CHECK_SHARE: Final = 16
_KEEP_SHARE: Final = 0.8
_YOUNG_SECONDS: Final = 2.0


class CacheLimit:
    """Keeps folders of re-fetchable files under a size, together with every other process.

    Args:
        folders: folders whose files are all safe in a remote.
        max_bytes: the limit in bytes of disk really used (sparse files count what they hold).
        lock: path of the lock file that makes one process at a time evict.
    """

    def __init__(self, folders: list[Path], max_bytes: int, lock: Path) -> None:
        self.folders = folders
        self.max_bytes = max_bytes
        self._lock = lock
        self._unchecked = max_bytes  # so that the first write looks at what earlier processes left

    def added(self, size: int) -> list[Path]:
        """Take note that `size` bytes were added; evicts when enough came together.

        Returns:
            paths that were removed, for the caller to close.
        """
        self._unchecked += size
        if self._unchecked * _CHECK_SHARE < self.max_bytes:
            return []
        self._unchecked = 0
        return self.evict()

    def evict(self) -> list[Path]:
        """Remove least recently used files until the folders hold at most 80% of the limit."""
        try:
            with FileLock(self._lock, timeout=0):
                return self._evict()
        except Timeout:
            return []

    def _evict(self) -> list[Path]:
        files = []
        total = 0
        for folder in self.folders:
            for path in folder.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if path.is_file():
                        used = status.st_blocks * 512
                        total += used
                        files.append((max(status.st_atime, status.st_mtime), used, path))
        removed: list[Path] = []
        if total <= self.max_bytes:
            return removed
        youngest = time.time() - _YOUNG_SECONDS
        for used_at, used, path in sorted(files):
            if total <= self.max_bytes * _KEEP_SHARE or used_at > youngest:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                total -= used
                removed.append(path)
        return removed
