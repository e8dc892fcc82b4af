"""The database of a staging area: made, opened once it is needed, and changed in transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hangar_cloud.backends.store.durable_files import disk_errors_told, publish_over
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.staged_rows import samples_table
from hangar_cloud.catalog.staging_clean import Settings, read_note, remove_note, write_note
from hangar_cloud.catalog.staging_journal import StagingJournal
from hangar_cloud.catalog.uninterrupted import uninterrupted

_DATABASE: Final = "staging.duckdb"
_GENERATION: Final = "journal"
"""The setting that says which generation of the journal was not taken over yet; 0 where it was never set."""
_MOST_DIGITS: Final = 15
FEW_ROWS: Final = 4
"""So many rows are inserted one by one: a table costs more than it saves."""
_TABLES: Final = ("columns", "samples", "batches", "extents", "sealed", "spares")
_STATE: Final = """SELECT
    (SELECT max(sequence) FROM (SELECT sequence FROM columns UNION ALL SELECT sequence FROM samples
                                UNION ALL SELECT sequence FROM batches)),
    EXISTS (SELECT 1 FROM columns), EXISTS (SELECT 1 FROM samples), EXISTS (SELECT 1 FROM batches),
    EXISTS (SELECT 1 FROM extents), EXISTS (SELECT 1 FROM sealed), EXISTS (SELECT 1 FROM spares)"""


class StagingDatabase:
    """A database in which every change is a transaction, and which is not opened while a note says that it is empty.

    Args:
        folder: made if it is absent.
        schema: statements that make the tables that are not there.

    Raises:
        StagingError: the database cannot be opened; says whether another process has it.
    """

    _connection: Any

    def __init__(self, folder: Path, schema: str) -> None:
        self.folder = folder
        self._schema = schema
        self._depth = 0
        self.open()

    def open(self) -> None:
        """Open the database; again after `close`, when the folder may be another one. Raises StagingError."""
        self._connection = None
        self._closed = False
        self._sequence = 0
        self._filled: set[str] = set()
        self._journal = StagingJournal(self.folder)
        self._taking_over = False
        self._after_single = False
        self._known = self._noted = None if self._journal.exists() else read_note(self.folder / _DATABASE)
        if self._known is None:
            self.connect()

    def connect(self) -> None:
        """Have the database open, where a note made that unnecessary so far. Raises StagingError."""
        if self._connection is not None:
            return
        if self._closed:
            raise StagingError(f"the staging area {self.folder} was closed; open a checkout with write=True")
        path, noted = self.folder / _DATABASE, self._known
        with disk_errors_told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                create(path)
            remove_note(path)
        self._connection = connect(path)
        self._known = None
        try:
            self._execute(self._schema)
            self._look()
            if noted is not None:
                self.set_settings(**noted)
            if self._journal.exists():
                self._recover()
        except BaseException:
            self._connection.close()
            self._connection = None
            raise

    def close(self) -> None:
        """Close the database; what is staged stays."""
        if self._journal.in_use and self._journal.is_mine:
            with contextlib.suppress(StagingError):  # whoever opens it next takes over what stays in the journal
                self._take_over()
        self._journal.close()
        settings = None if self._filled_or_unknown() or self._journal.exists() else self._known
        if self._connection is not None:
            with uninterrupted():
                self._connection.close()
            self._connection = None
            self._noted = None
        self._closed = True
        if settings is not None and settings != self._noted:
            write_note(self.folder / _DATABASE, settings)

    def setting(self, name: str) -> str | None:
        """A recorded setting ("branch", "base", "landing", "unfinished" …), None if it was never set."""
        return self._settings().get(name)

    def set_settings(self, **values: str | None) -> None:
        """Record settings, all or none."""
        with self._transaction():
            self._set(values)

    def empty(self, settings: Settings) -> None:
        """Forget all that is recorded, and record settings; all or none."""
        if self._connection is None and self._known is not None:
            self._known = {**self._known, **settings}
            return
        with self._transaction():
            for table in _TABLES:
                if table in self._filled:
                    self._execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            self._set(settings)
        self._filled = set()
        self._sequence = 0

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
                self._look()  # Control-C may come when all is durable already
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of a block's statements or, whatever ends it early, none; within another, a part of that."""
        if self._depth == 0:
            self._after_single = False
            self._execute("BEGIN")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            self._known = None
            if self._depth == 0:
                self._roll_back()
            raise
        self._depth -= 1
        if self._depth == 0:
            try:
                self._execute("COMMIT")
            except BaseException:
                self._known = None
                self._roll_back()
                raise

    def _stage_single(self, rows: list[list[Any]]) -> None:
        """Record a few rows of one column that are in no pack, outside of a transaction; durable on return."""
        # The first goes to the database: one write and a commit would pay for the journal and the database.
        if not self._after_single:
            with self._transaction():
                self._insert("samples", rows, samples_table)
            self._after_single = True
            return
        self.connect()
        if self._journal.is_full:
            self._take_over()
        generation = self._journal.generation if self._journal.in_use else self._generation()
        self._journal.append(generation, rows)

    def _take_over(self) -> None:
        """Move what is in the journal into the database, in one transaction, and have no journal."""
        self._taking_over = True
        single = self._after_single
        try:
            with uninterrupted():
                with self._transaction():
                    generation = self._generation()
                    if generation == self._journal.generation:  # or a COMMIT that was reported as failed had not
                        rows = [row for event in self._journal.events for row in event]
                        self._insert("samples", rows, samples_table)
                        self._set({_GENERATION: str(generation + 1)})
                self._journal.discard()
        finally:
            self._taking_over = False
        self._after_single = single

    def _recover(self) -> None:
        """Take over what a process that died left in the journal."""
        self._journal.load(self._generation())
        for event in self._journal.events:
            for row in event:
                row[0] = self._sequence
            self._sequence += 1
        if self._journal.events:
            self._take_over()
        else:
            self._journal.discard()

    def _generation(self) -> int:
        text = self._settings().get(_GENERATION) or "0"
        if not text.isdecimal() or len(text) > _MOST_DIGITS:
            raise StagingError(f"the staging area {self.folder} is damaged: its journal has no number; move it away")
        return int(text)

    def _insert(self, table: str, rows: list[list[Any]], as_arrow: Callable[[list[list[Any]]], Any]) -> None:
        if len(rows) <= FEW_ROWS:
            for row in rows:
                self._execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - a name of ours
            return
        self._insert_table(table, lambda: as_arrow(rows))

    def _insert_table(self, table: str, as_arrow: Callable[[], Any]) -> None:
        self.connect()
        with told(self.folder):
            self._connection.register("incoming", as_arrow())
        try:
            self._execute(f"INSERT INTO {table} SELECT * FROM incoming")  # noqa: S608 - a name of ours
        finally:
            with told(self.folder):
                self._connection.unregister("incoming")

    def _look(self) -> None:
        """Find out how much is recorded."""
        last, *there = self._query(_STATE)[0]
        self._sequence = 0 if last is None else int(last) + 1
        self._filled = {table for table, is_there in zip(_TABLES, there, strict=True) if is_there}

    def _filled_or_unknown(self) -> bool:
        return self._connection is not None and (bool(self._filled) or self._known is None)

    def _settings(self) -> Settings:
        if self._known is None:
            self._known = dict(self._query("SELECT name, value FROM settings"))
        return self._known

    def _set(self, values: Settings) -> None:
        known = self._settings()
        new = [cell for name, value in values.items() if name not in known for cell in (name, value)]
        if new:
            rows = ", ".join(["(?, ?)"] * (len(new) // 2))
            self._execute(f"INSERT OR REPLACE INTO settings VALUES {rows}", new)  # noqa: S608 - question marks
        old = {name: value for name, value in values.items() if name in known and known[name] != value}
        if old:
            # To replace rows of a table with a key takes three times as long.
            cases, names = " ".join(["WHEN ? THEN ?"] * len(old)), ", ".join(["?"] * len(old))
            cells = [*(cell for item in old.items() for cell in item), *old]
            self._execute(f"UPDATE settings SET value = CASE name {cases} END WHERE name IN ({names})", cells)  # noqa: S608 - question marks
        self._known = {**known, **values}

    def _rows(self, table: str, sql: str) -> list[tuple[Any, ...]]:
        """The rows of an answer that is made of one table; none, without asking, where that holds none."""
        return self._query(sql) if table in self._filled else []

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of an answer; none while a note says that there is nothing."""
        if self._connection is None and self._known is not None:
            return []
        with uninterrupted():
            return list(self._execute(sql, parameters).fetchall())

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        self.connect()
        if self._journal.in_use and not self._taking_over:
            self._take_over()
        if sql.startswith("INSERT"):
            # Told from the statement, so that no way to record something can forget to say so.
            self._filled |= {table for table in _TABLES if f" INTO {table} " in sql}
        with told(self.folder):
            return self._connection.execute(sql, list(parameters))

    def _roll_back(self) -> None:
        import duckdb

        with contextlib.suppress(duckdb.Error), uninterrupted():
            self._connection.execute("ROLLBACK")


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what the database says into a StagingError."""
    with uninterrupted():
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise StagingError(
                f"the staging area {folder} could not be used ({error}); what was staged before is kept, and what "
                "could not be written is tried again with the next write or commit. Check that the disk is not "
                "full and that no other process writes to this repository"
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
