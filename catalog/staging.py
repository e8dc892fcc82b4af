"""The staging area: uncommitted changes that survive the process, in DuckDB, with their pack files.

    <folder>/staging.duckdb    what was staged, in order
    <folder>/<n>.pack          sample bytes of staged rows

Rows are a log: the last entry of a key counts. Pack bytes are on disk before the rows that name them
are recorded, so after a crash the log is true and what lies behind its last extent is cut off.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import BlockExtent
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.uninterrupted import uninterrupted

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name VARCHAR PRIMARY KEY, value VARCHAR);
CREATE TABLE IF NOT EXISTS columns (sequence BIGINT, name VARCHAR, action VARCHAR, entry VARCHAR);
CREATE TABLE IF NOT EXISTS samples (
    sequence BIGINT, name VARCHAR, key_int BIGINT, key_str VARCHAR, sub_int BIGINT, sub_str VARCHAR,
    identity BLOB, pack BLOB,
    "offset" BIGINT, stored BIGINT, start BIGINT, size BIGINT, value BLOB, shape BIGINT[]);
CREATE TABLE IF NOT EXISTS extents (pack BIGINT, "offset" BIGINT, stored BIGINT);
CREATE TABLE IF NOT EXISTS sealed (pack BIGINT PRIMARY KEY, id BLOB);
"""


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


class StagingArea:
    """One writer's staged changes on disk.

    Args:
        folder: made if it is absent. The caller holds the writer lock that guards it.

    Raises:
        StagingError: the database cannot be opened; says whether another process has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._depth = 0
        self.open()

    def open(self) -> None:
        """Open the database; again after `close`, when the folder may be another one. Raises StagingError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._connection = _connect(self.folder / "staging.duckdb")
        self._execute(_SCHEMA)
        self._sequence = self._next_sequence()

    @property
    def dirty(self) -> bool:
        """True if anything is staged."""
        return self._sequence > 0

    def setting(self, name: str) -> str | None:
        """A recorded setting ("branch", "base", "landing"), None if it was never set."""
        rows = self._query("SELECT value FROM settings WHERE name = ?", [name])
        return rows[0][0] if rows else None

    def set_settings(self, **values: str | None) -> None:
        """Record settings, all or none."""
        with self._transaction():
            self._set(values)

    def landings(self) -> dict[str, int]:
        """Commits that were about to land and may have: how many changes were staged when each was made."""
        text = self.setting("landing")
        return {} if text is None else {str(digest): int(sequence) for digest, sequence in json.loads(text).items()}

    def add_landing(self, digest: str) -> None:
        """Record, before a branch is moved, that it may soon be at a commit of all that is staged now."""
        self.set_settings(landing=json.dumps({**self.landings(), digest: self._sequence}))

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
        self, name: str, rows: Sequence[tuple[RowKey, Row | None]], extents: dict[int, list[BlockExtent]]
    ) -> None:
        """Record samples of a column, each key once, with the pack extents they lie in; durable on return."""
        with uninterrupted():
            with self._transaction():
                self._insert("extents", _listed(extents), _extents_table)
                flat = [self._flat(name, key, row) for key, row in rows]
                self._insert("samples", flat, _samples_table)
            self._sequence += 1

    def events(self) -> Iterator[ColumnEvent | SampleEvents]:
        """Everything staged, in the order it was staged."""
        columns = self._query("SELECT sequence, name, action, entry FROM columns ORDER BY sequence")
        samples = self._query(
            "SELECT sequence, name, key_int, key_str, sub_int, sub_str, identity, "
            'pack, "offset", stored, start, size, value, shape '
            "FROM samples ORDER BY sequence"
        )
        events: list[tuple[int, ColumnEvent | SampleEvents]] = [
            (sequence, ColumnEvent(name, action, json.loads(entry))) for sequence, name, action, entry in columns
        ]
        for (sequence, name), rows in groupby(samples, key=lambda row: (row[0], row[1])):
            events.append((sequence, SampleEvents(name, [(_key(*row[2:6]), _row(*row[6:])) for row in rows])))
        for _, event in sorted(events, key=lambda item: item[0]):
            yield event

    def extents(self) -> dict[int, list[BlockExtent]]:
        """The recorded extents of every staging pack, by its number."""
        found: dict[int, list[BlockExtent]] = {}
        for pack, offset, stored in self._query('SELECT pack, "offset", stored FROM extents ORDER BY pack, "offset"'):
            found.setdefault(pack, []).append(BlockExtent(offset, stored))
        return found

    def sealed(self) -> dict[int, bytes]:
        """Ids of the staging packs that were sealed, by number."""
        return {number: bytes(name) for number, name in self._query("SELECT pack, id FROM sealed")}

    def record_sealed(self, pack: int, name: bytes) -> None:
        """Record that a staging pack is finished and what its id is."""
        self._execute("INSERT OR REPLACE INTO sealed VALUES (?, ?)", [pack, name])

    def pack_file(self, pack: int) -> Path:
        """The file of a staging pack."""
        return self.folder / f"{pack}.pack"

    def clear(self, branch: str, base: str | None) -> None:
        """Forget everything staged, and start over on a branch's commit."""
        with self._transaction():
            for table in ("columns", "samples", "extents", "sealed"):
                self._execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            self._set({"branch": branch, "base": base, "landing": None})
        self._sequence = 0
        for path in self.folder.glob("*.pack"):
            path.unlink(missing_ok=True)

    def clear_until(self, sequence: int, base: str | None) -> None:
        """Forget the first `sequence` changes, which landed as the commit `base`; the later ones stay."""
        with self._transaction():
            for table in ("columns", "samples"):
                self._execute(f"DELETE FROM {table} WHERE sequence < ?", [sequence])  # noqa: S608 - a name of ours
            self._set({"base": base, "landing": None})

    def size(self) -> tuple[int, int]:
        """How many changes to columns as a whole, and how many rows, are recorded."""
        counts = [self._query(f"SELECT count(*) FROM {table}")[0][0] for table in ("columns", "samples")]  # noqa: S608 - names of ours
        return int(counts[0]), int(counts[1])

    def replace(self, events: Iterable[ColumnEvent | SampleEvents], **settings: str | None) -> None:
        """Record other changes in place of all that are staged, and settings; all or none. Packs stay."""
        with self.together():
            for table in ("columns", "samples"):
                self._execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            self._sequence = 0
            for event in events:
                if isinstance(event, ColumnEvent):
                    self.stage_column(event)
                else:
                    self.stage_samples(event.name, event.rows, {})
            self._set(settings)

    def close(self) -> None:
        """Close the database; what is staged stays."""
        with uninterrupted():
            self._connection.close()

    def _flat(self, name: str, key: RowKey, row: Row | None) -> list[Any]:
        if isinstance(key, tuple):
            keys = [*_number_or_text(key[0]), *_number_or_text(key[1])]
        else:
            keys = [*_number_or_text(key), None, None]
        if row is None:
            return [self._sequence, name, *keys, *[None] * 8]
        place = list(row.place) if row.place is not None else [None] * 5
        shape = None if row.shape is None else list(row.shape)
        return [self._sequence, name, *keys, row.identity, *place, row.value, shape]

    def _set(self, values: dict[str, str | None]) -> None:
        for name, value in values.items():
            self._execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [name, value])

    def _insert(self, table: str, rows: list[list[Any]], as_arrow: Callable[[list[list[Any]]], Any]) -> None:
        if len(rows) <= 4:  # for which a table costs more than it saves
            for row in rows:
                self._execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - a name of ours
            return
        with self._explained(), uninterrupted():
            self._connection.register("incoming", as_arrow(rows))
        try:
            self._execute(f"INSERT INTO {table} SELECT * FROM incoming")  # noqa: S608 - a name of ours
        finally:
            with self._explained(), uninterrupted():
                self._connection.unregister("incoming")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What a block stages becomes durable at its end, all of it or, whatever ends it early, none."""
        sequence = self._sequence
        try:
            with self._transaction():
                yield
        except BaseException:
            self._sequence = sequence
            with contextlib.suppress(StagingError):
                self._sequence = self._next_sequence()  # Control-C may come when all is durable already
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of a block's statements or, whatever ends it early, none; within another, a part of that."""
        if self._depth == 0:
            self._execute("BEGIN")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._roll_back()
            raise
        self._depth -= 1
        if self._depth == 0:
            try:
                self._execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _next_sequence(self) -> int:
        row = self._query(
            "SELECT max(sequence) FROM (SELECT sequence FROM columns UNION ALL SELECT sequence FROM samples)"
        )[0]
        return 0 if row[0] is None else int(row[0]) + 1

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with uninterrupted():
            return list(self._execute(sql, parameters).fetchall())

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        with self._explained(), uninterrupted():
            return self._connection.execute(sql, list(parameters))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise StagingError(
                f"the staging area {self.folder} could not be used ({error}); what was staged before is kept. "
                "Check that the disk is not full and that no other process writes to this repository"
            ) from error

    def _roll_back(self) -> None:
        import duckdb

        with contextlib.suppress(duckdb.Error), uninterrupted():
            self._connection.execute("ROLLBACK")


