"""The columns that a writer sees: a base commit, and over it what is staged or still in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import merge
from typing import Any, Final

from hangar_cloud.backends.values import SampleValue
from hangar_cloud.catalog.alter import Altering, ReadMany
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.keys import KeyType, RowKey, encode_key, key_range, sort_keys
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.staging import ColumnEvent, StagingArea
from hangar_cloud.catalog.write_guard import WriteGuard

FLUSH_BYTES: Final = 4 * 1024 * 1024
FLUSH_SAMPLES: Final = 32_768

Found = Row | Payload


class WorkingColumn:
    """One column: the rows of its base tree, rows staged over them, and payloads not yet staged.

    Args:
        name: of the column.
        entry: schema, backend and base root.
        nodes: reads the base tree.
        guard: says when nothing may be staged.
    """

    def __init__(self, name: str, entry: ColumnEntry, nodes: NodeReader, guard: WriteGuard) -> None:
        self.name = name
        self._nodes = nodes
        self._guard = guard
        self.renamed: WorkingColumn | None = None
        """What the column is now, if it was renamed."""
        self.start(entry)

    def start(self, entry: ColumnEntry) -> None:
        """Start over from a base entry, with nothing staged."""
        self.entry = entry
        self.origin = self.name
        """The name that the base has the column under."""
        self.staged: dict[RowKey, Row | None] = {}
        self.pending: dict[RowKey, Payload | None] = {}
        self.pending_bytes = 0
        self._added = 0
        self._touched: dict[KeyType, dict[KeyType, None]] = {}
        self._added_below: dict[KeyType, int] = {}
        self._base_below: dict[KeyType, int] = {}

    def find(self, key: RowKey) -> Found | None:
        """What is stored under a key now: a payload still in memory, a row, or None."""
        if key in self.pending:
            return self.pending[key]
        if key in self.staged:
            return self.staged[key]
        return self._nodes.find(self.entry.root, self.entry.schema, key)

    def __contains__(self, key: RowKey) -> bool:
        return self.find(key) is not None

    def __len__(self) -> int:
        return self.entry.count + self._added

    def put(self, key: RowKey, payload: Payload | None) -> None:
        """Set a key in memory, or delete it with None; `WorkingSet.flush` makes it durable."""
        if self._guard.is_held:
            self._guard.refuse(f"write to column {self.name!r}" if self.name else "write metadata")
        self._count(key, payload is not None)
        old = self.pending.pop(key, None)
        self.pending[key] = payload
        self.pending_bytes += (0 if payload is None else len(payload.data)) - (0 if old is None else len(old.data))

    def restore(self, rows: Sequence[tuple[RowKey, Row | None]]) -> None:
        """Take rows that an earlier process staged."""
        for key, row in rows:
            self._count(key, row is not None)
            self.staged[key] = row

    def settle(self, rows: list[tuple[RowKey, Row | None]]) -> None:
        """Take pending payloads as staged, now that they are durable."""
        for key, row in rows:
            self.staged[key] = row
            dropped = self.pending.pop(key, None)
            self.pending_bytes -= 0 if dropped is None else len(dropped.data)

    def move_base(self, entry: ColumnEntry) -> None:
        """Keep what is staged, over another base."""
        self.entry = entry
        staged, self.staged, self._added = self.staged, {}, 0
        self._added_below, self._base_below = {}, {}
        self.restore(list(staged.items()))

    def drop_unchanged(self) -> None:
        """Forget staged rows that say what the base says already."""
        find, root, schema = self._nodes.find, self.entry.root, self.entry.schema
        changed = {key: row for key, row in self.staged.items() if _identity(find(root, schema, key)) != _identity(row)}
        if len(changed) < len(self.staged):
            self.staged = changed
            self.move_base(self.entry)

    def under(self, name: str) -> WorkingColumn:
        """The same column under another name."""
        column = WorkingColumn(name, self.entry, self._nodes, self._guard)
        column.origin = self.origin
        column.staged, column._added, column._touched = dict(self.staged), self._added, self._touched
        column._added_below = self._added_below
        return column

    def iterate(self) -> Iterator[tuple[RowKey, Found]]:
        """Keys and what is stored under them, in key order, as of the first step.

        Raises:
            StagingError: the column got another schema meanwhile.
        """
        schema = self.entry.schema
        for item in self._iterate(self.entry):
            if self.entry.schema is not schema and self.entry.schema != schema:
                raise StagingError(f"column {self.name!r} was altered while it was iterated over")
            yield item

    def _iterate(self, entry: ColumnEntry) -> Iterator[tuple[RowKey, Found]]:
        over: dict[RowKey, Found | None] = {**self.staged, **self.pending}
        order = [(encode_key(key), key) for key in sort_keys(over)]
        position = 0
        for ref in self._nodes.leaves(entry.root):
            leaf = self._nodes.leaf(ref, entry.schema)
            for i, key in enumerate(leaf.keys):
                if position < len(order):
                    encoded = encode_key(key)
                    while position < len(order) and order[position][0] < encoded:
                        found = over[order[position][1]]
                        if found is not None:
                            yield order[position][1], found
                        position += 1
                if key not in over:
                    yield key, leaf.row(i)
        for _, key in order[position:]:
            found = over[key]
            if found is not None:
                yield key, found

    def below(self, sample: KeyType) -> Iterator[tuple[RowKey, Found]]:
        """Row keys of one sample of a nested column and what is stored under them, in key order."""
        low, high = key_range(sample)
        found: dict[RowKey, Found | None] = dict(self._nodes.range(self.entry.root, self.entry.schema, low, high))
        for sub in self._touched.get(sample, ()):
            found[sample, sub] = self.find((sample, sub))
        for key in sorted(found, key=encode_key):
            value = found[key]
            if value is not None:
                yield key, value

    def count_below(self, sample: KeyType) -> int:
        """How many subsamples a sample of a nested column has."""
        if sample not in self._base_below:
            low, high = key_range(sample)
            self._base_below[sample] = self._nodes.count_between(self.entry.root, self.entry.schema, low, high)
        return self._base_below[sample] + self._added_below.get(sample, 0)

    def samples(self) -> Iterator[KeyType]:
        """Samples of a nested column, in key order, as of the first step."""
        touched = {sample: self.count_below(sample) > 0 for sample in self._touched}
        order = sorted((sample for sample, there in touched.items() if there), key=encode_key)
        base = (sample for sample in self._nodes.samples(self.entry.root, self.entry.schema) if sample not in touched)
        yield from merge(base, order, key=encode_key)

    def changes(self) -> list[tuple[bytes, Row | None]]:
        """Staged rows by encoded key, in order."""
        return sorted(((encode_key(key), row) for key, row in self.staged.items()), key=lambda item: item[0])

    def _count(self, key: RowKey, present: bool) -> None:
        if key in self.pending:
            before = self.pending[key] is not None
        elif key in self.staged:
            before = self.staged[key] is not None
        elif self.entry.root is None:
            before = False
        else:
            before = self._nodes.find(self.entry.root, self.entry.schema, key) is not None
        self._added += int(present) - int(before)
        if isinstance(key, tuple):
            sample, sub = key
            self._touched.setdefault(sample, {})[sub] = None
            self._added_below[sample] = self._added_below.get(sample, 0) + int(present) - int(before)


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

    def flush(self, name: str | None = None) -> None:
        """Make what waits in memory durable, of one column or of all."""
        for column in list(self.columns.values()) if name is None else [self.columns[name]]:
            if not column.pending:
                continue
            deleted = [key for key, payload in column.pending.items() if payload is None]
            if deleted:
                self._writer.delete(column.name, deleted)
                column.settle([(key, None) for key in deleted])
            written = [(key, payload) for key, payload in column.pending.items() if payload is not None]
            if written:
                column.settle(list(self._writer.write(column.name, column.entry, written)))

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


def _identity(row: Row | None) -> bytes | None:
    return None if row is None else row.identity
