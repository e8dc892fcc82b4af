"""What is staged in a repository, seen from outside, while a writer may be at work."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hangar_cloud import writer_lock
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import ColumnEvent, SampleEvents, StagingArea
from hangar_cloud.errors import StagingError
from hangar_cloud.storage import Storage

_FILES: Final = ("staging.duckdb", "staging.duckdb.wal")
_AREA: Final = re.compile(r"(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class ColumnStatus:
    """How a column differs from the commit below: `action` in words, and numbers of samples."""

    name: str
    action: str
    kind: str
    added: int = 0
    changed: int = 0
    removed: int = 0
    settings_changed: bool = False


@dataclass(frozen=True)
class AreaStatus:
    """One staging area that holds something.

    Attributes:
        branch: what a commit would extend.
        base: the commit that the changes are on top of, None before the first.
        columns: the columns that a commit would change.
        interrupted: a commit of this was cut off at its very end.
    """

    branch: str
    base: str | None
    columns: list[ColumnStatus]
    interrupted: bool = False


@dataclass(frozen=True)
class RepositoryStatus:
    """The branch that is written to, and what is staged.

    Attributes:
        branch: its name.
        head: its commit, None before the first.
        writer_open: whether a writer is open on this machine.
        areas: staging areas that are not clean; in a bucket there may be several.
        unreadable: why an area could not be read, where a writer was in the middle of something.
    """

    branch: str
    head: str | None
    writer_open: bool
    areas: list[AreaStatus] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def read_status(storage: Storage, branch: str) -> RepositoryStatus:
    """The status of a repository whose writers use `branch`. Takes no lock, and disturbs no writer.

    Raises:
        StagingError: a staging area is damaged.
    """
    pointer = storage.head(branch)
    status = RepositoryStatus(branch, None if pointer is None else pointer.commit, writer_lock.is_held(storage.root))
    for folder in _areas(storage.root / "staging"):
        try:
            area = _read_area(storage, folder, branch)
        except StagingError as error:
            if not status.writer_open:
                raise
            status.unreadable.append(str(error))
            continue
        if area is not None:
            status.areas.append(area)
    return status


def describe(schema: ColumnSchema) -> str:
    """What a column holds, in a few words: ``uint8, 28 x 28``."""
    nested = ", subsamples" if schema.column_layout == "nested" else ""
    if schema.column_type != "ndarray":
        return schema.column_type + nested
    sizes = " x ".join(str(size) for size in schema.shape or ()) or "single numbers"
    most = "at most " if schema.schema_type == "variable_shape" else ""
    return f"{schema.numpy_dtype.name}, {most}{sizes}{nested}"


def _areas(folder: Path) -> Iterator[Path]:
    """The folder of each staging area: after a release by force there are several, and the newest counts."""
    newest: dict[int, tuple[int, Path]] = {}
    for path in folder.glob("*"):
        match = _AREA.fullmatch(path.name)
        if match:
            found = (int(match[2] or 0), path)
            newest[int(match[1])] = max(found, newest.get(int(match[1]), found))
    return (path for _, (_, path) in sorted(newest.items()))


class _Column:
    """A column as the staged events leave it."""

    def __init__(self, entry: ColumnEntry, *, created: bool) -> None:
        self.entry = entry
        self.created = created
        self.settings_changed = False
        self.rows: dict[RowKey, Row | None] = {}


def _read_area(storage: Storage, folder: Path, branch: str) -> AreaStatus | None:
    # A database of DuckDB's is one process's at a time, even for reading: a look at the original would make a
    # writer that starts at this moment fail. A copy disturbs nobody.
    with tempfile.TemporaryDirectory(prefix="hangar-status-") as copy:
        for name in _FILES:
            with suppress(FileNotFoundError):
                shutil.copyfile(folder / name, Path(copy, name))
        staging = StagingArea(Path(copy))
        try:
            if not staging.dirty:
                return None
            base = staging.setting("base")
            base_columns = {} if base is None else storage.commit(base).columns
            columns = _replay(staging, base_columns)
            found = _differences(base_columns, columns, storage.nodes)
            return AreaStatus(staging.setting("branch") or branch, base, found, staging.setting("landing") is not None)
        finally:
            staging.close()


def _replay(staging: StagingArea, base: Mapping[str, ColumnEntry]) -> dict[str, _Column]:
    columns = {name: _Column(entry, created=False) for name, entry in base.items()}
    for event in staging.events():
        if isinstance(event, SampleEvents):
            if event.name in columns:
                columns[event.name].rows.update(event.rows)
        elif event.action == "remove":
            columns.pop(event.name, None)
        elif event.action == "create" or event.name not in columns:
            columns[event.name] = _Column(_entry(event), created=True)
        else:
            columns[event.name].settings_changed = True
    return columns


def _entry(event: ColumnEvent) -> ColumnEntry:
    schema = ColumnSchema.from_json(event.entry["schema"])
    return ColumnEntry(schema, None, str(event.entry["backend"]), dict(event.entry["backend_options"]))


def _differences(
    base: Mapping[str, ColumnEntry], columns: Mapping[str, _Column], nodes: NodeReader
) -> list[ColumnStatus]:
    found = []
    for name in sorted({*base, *columns}):
        if name not in columns:
            entry = base[name]
            found.append(ColumnStatus(name, "removed column", describe(entry.schema), removed=entry.count))
            continue
        difference = _difference(name, columns[name], name in base, nodes)
        if difference is not None:
            found.append(difference)
    return found


def _difference(name: str, column: _Column, in_base: bool, nodes: NodeReader) -> ColumnStatus | None:
    entry = column.entry
    kind = describe(entry.schema)
    if column.created:
        added = sum(row is not None for row in column.rows.values())
        return ColumnStatus(name, "replaced column" if in_base else "new column", kind, added=added)
    added = changed = removed = 0
    for key, row in column.rows.items():
        before = nodes.find(entry.root, entry.schema, key)
        if before is None:
            added += row is not None
        elif row is None:
            removed += 1
        else:
            changed += row.identity != before.identity
    if not (added or changed or removed or column.settings_changed):
        return None
    return ColumnStatus(name, "changed column", kind, added, changed, removed, column.settings_changed)
