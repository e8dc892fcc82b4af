"""Making the database of a staging area anew: a database keeps on disk what was deleted from it, for a while."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from hangar_cloud.backends.store.durable_files import publish_over
from hangar_cloud.catalog.staging import StagingArea

_DATABASE: Final = "staging.duckdb"
_SCRATCH: Final = "rebuilding"


def rebuild(folder: Path) -> None:
    """Write the database of a staging area that nobody has open anew, with what is in it and nothing that was.

    Raises:
        StagingError: it cannot be read or written; it is as it was then.
    """
    scratch = folder / _SCRATCH
    _remove(scratch)
    old, new = StagingArea(folder), StagingArea(scratch)
    try:
        old.copy_into(new)
    finally:
        old.close()
        new.close()
    publish_over(scratch / _DATABASE, folder / _DATABASE)
    (folder / f"{_DATABASE}.wal").unlink(missing_ok=True)
    _remove(scratch)


def _remove(scratch: Path) -> None:
    # A process that died may have left any file of a database in it.
    if scratch.exists():
        shutil.rmtree(scratch)
