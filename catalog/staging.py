"""The staging area: uncommitted changes that survive the process, in DuckDB, with their pack files.

    <folder>/staging.duckdb    what was staged, in order
    <folder>/<n>.pack          sample bytes of staged rows

Rows are a log: the last entry of a key counts. Pack bytes are on disk before the rows that name them
are recorded, so after a crash the log is true and what lies behind its last extent is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import BlockExtent, staged_pack_number
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.keys import RowKey, check_name
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.row_batch import RowBatch
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staged_batches import decode_batch, encode_batch
from hangar_cloud.catalog.staged_rows import (
    TABLES,
    batch_table,
    batches_table,
    extents_table,
    held_rows,
    key_of,
    number_or_text,
    row_of,
    samples_table,
    spares_table,
)
from hangar_cloud.catalog.staging_database import FEW_ROWS, StagingDatabase
from hangar_cloud.catalog.staging_journal import MOST_VALUE_BYTES
from hangar_cloud.catalog.uninterrupted import uninterrupted

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name VARCHAR PRIMARY KEY, value VARCHAR);
CREATE TABLE IF NOT EXISTS columns (sequence BIGINT, name VARCHAR, action VARCHAR, entry VARCHAR);
CREATE TABLE IF NOT EXISTS samples (
    sequence BIGINT, name VARCHAR, key_int BIGINT, key_str VARCHAR, sub_int BIGINT, sub_str VARCHAR,
    identity BLOB, pack BLOB,
    "offset" BIGINT, stored BIGINT, start BIGINT, size BIGINT, value BLOB, shape BIGINT[]);
CREATE TABLE IF NOT EXISTS batches (sequence BIGINT, name VARCHAR, samples BIGINT, cell BLOB);
CREATE TABLE IF NOT EXISTS extents (pack BIGINT, "offset" BIGINT, stored BIGINT);
CREATE TABLE IF NOT EXISTS sealed (pack BIGINT PRIMARY KEY, id BLOB);
CREATE TABLE IF NOT EXISTS spares (digest BLOB, pack BLOB, "offset" BIGINT, stored BIGINT, start BIGINT, size BIGINT);
"""
_COPIED_ROWS: Final = {"batches": 1}
_COPIED_SMALL_ROWS: Final = 100_000
_ROW_TABLES: Final = ("columns", "samples", "batches")
BULK_SCRATCH: Final = "bulk"
"""Folder below a staging area where the processes of a bulk import write."""
UNFINISHED: Final = "unfinished"
"""The setting that says: if the process that staged this is gone, and its commit did not land, it is to be cleared."""


class ColumnEvent(NamedTuple):
    """A staged change to a column as a whole.

    `action` is "create" (a new column), "change" (another backend, or a schema that its rows need not change
    for), "alter" (another schema; all rows of the column follow anew), "rename" (`entry` has the old name as
    "from") or "remove".
    """

    name: str
    action: str
    entry: dict[str, Any]


class SampleEvents(NamedTuple):
    """Staged samples of one column: keys, each with its new row or None where deleted."""

    name: str
    rows: list[tuple[RowKey, Row | None]]


