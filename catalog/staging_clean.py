"""The note that nothing is staged: a writer that finds it need not open the database to learn that.

To open the database takes some 20 ms, half of what a checkout for writing took, and nearly every one finds nothing.

The note says of which file of the database it was written, and is removed before that is changed. So an older note, or
the note of another file (one that was copied, put back from a stash, or written by a version that knows of no notes),
counts for nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

from hangar_cloud.backends.store.durable_files import flush_folder, read_regular, temporary_sibling

_NOTE: Final = "clean.json"
_MAX_BYTES: Final = 64 * 1024

Settings = dict[str, str | None]


def write_note(database: Path, settings: Settings) -> None:
    """Note that nothing is staged in a database that nobody has open, and what its settings are. Best effort."""
    state = _state(database)
    if state is None:
        return
    note = database.with_name(_NOTE)
    text = json.dumps({"database": state, "settings": settings}, sort_keys=True).encode()
    with contextlib.suppress(OSError), temporary_sibling(note) as temporary:
        # Not flushed: after a power cut no note, or half of one, is as good as a whole one.
        temporary.write_bytes(text)
        os.replace(temporary, note)


def read_note(database: Path) -> Settings | None:
    """The settings of a database in which nothing is staged; None where that is not known."""
    try:
        note = json.loads(read_regular(database.with_name(_NOTE), _MAX_BYTES))
        settings = note["settings"]
        if note["database"] != _state(database) or not all(isinstance(v, (str, type(None))) for v in settings.values()):
            return None
        return {str(name): value for name, value in settings.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def remove_note(database: Path) -> None:
    """Have no note, durably: call before the database is changed. Raises OSError."""
    note = database.with_name(_NOTE)
    if note.exists():
        note.unlink(missing_ok=True)
        flush_folder(note.parent)


def _state(database: Path) -> list[int] | None:
    """What tells the file from any other, and from itself once it was changed; None while there is a log beside it."""
    if database.with_name(f"{database.name}.wal").exists():
        return None
    try:
        status = database.lstat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]