def _connect(path: Path) -> Any:
    import duckdb

    try:
        with uninterrupted():
            connection = duckdb.connect(str(path), config={"threads": 1})
            # Or it draws a bar on standard output, in the midst of what a program prints, after some seconds.
            connection.execute("SET enable_progress_bar = false")
        return connection
    except duckdb.Error as error:
        raise StagingError(
            f"the staging area {path} cannot be opened: {error}. If another process writes to this repository, wait "
            "for it or stop it"
        ) from error


def _samples_table(rows: list[list[Any]]) -> Any:
    import pyarrow as pa

    numbers, text, binary = pa.int64(), pa.string(), pa.binary()
    types = [numbers, text, numbers, text, numbers, text, binary, binary, *[numbers] * 4, binary, pa.list_(numbers)]
    return _table(rows, types)


def _extents_table(rows: list[list[Any]]) -> Any:
    import pyarrow as pa

    return _table(rows, [pa.int64()] * 3)


def _table(rows: list[list[Any]], types: list[Any]) -> Any:
    import pyarrow as pa

    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), types, strict=True)]
    return pa.table(arrays, names=[str(i) for i in range(len(types))])


def _listed(extents: dict[int, list[BlockExtent]]) -> list[list[Any]]:
    return [[pack, *extent] for pack, added in extents.items() for extent in added]


def _key(number: int | None, text: str | None, sub_number: int | None, sub_text: str | None) -> RowKey:
    key = _number_and_text(number, text)
    if sub_number is None and sub_text is None:
        return key
    return key, _number_and_text(sub_number, sub_text)


def _number_and_text(number: int | None, text: str | None) -> KeyType:
    if number is not None:
        return number
    assert text is not None
    return text


def _number_or_text(key: KeyType) -> tuple[int | None, str | None]:
    return (key, None) if isinstance(key, int) else (None, key)


def _row(
    identity: bytes | None,
    pack: bytes | None,
    offset: int,
    stored: int,
    start: int,
    size: int,
    value: bytes | None,
    shape: list[int] | None,
) -> Row | None:
    if identity is None:
        return None
    place = None if pack is None else Place(bytes(pack), offset, stored, start, size)
    dimensions = None if shape is None else tuple(shape)
    return Row(bytes(identity), place, None if value is None else bytes(value), dimensions)
