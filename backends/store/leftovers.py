"""Temporary files and folders of processes that died: nobody else reads, lists or would ever remove them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hangar_cloud.backends.store.durable_files import make_folder
from hangar_cloud.backends.store.paths import PROBE_PREFIX, TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(rf"(?:{re.escape(TEMPORARY_PREFIX)}|{re.escape(PROBE_PREFIX)})(\d+)-[0-9a-f]{{16}}", re.ASCII)


def remove_leftovers(folder: Path, before: float) -> int:
    """Remove the temporary files and folders below a folder that no living process can still be writing.

    Args:
        folder: may be missing.
        before: seconds since 1970; files that were written to at that time or later stay. Where another machine may
            use the folder too, whose processes cannot be seen from here, this alone protects what it is writing.

    Returns:
        how many were removed. What cannot be removed stays, without an error.
    """
    removed = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            match = _NAME.fullmatch(name)
            if match is None or is_alive(int(match[1])):
                continue
            path = os.path.join(place, name)
            with suppress(OSError):
                if os.lstat(path).st_mtime < before:
                    shutil.rmtree(path) if name in folders else os.unlink(path)
                    removed += 1
    return removed


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in ``parent``, which is made if it is missing; at the end it is removed with all in it.

    What a crash leaves of it is found by `remove_leftovers`.
    """
    make_folder(parent)
    folder = parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_alive(process: int) -> bool:
    """Whether there is such a process on this machine; on Windows, where asking would end it, only this is known."""
    if process == os.getpid() or sys.platform == "win32":
        return process == os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