class StagingArea(StagingDatabase):
    """One writer's staged changes on disk.

    Args:
        folder: made if it is absent. The caller holds the writer lock that guards it.

    Raises:
        StagingError: the database cannot be opened; says whether another process has it.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _SCHEMA)

    @property
    def dirty(self) -> bool:
        """True if anything is staged."""
        return self._sequence > 0

    def landings(self) -> dict[str, int]:
        """Commits that were about to land and may have: how many changes were staged when each was made."""
        text = self.setting("landing")
        try:
            return {str(digest): int(sequence) for digest, sequence in json.loads(text or "{}").items()}
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise StagingError(f"the staging area {self.folder} is damaged: {error!r}; move it away") from error

    def add_landing(self, digest: str, names: Collection[str] = ()) -> None:
        """Record, before a branch is moved, that it may soon be at a commit of all that is staged now.

        `names` are the objects that were made for that commit.
        """
        landing = json.dumps({**self.landings(), digest: self._sequence})
        self.set_settings(landing=landing, dependencies=json.dumps(sorted(names)))

    def dependencies(self) -> list[str]:
        """Names of the objects that were made for the newest of the `landings`."""
        text = self.setting("dependencies")
        return [] if text is None else [str(name) for name in json.loads(text)]

    def all_in(self, sequence: int) -> bool:
        """True if nothing was staged since there were `sequence` changes."""
        return self._sequence <= sequence

    def stage_column(self, event: ColumnEvent) -> None:
        """Record a change to a column as a whole; durable on return."""
        row = [self._sequence, event.name, event.action, json.dumps(event.entry, sort_keys=True)]
        with uninterrupted():
            self._execute("INSERT INTO columns VALUES (?, ?, ?, ?)", row)
            self._sequence += 1

    def stage_samples(
        self,
        name: str,
        rows: Sequence[tuple[RowKey, Row | None]],
        extents: dict[int, list[BlockExtent]],
        spares: Mapping[bytes, Place] = MappingProxyType({}),
    ) -> None:
        """Record samples of a column, each key once, with the pack extents they lie in; durable on return.

        `spares` are copies of samples whose rows name packs of others, by digest: for the case that those go.
        """
        with uninterrupted():
            if self._depth == 0 and not extents and not spares and _are_single(rows):
                self._stage_single([self._flat(name, key, row) for key, row in rows])
                self._sequence += 1
                return
            with self._transaction():
                self._insert("spares", [[digest, *place] for digest, place in spares.items()], spares_table)
                self._insert("extents", _listed(extents), extents_table)
                cell = encode_batch(rows) if isinstance(rows, RowBatch) else None
                if cell is not None:
                    self._insert("batches", [[self._sequence, name, len(rows), cell]], batches_table)
                elif isinstance(rows, RowBatch) and len(rows) > FEW_ROWS:
                    self._insert_table("samples", lambda: batch_table(self._sequence, name, rows))
                else:
                    self._insert("samples", [self._flat(name, key, row) for key, row in rows], samples_table)
            self._sequence += 1

    def events(self) -> Iterator[ColumnEvent | SampleEvents]:
        """Everything staged, in the order it was staged."""
        columns = self._query("SELECT sequence, name, action, entry FROM columns ORDER BY sequence")
        samples = self._query(
            "SELECT sequence, name, key_int, key_str, sub_int, sub_str, identity, "
            'pack, "offset", stored, start, size, value, shape '
            "FROM samples ORDER BY sequence"
        )
        try:
            events: list[tuple[int, ColumnEvent | SampleEvents]] = [
                (sequence, _column_event(name, action, entry)) for sequence, name, action, entry in columns
            ]
            for (sequence, name), rows in groupby(samples, key=lambda row: (row[0], row[1])):
                events.append((sequence, SampleEvents(name, [(key_of(*row[2:6]), row_of(*row[6:])) for row in rows])))
            events += [(sequence, SampleEvents(name, list(batch))) for sequence, name, batch in self._batches()]
            events.sort(key=lambda item: item[0])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StagingError(
                f"the staging area {self.folder} holds changes that cannot be read: {error!r}. It was damaged, or made "
                "by another version; move it away to go on without them"
            ) from error
        for _, event in events:
            yield event

    def extents(self) -> dict[int, list[BlockExtent]]:
        """The recorded extents of every staging pack, by its number."""
        found: dict[int, list[BlockExtent]] = {}
        for pack, offset, stored in self._rows(
            "extents", 'SELECT pack, "offset", stored FROM extents ORDER BY pack, "offset"'
        ):
            found.setdefault(pack, []).append(BlockExtent(offset, stored))
        return found

    def sealed(self) -> dict[int, bytes]:
        """Ids of the staging packs that were sealed, by number."""
        return {number: bytes(name) for number, name in self._rows("sealed", "SELECT pack, id FROM sealed")}

    def packs(self) -> set[bytes]:
        """Ids of all packs that staged samples lie in, those of this area and others."""
        found = {bytes(pack) for (pack,) in self._query("SELECT DISTINCT pack FROM samples WHERE pack IS NOT NULL")}
        return found.union(*(batch.places.used() for _, _, batch in self._batches() if batch.places is not None))

    def held(self, digests: Collection[bytes], *, named: bool = False) -> list[tuple[str, RowKey, bytes]]:
        """Which of these samples have bytes in the area, even if others took their place; column, key and digest.

        Args:
            digests: of samples, as their tombstones are named.
            named: also give those that are only named, and lie in packs of others.
        """
        rows = self._query(
            "SELECT name, key_int, key_str, sub_int, sub_str, identity, pack FROM samples WHERE identity IS NOT NULL"
        )
        for _, column, batch in self._batches() if digests else ():
            rows += [
                (column, key, None, None, None, row.identity, None if row.place is None else row.place.pack)
                for key, row in batch
            ]
        spares = {bytes(digest) for (digest,) in self._query("SELECT digest FROM spares")}
        return held_rows(rows, digests, None if named else spares)

    def spares(self) -> dict[bytes, Place]:
        """Places, in staging packs, of copies of samples whose rows name packs of others; by digest."""
        rows = self._rows("spares", 'SELECT digest, pack, "offset", stored, start, size FROM spares')
        return {bytes(digest): Place(bytes(pack), *extent) for digest, pack, *extent in rows}

    def spare_packs(self) -> set[int]:
        """Numbers of the staging packs that hold nothing but such copies."""
        packs = (bytes(pack) for (pack,) in self._rows("spares", "SELECT DISTINCT pack FROM spares"))
        return {number for number in map(staged_pack_number, packs) if number is not None}

    def record_sealed(self, pack: int, name: bytes) -> None:
        """Record that a staging pack is finished and what its id is."""
        self._execute("INSERT OR REPLACE INTO sealed VALUES (?, ?)", [pack, name])

    def pack_file(self, pack: int) -> Path:
        """The file of a staging pack."""
        return self.folder / f"{pack}.pack"

    def clear(self, branch: str, base: str | None) -> None:
        """Forget everything staged, and start over on a branch's commit."""
        self.empty({"branch": branch, "base": base, "landing": None, "dependencies": None, UNFINISHED: None})
        for path in self.folder.glob("*.pack"):
            path.unlink(missing_ok=True)

    def clear_until(self, sequence: int, base: str | None) -> None:
        """Forget the first `sequence` changes, which landed as the commit `base`; the later ones stay."""
        with self._transaction():
            for table in _ROW_TABLES:
                self._execute(f"DELETE FROM {table} WHERE sequence < ?", [sequence])  # noqa: S608 - a name of ours
            self._set({"base": base, "landing": None})

    def copy_into(self, other: StagingArea) -> None:
        """Add everything recorded in this database to another one, which is empty; durable on return."""
        with other._transaction():
            for table, as_arrow in TABLES.items():
                self._execute(f"SELECT * FROM {table}")  # noqa: S608 - a name of ours
                together = _COPIED_ROWS.get(table, _COPIED_SMALL_ROWS)
                while rows := [list(row) for row in self._connection.fetchmany(together)]:
                    other._insert(table, rows, as_arrow)

    def size(self) -> tuple[int, int]:
        """How many changes to columns as a whole, and how many rows, are recorded."""
        counts = self._query(
            "SELECT (SELECT count(*) FROM columns), "
            "(SELECT count(*) FROM samples) + (SELECT coalesce(sum(samples), 0) FROM batches)"
        )
        return (int(counts[0][0]), int(counts[0][1])) if counts else (0, 0)

    def replace(self, events: Iterable[ColumnEvent | SampleEvents], **settings: str | None) -> None:
        """Record other changes in place of all that are staged, and settings; all or none. Packs stay."""
        with self.together():
            for table in _ROW_TABLES:
                self._execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            self._sequence = 0
            for event in events:
                if isinstance(event, ColumnEvent):
                    self.stage_column(event)
                else:
                    self.stage_samples(event.name, event.rows, {})
            self._set(settings)

    def _batches(self) -> Iterator[tuple[int, str, RowBatch]]:
        """The batches that stand in one cell each: when they were staged, the column, and the rows."""
        for sequence, name, cell in self._rows("batches", "SELECT sequence, name, cell FROM batches ORDER BY sequence"):
            try:
                yield sequence, name, decode_batch(cell)
            except (ValueError, TypeError) as error:
                raise StagingError(
                    f"the staging area {self.folder} holds changes that cannot be read: {error}. It was damaged, or "
                    "made by another version; move it away to go on without them"
                ) from error

    def _flat(self, name: str, key: RowKey, row: Row | None) -> list[Any]:
        if isinstance(key, tuple):
            keys = [*number_or_text(key[0]), *number_or_text(key[1])]
        else:
            keys = [*number_or_text(key), None, None]
        if row is None:
            return [self._sequence, name, *keys, *[None] * 8]
        place = list(row.place) if row.place is not None else [None] * 5
        shape = None if row.shape is None else list(row.shape)
        return [self._sequence, name, *keys, row.identity, *place, row.value, shape]


def _are_single(rows: Sequence[tuple[RowKey, Row | None]]) -> bool:
    """Whether rows are few, small and in no pack."""
    return 1 <= len(rows) <= FEW_ROWS and all(
        row is None or (row.place is None and row.value is not None and len(row.value) <= MOST_VALUE_BYTES)
        for _, row in rows
    )


def _column_event(name: str, action: str, text: str) -> ColumnEvent:
    entry = json.loads(text)
    if action == "rename":
        check_name(entry["from"], "column")
    elif action != "remove":
        ColumnSchema.from_json(entry["schema"])
        dict(entry["backend_options"])
        str(entry["backend"])
    return ColumnEvent(name, action, entry)


def _listed(extents: dict[int, list[BlockExtent]]) -> list[list[Any]]:
    return [[pack, *extent] for pack, added in extents.items() for extent in added]
