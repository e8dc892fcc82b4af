"""What is staged in a repository, seen from outside, while a writer may be at work."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hangar_cloud import writer_lock
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.staging_copy import copy_database
from hangar_cloud.catalog.tracking import TrackingRefs
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.diff import Diff, collect_staged, staged_changes
from hangar_cloud.errors import StagingError
from hangar_cloud.storage import Storage

_AREA: Final = re.compile(r"(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class ColumnStatus:
    """How a column, or the metadata, differs from the commit below: `action` in words, and numbers of samples."""

    name: str
    action: str
    kind: str
    added: int = 0
    changed: int = 0
    removed: int = 0
    backend_changed: bool = False
    schema_changed: bool = False


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


@dataclass(frozen=True)
class StagedDiff:
    """What one staging area changes of `base`, a commit (None before the first), for `branch`."""

    branch: str
    base: str | None
    diff: Diff


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


def staged_diffs(storage: Storage, branch: str) -> list[StagedDiff]:
    """What the staging areas change, that of the branch that is written to where they name none. Takes no lock.

    Raises:
        StagingError: a staging area is damaged, or a writer is in the middle of something.
    """
    found = []
    for folder in _areas(storage.root / "staging"):
        with _copied(folder) as staging:
            if not staging.dirty:
                continue
            diff = collect_staged(storage, _working_set(storage, staging))
            found.append(StagedDiff(staging.setting("branch") or branch, staging.setting("base"), diff))
    return found


def next_columns(storage: Storage, branch: str) -> dict[str, tuple[ColumnEntry, int]]:
    """What the next commit on a branch would hold: columns by name, each with its number of samples. Takes no lock.

    Raises:
        StagingError: a staging area is damaged, or a writer is in the middle of something.
    """
    for folder in _areas(storage.root / "staging"):
        with _copied(folder) as staging:
            if staging.dirty and (staging.setting("branch") or branch) == branch:
                columns = _working_set(storage, staging).columns
                return {name: (columns[name].entry, len(columns[name])) for name in sorted(columns)}
    pointer = storage.head(branch)
    commit = None if pointer is None else pointer.commit
    return (
        {} if commit is None else {name: (entry, entry.count) for name, entry in storage.commit(commit).trees.items()}
    )


def compare_with_remotes(storage: Storage, branch: str, head: str | None) -> dict[str, tuple[int, int] | None]:
    """How far a branch is from what it was at each remote when that was last seen, by remote branch.

    Returns:
        numbers of commits that only this one has, and that only the remote has; None where there are too many to
        count, or some are not on this machine.
    """
    found: dict[str, tuple[int, int] | None] = {}
    if storage.is_bucket or head is None:
        return found
    for name, commit in TrackingRefs(storage.root / "remotes").all().items():
        if name.partition("/")[2] == branch:
            try:
                found[name] = history.divergence(head, commit, storage.commit)
            except (FileNotFoundError, CorruptDataError):
                found[name] = None
    return found


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


@contextmanager
def _copied(folder: Path) -> Iterator[StagingArea]:
    # A database of DuckDB's is one process's at a time, even for reading: a look at the original would make a
    # writer that starts at this moment fail. A copy disturbs nobody.
    with tempfile.TemporaryDirectory(prefix="hangar-status-") as copy:
        with suppress(FileNotFoundError):
            copy_database(folder, Path(copy))
        staging = StagingArea(Path(copy))
        try:
            yield staging
        finally:
            staging.close()


def _read_area(storage: Storage, folder: Path, branch: str) -> AreaStatus | None:
    with _copied(folder) as staging:
        if not staging.dirty:
            return None
        working = _working_set(storage, staging)
        differences = (_difference(name, working, storage.nodes) for name in sorted({*working.base, *working.columns}))
        found = [one for one in differences if one is not None]
        base, landing = staging.setting("base"), staging.setting("landing")
        return AreaStatus(staging.setting("branch") or branch, base, found, landing is not None)


def _working_set(storage: Storage, staging: StagingArea) -> WorkingSet:
    base = staging.setting("base")
    columns = {} if base is None else storage.commit(base).trees
    samples = SampleWriter(staging, storage.index, storage.has_pack, lambda _: None)
    return WorkingSet(columns, staging, samples, storage.nodes)


def _difference(name: str, working: WorkingSet, nodes: NodeReader) -> ColumnStatus | None:
    base, column = working.base.get(name), working.columns.get(name)
    if column is None:
        assert base is not None
        return ColumnStatus(name, "removed column", describe(base.schema), removed=base.count)
    entry = column.entry
    if base is None or not base.schema.has_same_rows(entry.schema):
        if name == METADATA:
            return ColumnStatus("metadata", "metadata", "", added=len(column)) if len(column) else None
        action = "new column" if base is None else "replaced column"
        return ColumnStatus(name, action, describe(entry.schema), added=len(column))
    added = changed = removed = 0
    for change in staged_changes(nodes, base, column):
        added += change.before is None
        removed += change.after is None
        changed += change.before is not None and change.after is not None
    backend_changed = (base.backend, base.backend_options) != (entry.backend, entry.backend_options)
    schema_changed = base.schema != entry.schema
    if not (added or changed or removed or backend_changed or schema_changed):
        return None
    if name == METADATA:
        return ColumnStatus("metadata", "metadata", "", added, changed, removed)
    kind = describe(entry.schema)
    return ColumnStatus(name, "changed column", kind, added, changed, removed, backend_changed, schema_changed)
