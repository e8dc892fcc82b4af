"""The columns that a writer sees: a base commit, and over it what is staged or still in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from hangar_cloud.backends.fork_lock import ForkTurn
from hangar_cloud.backends.values import SampleValue
from hangar_cloud.catalog.alter import Altering, ReadMany
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.incoming import Incoming
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.staging import ColumnEvent, StagingArea
from hangar_cloud.catalog.working_column import (
    FLUSH_BYTES,
    FLUSH_SAMPLES,
    LEAST_FLUSH_BYTES,
    MOST_LOOSE,
    Found,
    WorkingColumn,
)
from hangar_cloud.catalog.write_guard import WriteGuard

__all__ = [
    "FLUSH_BYTES",
    "FLUSH_SAMPLES",
    "LEAST_FLUSH_BYTES",
    "MOST_LOOSE",
    "Found",
    "WorkingColumn",
    "WorkingSet",
    "entry_event",
    "value_of",
]


class WorkingSet:
    """All columns of one writer checkout.

    Args:
        base: columns of the base commit, by name.
        staging: what an earlier writer staged is taken up from here.
        writer: stores samples.
        nodes: reads the base's record trees.
    """

    def __init__(
        self, base: dict[str, ColumnEntry], staging: StagingArea, writer: SampleWriter, nodes: NodeReader
    ) -> None:
        self._staging = staging
        self._writer = writer
        self._nodes = nodes
        self.base: dict[str, ColumnEntry] = {}
        self.columns: dict[str, WorkingColumn] = {}
        self.guard = WriteGuard()
        self.turn = ForkTurn()
        """Had by the thread that writes, or reads what is staged; whoever calls this takes it."""
        self.reload(base)

    @property
    def dirty(self) -> bool:
        """True if anything is staged or waits in memory."""
        return self._staging.dirty or any(column.pending for column in self.columns.values())

    def rebase(self, base: dict[str, ColumnEntry]) -> None:
        """Start over from a commit's columns; handles of columns that stay keep working."""
        self.base = dict(base)
        kept = {}
        for name, entry in base.items():
            column = self.columns.get(name)
            if column is None or _layout(column.entry) != _layout(entry):
                kept[name] = self._new(name, entry)
            else:
                column.start(entry)
                kept[name] = column
        self.columns = kept

    def reload(self, base: dict[str, ColumnEntry]) -> None:
        """Take up what is staged on top of a commit's columns; handles of columns that stay keep working."""
        before = self.columns
        self.rebase(base)
        for event in self._staging.events():
            if isinstance(event, ColumnEvent):
                self._replay(event)
            elif event.name in self.columns:
                self.columns[event.name].restore(event.rows)
                self._writer.remember([row for _, row in event.rows if row is not None])
        for name, column in self.columns.items():
            old = before.get(name, column)
            if old is not column and _layout(old.entry) == _layout(column.entry):
                old.start(column.entry)
                old.origin = column.origin
                old.restore(list(column.staged.items()))
                self.columns[name] = old

    def drop_unchanged(self) -> None:
        """Forget staged rows, in memory only, that say what the base says already."""
        for column in self.columns.values():
            column.drop_unchanged()

    def add_column(self, name: str, entry: ColumnEntry) -> WorkingColumn:
        """Stage a new column; durable on return."""
        self._stage(ColumnEvent(name, "create", entry_event(entry)))
        self.columns[name] = self._new(name, entry)
        return self.columns[name]

    def adopt(self, name: str, entry: ColumnEntry) -> None:
        """Take a column that another writer added to the base."""
        self.columns[name] = self._new(name, entry)

    def remove_column(self, name: str) -> None:
        """Stage the removal of a column and all its samples; durable on return."""
        self._stage(ColumnEvent(name, "remove", {}))
        del self.columns[name]

    def change_column(self, name: str, backend: str, backend_options: dict[str, Any]) -> None:
        """Stage another backend for what will be written to a column; durable on return."""
        column = self.columns[name]
        entry = replace(column.entry, backend=backend, backend_options=backend_options)
        self._stage(ColumnEvent(name, "change", entry_event(entry)))
        column.entry = entry

    def stage_rows(self, name: str, rows: list[tuple[RowKey, Row | None]]) -> None:
        """Stage rows whose samples are stored already; durable on return."""
        self._staging.stage_samples(name, rows, {})
        self.columns[name].restore(rows)

    def rename_column(self, name: str, new: str) -> WorkingColumn:
        """Stage another name for a column; durable on return. No row is touched."""
        self.flush(name)
        self._stage(ColumnEvent(new, "rename", {"from": name}))
        old = self.columns.pop(name)
        old.renamed = self.columns[new] = old.under(new)
        return self.columns[new]

    def alter_column(self, name: str, schema: ColumnSchema, read: ReadMany) -> None:
        """Stage another schema for a column, and the rows that it changes; durable on return, whole or not at all.

        Args:
            name: of the column.
            schema: the new one, of the same type, layout and rank.
            read: reads packed samples, staged ones too.

        Raises:
            InvalidSchemaError: a value does not fit; nothing was staged.
        """
        self.flush(name)
        column = self.columns[name]
        altering = Altering(name, column.entry.schema, schema, read)
        altering.check(_rows(column))
        if altering.keeps_rows:
            entry = replace(column.entry, schema=schema)
            self._stage(ColumnEvent(name, "change", entry_event(entry)))
            column.entry = entry
            return
        entry = replace(column.entry, schema=schema, root=None)
        rows: list[tuple[RowKey, Row | None]] = []
        try:
            with self._staging.together():
                self._stage(ColumnEvent(name, "alter", entry_event(entry)))
                for kept, written in altering.convert(_rows(column)):
                    if kept:
                        self._staging.stage_samples(name, kept, {})
                        rows += kept
                    if written:
                        rows += self._writer.write(name, entry, written)
        except BaseException:
            # What was written is forgotten again, so nothing may be taken for stored there.
            self._writer.start_over()
            for other in self.columns.values():
                self._writer.remember([row for row in other.staged.values() if row is not None])
            raise
        column.start(entry)
        column.restore(rows)

    def refuse_purged(self, name: str, rows: Iterable[tuple[RowKey, Payload | None]]) -> None:
        """Raises InvalidSampleError if any of these payloads is of a purged sample."""
        self._writer.refuse_purged(name, ((key, payload) for key, payload in rows if payload is not None))

    def flush(self, name: str | None = None, *, pack: bool = True) -> None:
        """Make what waits in memory durable, of one column or of all; with `pack`, also put staged values in packs."""
        for column in list(self.columns.values()) if name is None else [self.columns[name]]:
            deleted = column.deletions()
            if deleted:
                self._writer.delete(column.name, deleted)
                column.settle_deleted(deleted)
            if column.pending:
                column.settle(self._writer.write_batch(column.name, column.entry, column.incoming()))
            loose = column.loose_values() if pack else None
            if loose is not None:
                column.pack(self._writer.write_batch(column.name, column.entry, loose))

    def write_loose(self, name: str, rows: Sequence[tuple[RowKey, Payload]]) -> None:
        """Store a few small values where they are durable at once; `flush` packs them. Nothing is in memory."""
        column = self.columns[name]
        batch = Incoming.of(rows)
        self._refuse_if_held(name)
        column.settle(self._writer.write_loose(name, column.entry, batch), kept=False)
        if column.has_many_loose:
            self.flush(name)

    def write(self, name: str, batch: Incoming) -> None:
        """Store checked values of a column past its memory, after what waits there; durable on return."""
        self._refuse_if_held(name)
        self.flush(name)
        column = self.columns[name]
        column.settle(self._writer.write_batch(name, column.entry, batch), kept=False)

    def _refuse_if_held(self, name: str) -> None:
        self.guard.refuse(f"write to column {name!r}" if name else "write metadata")

    def _new(self, name: str, entry: ColumnEntry) -> WorkingColumn:
        return WorkingColumn(name, entry, self._nodes, self.guard)

    def _stage(self, event: ColumnEvent) -> None:
        self.guard.refuse(f"change column {event.name!r}" if event.name else "write metadata")
        self._staging.stage_column(event)

    def _replay(self, event: ColumnEvent) -> None:
        if event.action == "remove":
            self.columns.pop(event.name, None)
            return
        if event.action == "rename":
            column = self.columns.pop(event.entry["from"], None)
            if column is not None:
                self.columns[event.name] = column.under(event.name)
            return
        schema = ColumnSchema.from_json(event.entry["schema"])
        backend, options = str(event.entry["backend"]), dict(event.entry["backend_options"])
        there = self.columns.get(event.name)
        if event.action in ("create", "alter") or there is None:
            entry = ColumnEntry(schema, None, backend, options)
            self.columns[event.name] = self._new(event.name, entry)
        else:
            there.entry = replace(there.entry, schema=schema, backend=backend, backend_options=options)


def entry_event(entry: ColumnEntry) -> dict[str, Any]:
    """What a staged event records of a column."""
    return {"backend": entry.backend, "backend_options": entry.backend_options, "schema": entry.schema.to_json()}


def value_of(schema: ColumnSchema, payload: Payload) -> SampleValue:
    """The value of a payload that is still in memory."""
    return schema.decode(payload.data, payload.shape)


def _rows(column: WorkingColumn) -> Iterator[tuple[RowKey, Row]]:
    """The rows of a column that has nothing in memory."""
    for key, found in column.iterate():
        assert isinstance(found, Row)
        yield key, found


def _layout(entry: ColumnEntry) -> str:
    return entry.schema.column_layout
