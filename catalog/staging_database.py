"""Making and opening the database of a staging area."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hangar_cloud.backends.store.durable_files import publish_over
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.uninterrupted import uninterrupted


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what the database says into a StagingError."""
    with uninterrupted():
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise StagingError(
                f"the staging area {folder} could not be used ({error}); what was staged before is kept. "
                "Check that the disk is not full and that no other process writes to this repository"
            ) from error


def create(path: Path) -> None:
    """Make an empty database, and give it its name when it is whole: half of one could never be opened again."""
    incoming = path.with_name(f"{path.name}.incoming")
    for left in (incoming, incoming.with_name(f"{incoming.name}.wal")):
        left.unlink(missing_ok=True)
    with told(path.parent):
        connect(incoming).close()
    publish_over(incoming, path)


def connect(path: Path) -> Any:
    """A connection to a database. Raises StagingError where it cannot be opened."""
    with uninterrupted():
        import duckdb

        try:
            # Whoever handed on the folder may have put a view of other files of this machine in the place of a table.
            connection = duckdb.connect(
                str(path),
                config={"threads": 1, "enable_external_access": "false", "autoload_known_extensions": "false"},
            )
            # Or it draws a bar on standard output, in the midst of what a program prints, after some seconds.
            connection.execute("SET enable_progress_bar = false")
            return connection
        except duckdb.Error as error:
            raise StagingError(
                f"the staging area {path} cannot be opened: {error}. If another process writes to this repository, "
                "wait for it or stop it"
            ) from error
