"""One column that a writer sees: rows of a base commit, rows staged over them, and values still in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from typing import Any, Final, cast

from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.incoming import Incoming, is_packed
from hangar_cloud.catalog.keys import MAX_INT_KEY, KeyType, RowKey, encode_key, key_range, sort_keys
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.row_batch import Changes, RowBatch, SortedRows, are_numbers
from hangar_cloud.catalog.schema import Payload
from hangar_cloud.catalog.staged_map import StagedRows
from hangar_cloud.catalog.write_guard import WriteGuard

FLUSH_BYTES: Final = 32 * 1024 * 1024
LEAST_FLUSH_BYTES: Final = 2 * 1024 * 1024
FLUSH_SAMPLES: Final = 131_072
"""So much waits in memory inside a ``with`` block, at most, before it is staged: of all columns of a checkout together
32 MiB, but of each at least 2 MiB. Digests, rows and encoded blocks take about as much again meanwhile."""

Found = Row | Payload

MOST_LOOSE: Final = 4
_FEW_KEYS: Final = 32
_NUMBER: Final = encode_key(0)[:1]
_UNKNOWN: Final = object()
_NO_NUMBER: Final = -1


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
        self.staged = StagedRows()
        self.pending: dict[RowKey, bytes | Payload | None] = {}
        """Values in memory: payloads where shapes vary, else their bytes alone; None where a sample is deleted."""
        self.pending_bytes = 0
        self.most_pending = FLUSH_BYTES
        self._uncounted: list[RowKey] = []
        self._loose: dict[RowKey, None] = {}
        """Keys of values that were staged outside of packs, and belong in one."""
        self._loose_bytes = 0
        self._added = 0
        self._greatest = _NO_NUMBER
        self._base_greatest: int | None = None
        self._touched: dict[KeyType, dict[KeyType, None]] = {}
        self._added_below: dict[KeyType, int] = {}
        self._base_below: dict[KeyType, int] = {}

    def find(self, key: RowKey) -> Found | None:
        """What is stored under a key now: a payload still in memory, a row, or None."""
        if key in self.pending:
            return self._payload(self.pending[key])
        if key in self.staged.cells:
            return self.staged[key]
        return self._nodes.find(self.entry.root, self.entry.schema, key)

    def __contains__(self, key: RowKey) -> bool:
        return self.find(key) is not None

    def __len__(self) -> int:
        self._count_up()
        return self.entry.count + self._added

    def put(self, key: RowKey, payload: Payload | None) -> bool:
        """Set a key in memory, or delete it with None; `WorkingSet.flush` makes it durable."""
        return self.keep(key, payload if payload is None or payload.shape is not None else payload.data)

    def keep(self, key: RowKey, value: bytes | Payload | None) -> bool:
        """The same, for what `pending` holds; True once as much is in memory as should be."""
        if self._guard.is_held:
            self._guard.refuse(f"write to column {self.name!r}" if self.name else "write metadata")
        pending = self.pending
        if key in pending:
            self._keep_instead(key, value)
        else:
            pending[key] = value
            self._uncounted.append(key)
            self.pending_bytes += len(value) if type(value) is bytes else _size(value)
        return self.pending_bytes >= self.most_pending or len(pending) >= FLUSH_SAMPLES

    def over_base(self) -> dict[RowKey, Found | None]:
        """Everything that is staged or in memory, by key; None where a sample is deleted."""
        return {**self.staged, **{key: self._payload(value) for key, value in self.pending.items()}}

    def deletions(self) -> list[RowKey]:
        """Keys that are deleted in memory."""
        return [key for key, value in self.pending.items() if value is None]

    def incoming(self) -> Incoming:
        """The values in memory, of which none is a deletion."""
        values = list(self.pending.values())
        if isinstance(values[0], Payload):
            return Incoming.of(list(zip(self.pending, cast("list[Payload]", values), strict=True)))
        return Incoming(list(self.pending), cast("list[bytes]", values), None)

    def restore(self, rows: Sequence[tuple[RowKey, Row | None]]) -> None:
        """Take rows that an earlier process staged."""
        for key, row in rows:
            self._count(key, row is not None)
            self.staged[key] = row
        self._note_numbers([key for key, _ in rows])
        self._note_loose(rows)

    def settle(self, rows: RowBatch, *, kept: bool = True) -> None:
        """Take values as staged, now that they are durable; those that were kept in memory are dropped from there."""
        self._count_up()
        if not kept:
            self._count_all(rows.row_keys, len(rows))
        if len(rows) <= MOST_LOOSE:
            self._note_loose(rows)
        self.staged.take(rows)
        self._note_numbers(rows.row_keys)
        self._drop_pending(rows.row_keys)

    @property
    def has_many_loose(self) -> bool:
        """Whether as many values are staged outside of packs as should be."""
        return self._loose_bytes >= FLUSH_BYTES // 2

    def loose_values(self) -> Incoming | None:
        """Staged values that belong in packs and are in none yet."""
        found = [(key, row) for key in self._loose if (row := self.staged.get(key)) is not None and self._is_loose(row)]
        schema = self.entry.schema
        if not found:
            self._loose, self._loose_bytes = {}, 0
            return None
        return Incoming.of(
            [(key, Payload(schema.prefix(row.shape), row.value or b"", row.shape)) for key, row in found]
        )

    def pack(self, rows: RowBatch) -> None:
        """Take staged values as packed."""
        self.staged.take(rows)
        self._loose, self._loose_bytes = {}, 0

    def settle_deleted(self, keys: Sequence[RowKey]) -> None:
        """Take deletions as staged, now that they are durable."""
        self._count_up()
        for key in keys:
            self.staged[key] = None
        self._drop_pending(keys)

    def greatest_number(self) -> int:
        """The greatest key that is a whole number, of those that are or were here since the base; -1 if none is."""
        self._note_numbers(self.pending)
        return max(self._greatest, self._greatest_of_base())

    def move_base(self, entry: ColumnEntry) -> None:
        """Keep what is staged, over another base."""
        self.entry = entry
        staged, self.staged, self._added = self.staged, StagedRows(), 0
        self._added_below, self._base_below, self._base_greatest = {}, {}, None
        self._loose, self._loose_bytes = {}, 0
        self.restore(list(staged.items()))

    def drop_unchanged(self) -> None:
        """Forget staged rows that say what the base says already."""
        find, root, schema = self._nodes.find, self.entry.root, self.entry.schema
        changed = {key: row for key, row in self.staged.items() if _identity(find(root, schema, key)) != _identity(row)}
        if len(changed) < len(self.staged):
            self.staged = StagedRows()
            self.staged.update(changed)
            self.move_base(self.entry)

    def under(self, name: str) -> WorkingColumn:
        """The same column under another name."""
        column = WorkingColumn(name, self.entry, self._nodes, self._guard)
        column.origin = self.origin
        column.staged, column._added, column._touched = self.staged.copy(), self._added, self._touched
        column._added_below, column._greatest = self._added_below, self._greatest
        column._loose, column._loose_bytes = dict(self._loose), self._loose_bytes
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
        over = self.over_base()
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
        self._count_up()
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
        self._count_up()
        if sample not in self._base_below:
            low, high = key_range(sample)
            self._base_below[sample] = self._nodes.count_between(self.entry.root, self.entry.schema, low, high)
        return self._base_below[sample] + self._added_below.get(sample, 0)

    def samples(self) -> Iterator[KeyType]:
        """Samples of a nested column, in key order, as of the first step."""
        self._count_up()
        touched = {sample: self.count_below(sample) > 0 for sample in self._touched}
        order = sorted((sample for sample, there in touched.items() if there), key=encode_key)
        base = (sample for sample in self._nodes.samples(self.entry.root, self.entry.schema) if sample not in touched)
        yield from merge(base, order, key=encode_key)

    def changes(self) -> Changes:
        """Staged rows by encoded key, in order."""
        batch = self.staged.as_batch()
        if batch is not None:
            return SortedRows(batch)
        return sorted(((encode_key(key), row) for key, row in self.staged.items()), key=lambda item: item[0])

    def _payload(self, value: bytes | Payload | None) -> Payload | None:
        return Payload(self.entry.schema.prefix(None), value, None) if isinstance(value, bytes) else value

    def _keep_instead(self, key: RowKey, value: bytes | Payload | None) -> None:
        """Keep a value in the place of another in memory."""
        self._count_up()
        old = self.pending[key]
        change = int(value is not None) - int(old is not None)
        self._added += change
        if isinstance(key, tuple):
            self._added_below[key[0]] = self._added_below.get(key[0], 0) + change
        self.pending[key] = value
        self.pending_bytes += _size(value) - _size(old)

    def _drop_pending(self, keys: Sequence[RowKey]) -> None:
        if len(keys) == len(self.pending):
            self.pending, self.pending_bytes = {}, 0
        for key in keys if self.pending else ():
            self.pending_bytes -= _size(self.pending.pop(key, None))

    def _count_up(self) -> None:
        """Count what was kept since the last time: at once that costs a fraction of one by one."""
        if self._uncounted:
            keys, self._uncounted = self._uncounted, []
            # A few are asked one by one, so that a loop of `column[len(column)] = value` takes no time in all of them.
            few = len(keys) <= _FEW_KEYS
            deleted = sum(self.pending[key] is None for key in keys) if few or None in self.pending.values() else 0
            if not deleted:
                self._count_all(keys, len(keys))
                return
            self._count_all([key for key in keys if self.pending[key] is not None], len(keys) - deleted)
            for key in keys:
                if self.pending[key] is None:
                    self._count(key, False)

    def _count_all(self, keys: Sequence[RowKey], present: int) -> None:
        """Count keys that are all there now; in memory they were not."""
        if not keys or isinstance(keys[0], tuple):
            for key in keys:
                self._count(key, True)
            return
        cells = self.staged.cells
        if self.entry.root is None:
            if not cells or cells.keys().isdisjoint(keys):
                self._added += present
                return
            self._added += present - sum(cells.get(key) is not None for key in keys)
            return
        # For a few it is not worth the leaf that has to be read, which may also be a damaged one.
        greatest = self._greatest_of_base() if len(keys) > _FEW_KEYS else MAX_INT_KEY
        for key in keys:
            cell = cells.get(key, _UNKNOWN)
            if cell is _UNKNOWN:
                fresh = (type(key) is int and key > greatest) or self._base_row(key) is None
            else:
                fresh = cell is None
            self._added += fresh

    def _count(self, key: RowKey, present: bool) -> None:
        """Count what is about to be staged, or is in memory."""
        if key in self.staged.cells:
            before = self.staged.cells[key] is not None
        else:
            before = self.entry.root is not None and self._base_row(key) is not None
        self._added += int(present) - int(before)
        if isinstance(key, tuple):
            sample, sub = key
            self._touched.setdefault(sample, {})[sub] = None
            self._added_below[sample] = self._added_below.get(sample, 0) + int(present) - int(before)

    def _base_row(self, key: RowKey) -> Row | None:
        return self._nodes.find(self.entry.root, self.entry.schema, key)

    def _note_numbers(self, keys: Collection[Any]) -> None:
        numbers = keys if are_numbers(keys) else [key for key in keys if type(key) is int]
        self._greatest = max(self._greatest, max(numbers, default=_NO_NUMBER))

    def _note_loose(self, rows: Iterable[tuple[RowKey, Row | None]]) -> None:
        for key, row in rows:
            if row is not None and row.value is not None and self._is_loose(row):
                self._loose[key] = None
                self._loose_bytes += len(row.value)

    def _is_loose(self, row: Row) -> bool:
        value = row.value
        return value is not None and is_packed(self.entry, row.identity, len(value))

    def _greatest_of_base(self) -> int:
        if self._base_greatest is None:
            self._base_greatest = self._nodes_greatest()
        return self._base_greatest

    def _nodes_greatest(self) -> int:
        ref = self.entry.root
        while ref is not None and ref.first[:1] == _NUMBER:
            if ref.level == 0:
                return max(key for key in self._nodes.leaf(ref, self.entry.schema).keys if isinstance(key, int))
            ref = [child for child in self._nodes.children(ref) if child.first[:1] == _NUMBER][-1]
        return _NO_NUMBER


def _size(value: bytes | Payload | None) -> int:
    if value is None:
        return 0
    return len(value) if isinstance(value, bytes) else len(value.data)


def _identity(row: Row | None) -> bytes | None:
    return None if row is None else row.identity
