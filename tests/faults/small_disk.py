"""A disk that is full, for one process at a time.

Where this user may mount one, it is a file system in memory with a file that takes up its space. Elsewhere the process
may not write beyond a file size, which fails at the same calls with another number.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.repository.making import finish, start_process

SIZE: Final = 48 * 1024 * 1024
_FILLER: Final = ".filler"
_LIMITED: Final = """
    import resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if sys.argv[1] != "0":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
    sys.argv = sys.argv[1:]
"""


class SmallDisk:
    """A folder on a disk of its own, or as near to that as this user may come."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder = folder
        self._mounted = mounted

    def run(self, script: str, *arguments: str, left: int) -> str:
        """What a script prints that finds so many bytes left on the disk (where that is not full already)."""
        import textwrap

        if self._mounted:
            self._fill(left)
        limit = "0" if self._mounted else str(max(left, 4096))
        try:
            return finish(start_process(textwrap.dedent(_LIMITED) + textwrap.dedent(script), limit, *arguments))
        finally:
            (self.folder / _FILLER).unlink(missing_ok=True)

    def _fill(self, left: int) -> None:
        status = os.statvfs(self.folder)
        free = status.f_bavail * status.f_frsize
        with (self.folder / _FILLER).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(free - left, 1))


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A small disk at a folder, gone afterwards."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield SmallDisk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
