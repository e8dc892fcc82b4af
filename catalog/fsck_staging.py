"""Integrity of what is not committed: staging areas and stashes on this machine.

The database is copied and the copy is read, so that no writer finds it locked. A fault in an area that changed
meanwhile was a writer at work, and is looked for again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from hangar_cloud.backends.blocks import Place, decode_blocks
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.packs import BlockExtent, staged_pack_number
from hangar_cloud.catalog.errors import StagingError, StashNotFoundError
from hangar_cloud.catalog.findings import Finding
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.staging import SampleEvents, StagingArea
from hangar_cloud.catalog.staging_copy import copy_database
from hangar_cloud.catalog.stashes import Stashes

_DATABASE: Final = "staging.duckdb"
_TRIES: Final = 3
_MOST_SAMPLES: Final = 100


class _Staged(NamedTuple):
    """A staged sample that is in a pack."""

    column: str
    key: RowKey
    place: Place
    digest: bytes


class StagingCheck:
    """Checks the staging areas and stashes of one repository.

    Args:
        root: folder of the repository on this machine.
        scratch: an existing folder for copies of databases.
        contents: False to leave out the bytes of samples.
        has_commit: whether a commit of that digest is in the repository.
        lost: what is wrong with a committed pack being absent, None if it is not.
    """

    def __init__(
        self,
        root: Path,
        scratch: Path,
        contents: bool,
        has_commit: Callable[[str], bool],
        lost: Callable[[bytes], str | None],
    ) -> None:
        self._root = root
        self._copy = scratch / "staging"
        self._contents = contents
        self._has_commit = has_commit
        self._lost = lost

    def run(self) -> Iterator[Finding]:
        """Everything that is wrong with them."""
        for folder in _folders(self._root / "staging"):
            yield from self._settled(folder, f"staging area {folder.name}")
        stashes = Stashes(self._root)
        for folder in _folders(self._root / "stash"):
            try:
                stashes.find(folder.name)
            except StashNotFoundError:
                if folder.exists():
                    yield _finding(folder, f"stash {folder.name!r} has no description")
                continue
            except StagingError as error:
                yield _finding(folder, str(error))
            yield from self._settled(folder, f"stash {folder.name!r}")

    def _settled(self, folder: Path, what: str) -> list[Finding]:
        """The faults of an area that nobody changed meanwhile."""
        for _ in range(_TRIES):
            before = _state(folder)
            try:
                findings = list(self._faults(folder, what))
            except FileNotFoundError as error:
                findings = [_finding(folder, f"{what} cannot be read: {error}")]
            if not findings or _state(folder) == before:
                return findings
        return []

    def _faults(self, folder: Path, what: str) -> Iterator[Finding]:
        if not (folder / _DATABASE).exists():
            # A writer that died while it made the database has lost nothing.
            if any(not path.name.startswith(f"{_DATABASE}.incoming") for path in folder.iterdir()):
                yield _finding(folder, f"{what} has lost its database, and with it what was staged")
            return
        extents: dict[int, list[BlockExtent]] = {}
        try:
            samples, extents, base = self._read(folder)
        except (StagingError, AssertionError, ValueError, TypeError, KeyError) as error:
            reason = str(error.__cause__ or error).replace(str(self._copy), str(folder))
            yield _finding(folder / _DATABASE, f"the database of {what} cannot be read: {reason}")
            return
        if base and not self._has_commit(base):
            yield _finding(folder / _DATABASE, f"{what} is based on commit {base[:12]}, which is missing")
        told = 0
        for sample in samples:
            fault = self._fault(folder, sample, extents)
            if fault is None:
                continue
            told += 1
            if told <= _MOST_SAMPLES:
                yield _finding(folder, f"{what}: {fault}", sample.column, sample.key)
        if told > _MOST_SAMPLES:
            yield _finding(folder, f"{told - _MOST_SAMPLES:,} more samples of {what} are like these")

    def _read(self, folder: Path) -> tuple[list[_Staged], dict[int, list[BlockExtent]], str | None]:
        copy = self._copy
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        copy_database(folder, copy)
        area = StagingArea(copy)
        try:
            samples = [
                _Staged(event.name, key, row.place, row.identity[1:])
                for event in area.events()
                if isinstance(event, SampleEvents)
                for key, row in event.rows
                if row is not None and row.place is not None
            ]
            # Of an area where nothing is staged, the next writer sets the base anew.
            return samples, area.extents(), area.setting("base") if area.dirty else None
        finally:
            area.close()
            shutil.rmtree(copy, ignore_errors=True)

    def _fault(self, folder: Path, sample: _Staged, extents: dict[int, list[BlockExtent]]) -> str | None:
        place = sample.place
        number = staged_pack_number(place.pack)
        if number is None:
            return self._lost(place.pack)
        path = folder / f"{number}.pack"
        if BlockExtent(place.offset, place.stored) not in extents.get(number, ()):
            return f"bytes {place.offset}+{place.stored} of {path.name} were never recorded as written"
        if not path.is_file():
            return f"{path.name} is missing"
        if not self._contents:
            short = path.stat().st_size < place.offset + place.stored
            return f"{path.name} is cut short" if short else None
        with path.open("rb") as file:
            file.seek(place.offset)
            data = file.read(place.stored)
        try:
            decode_blocks(data, sample.digest, place.start + place.size)
        except (CorruptDataError, UnsupportedFormatError) as error:
            return str(error)
        return None


def _finding(path: Path, message: str, column: str | None = None, key: RowKey | None = None) -> Finding:
    return Finding("staging", str(path), column, key, message=message)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """What tells whether anything in a folder was changed."""
    try:
        found = [(path.name, path.lstat()) for path in sorted(folder.iterdir())]
    except FileNotFoundError:
        return []
    return [(name, status.st_size, status.st_mtime_ns) for name, status in found]
