"""Copying the database of a staging area, to read it while a writer has the original open."""

from __future__ import annotations

import contextlib
import shutil
import stat
from pathlib import Path
from typing import Final

from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.staging_journal import NAME

_DATABASE: Final = "staging.duckdb"


def copy_database(folder: Path, target: Path) -> None:
    """Copy a staging area's database into an existing folder, with its log and its journal.

    Raises:
        FileNotFoundError: there is no database.
        StagingError: something else than a file is in the place of one.
    """
    # The journal first: a writer may take it over meanwhile, and then the copy of the database says that it counts for
    # nothing. The other way round, the copy would lack what was in it.
    others = sorted({path.name for path in folder.glob(f"{_DATABASE}?*")} - {NAME})
    for name in (NAME, _DATABASE, *others):
        path = folder / name
        with contextlib.nullcontext() if name == _DATABASE else contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise StagingError(f"{path} is no file")  # a pipe or a device in its place would never end
            shutil.copyfile(path, target / name)
