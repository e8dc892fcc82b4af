"""Staged changes that were put away: whole staging areas, moved out of a writer's way by renaming their folder.

    <root>/stash/<name>/               a staging area, with `stash.json` that says what it is
    <root>/stash.discarded/            what is about to be deleted

A rename happens or does not, so a process may die after any step: the changes are in the staging area or in
the stash, whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hangar_cloud.backends.store.durable_files import (
    disk_errors_told,
    flush_folder,
    make_folder,
    read_regular,
    write_flushed,
)
from hangar_cloud.catalog.errors import StagingError, StashExistsError, StashNotFoundError
from hangar_cloud.catalog.near_names import did_you_mean

_ABOUT: Final = "stash.json"
_LOCK_SECONDS: Final = 60
_MAX_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class StashInfo:
    """One stash.

    Attributes:
        name: given by the user.
        time: when it was made; UTC, ISO 8601 with microseconds.
        branch: that the writer was on.
        base: commit that the changes are on top of; empty before the first commit.
        columns: names of the columns that are changed; the metadata has the empty name.
        samples: number of samples (or subsamples, or metadata keys) that are set or deleted.
    """

    name: str
    time: str
    branch: str
    base: str
    columns: tuple[str, ...]
    samples: int


class Stashes:
    """The stashes of a repository on this machine.

    Args:
        root: folder of the repository on this machine.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "stash"
        self._discarded = root / "stash.discarded"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from moving stashes meanwhile, and clean up after those that died."""
        from filelock import FileLock, Timeout

        make_folder(self._root)
        lock = FileLock(self._root / "stash.lock")
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise StagingError(
                f"another process has moved stashes of {self._root} for {_LOCK_SECONDS} seconds"
            ) from None
        try:
            shutil.rmtree(self._discarded, ignore_errors=True)
            yield
        finally:
            lock.release()

    def clean_up(self) -> None:
        """Remove what those who died at moving stashes had still to delete."""
        if self._discarded.exists():
            with self.alone():
                pass

    def all(self) -> list[StashInfo]:
        """All stashes, the newest first."""
        names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        found = []
        for name in names:
            with contextlib.suppress(StashNotFoundError):  # another process took it meanwhile
                found.append(self.find(name))
        return sorted(found, key=lambda info: (info.time, info.name), reverse=True)

    def find(self, name: str) -> StashInfo:
        """What is known of a stash. Raises StashNotFoundError."""
        try:
            about = json.loads(read_regular(self._folder / name / _ABOUT, _MAX_BYTES))
            columns = tuple(str(column) for column in about["columns"])
            return StashInfo(
                name, str(about["time"]), str(about["branch"]), str(about["base"]), columns, int(about["samples"])
            )
        except (FileNotFoundError, NotADirectoryError):
            raise StashNotFoundError(self._absence(name)) from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
            raise StagingError(
                f"the description of stash {name!r} in {self._folder / name} is damaged: {error!r}"
            ) from error

    def folder(self, name: str) -> Path:
        """The staging area of a stash."""
        return self._folder / name

    def refuse_taken(self, name: str) -> None:
        """Raises StashExistsError if there is a stash of that name."""
        if self.folder(name).exists():
            raise StashExistsError(f"there is a stash {name!r} already; pop or drop it, or choose another name")

    def put(self, area: Path, info: StashInfo) -> None:
        """Make a stash of a staging area, whose database is closed. `area` is gone afterwards."""
        self.refuse_taken(info.name)
        with disk_errors_told(self._folder):
            _describe(area, info)
            make_folder(self._folder)
            _move(area, self.folder(info.name))

    def take(self, name: str, area: Path) -> None:
        """Make a stash the staging area of a writer, in place of a clean one. Databases of both are closed."""
        if area.exists():
            make_folder(self._discarded)
            _move(area, self._discarded / secrets.token_hex(8))
        _move(self.folder(name), area)
        shutil.rmtree(self._discarded, ignore_errors=True)
        (area / _ABOUT).unlink(missing_ok=True)

    def drop(self, name: str) -> None:
        """Delete a stash. Raises StashNotFoundError."""
        if not self.folder(name).is_dir():
            self.find(name)
        make_folder(self._discarded)
        _move(self.folder(name), self._discarded / secrets.token_hex(8))
        shutil.rmtree(self._discarded, ignore_errors=True)

    def _absence(self, name: str) -> str:
        names = sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []
        return f"there is no stash {name!r}; there is: {', '.join(names) or 'none'}{did_you_mean(name, names)}"


def _describe(area: Path, info: StashInfo) -> None:
    incoming = area / f"{_ABOUT}.incoming"
    incoming.unlink(missing_ok=True)
    about: dict[str, Any] = asdict(info)
    write_flushed(incoming, json.dumps(about, indent=1).encode("ascii"))
    os.replace(incoming, area / _ABOUT)
    flush_folder(area)


def _move(folder: Path, target: Path) -> None:
    """Rename a folder; a crash of the machine afterwards does not undo it."""
    os.rename(folder, target)
    flush_folder(target.parent)
    flush_folder(folder.parent)
