"""Folders for arrays while TileDB writes or reads them; those of processes that were killed are removed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hangar_cloud.backends.errors import HangarError, StoreError
from hangar_cloud.backends.store.leftovers import is_alive

_PREFIX: Final = "hangar-array-"
_NAME: Final = re.compile(rf"{_PREFIX}(\d+)-\w+", re.ASCII)
_swept: set[str] = set()


def new_folder() -> Path:
    """A new folder where the system keeps temporary files (``TMPDIR``), for this user alone. Raises OSError."""
    parent = tempfile.gettempdir()
    if parent not in _swept:
        _swept.add(parent)
        _sweep(parent)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def told_of_folders() -> Iterator[None]:
    """Turn what the system says of such a folder into an error of ours."""
    try:
        yield
    except OSError as error:
        if isinstance(error, HangarError):
            raise
        raise StoreError(
            f"an array cannot be kept for a moment where the system has its temporary files: {error}. Free some space, "
            "or set TMPDIR to another folder; nothing was changed"
        ) from error


def _sweep(parent: str) -> None:
    """Remove what processes of this user that are no more have left."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            # Each on its own: another process may sweep at the same time.
            with suppress(OSError):
                if match and not is_alive(int(match[1])) and _is_own(entry):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _is_own(entry: os.DirEntry[str]) -> bool:
    owner = entry.stat(follow_symlinks=False).st_uid
    return entry.is_dir(follow_symlinks=False) and owner == getattr(os, "getuid", lambda: owner)()
