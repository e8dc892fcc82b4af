"""Writing columns, and the flat ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any, Final, TypeVar, cast

from hangar_cloud.alive import Alive, Forks
from hangar_cloud.backend_choice import check_backend
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.backends.packs import staged_pack_number
from hangar_cloud.backends.values import SampleValue
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import MAX_INT_KEY, KeyType, RowKey, encode_key
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.working_set import (
    FLUSH_BYTES,
    LEAST_FLUSH_BYTES,
    MOST_LOOSE,
    Found,
    WorkingColumn,
    WorkingSet,
)
from hangar_cloud.column import ColumnReader
from hangar_cloud.column_reader import FlatSampleReader
from hangar_cloud.errors import ClosedError, ColumnBusyError, SampleNotFoundError, StagingError
from hangar_cloud.given_keys import checked_key, fresh_key, keys_of_batch, numbers_after, pairs_of
from hangar_cloud.in_turn import in_turn, steps_in_turn
from hangar_cloud.progress import byte_progress
from hangar_cloud.storage import Storage
from hangar_cloud.value_batch import ValueBatch

MISSING: Final = object()
_MOST_LOOSE_BYTES: Final = 64 * 1024
_LONG_WRITE: Final = 256 * 1024 * 1024
"""Writing so many bytes at once shows its progress."""
_Key = TypeVar("_Key", bound=RowKey)


class OpenBlocks:
    """How many ``with`` blocks of a checkout are open."""

    def __init__(self) -> None:
        self.count = 0

    def refuse(self, what: str) -> None:
        """Raises ColumnBusyError if any is open."""
        if self.count:
            raise ColumnBusyError(
                f"Cannot {what}: a column or the checkout is open in a `with` block; leave the block first"
            )


class ColumnWriter(ColumnReader):
    """What columns of every layout have in common while they are written.

    A write is durable once it returns outside a ``with`` block, or once the block ends. Several threads may use a
    checkout and its columns at once; they take turns.
    """

    _may_read_warm = False

    def __init__(
        self,
        storage: Storage,
        working: WorkingSet,
        column: WorkingColumn,
        packs: PackReader,
        alive: Alive,
        blocks: OpenBlocks,
    ) -> None:
        super().__init__(column.name, storage, None, column.entry, alive)
        self._working = working
        self._turn = working.turn
        self._column = column
        self._packs = packs
        self._blocks = blocks
        self._depth = 0
        self._alive: _ColumnAlive = _ColumnAlive(alive, working, column)

    @in_turn
    def change_backend(self, backend: str, backend_options: dict[str, Any] | None = None) -> None:
        """Send what is written from now on to another backend.

        Raises:
            RuntimeError: inside a ``with`` block.
            ValueError: no such backend or option.
        """
        self._alive()
        if self._depth or self._blocks.count:
            raise StagingError("the backend cannot be changed inside a `with` block; leave the block first")
        code, options = check_backend(backend, backend_options, self._entry.schema)
        self._working.change_column(self._name, code, options)

    @property
    def iswriteable(self) -> bool:
        """True."""
        self._alive()
        return True

    @in_turn
    def __enter__(self) -> Any:
        self._alive()
        self._depth += 1
        self._column.most_pending = max(FLUSH_BYTES // len(self._working.columns), LEAST_FLUSH_BYTES)
        self._blocks.count += 1
        return self

    @in_turn
    def __exit__(self, *_: object) -> None:
        self._depth = max(self._depth - 1, 0)
        self._blocks.count = max(self._blocks.count - 1, 0)
        if self._depth == 0:
            self._alive()
            self._working.flush(self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        raise ClosedError("a column open for writing cannot be pickled; pickle one of a reader checkout")

    @property
    def _entry(self) -> ColumnEntry:
        return self._column.entry

    @in_turn
    def _count(self) -> int:
        return len(self._column)

    @in_turn
    def _find(self, key: RowKey) -> Found | None:
        return self._column.find(key)

    def _iterate(self) -> Iterator[tuple[RowKey, Found]]:
        return self._current(self._column.iterate())

    def _current(self, rows: Iterator[tuple[_Key, Found]]) -> Iterator[tuple[_Key, Found]]:
        # A snapshot of what is staged: a writer may write while it iterates. After a commit the staged rows
        # of the snapshot are in sealed packs, so they are looked up again.
        staged = self._column.staged
        for key, found in steps_in_turn(self._turn, rows):
            self._alive()
            now = found if self._column.staged is staged or not _is_staged(found) else self._find(key)
            if now is not None:
                yield key, now

    def _read(self, waiting: Sequence[tuple[_Key, Found]]) -> Iterator[tuple[_Key, Any]]:
        schema = self._entry.schema
        for item in super()._read(waiting):
            yield item
            if self._entry.schema != schema:
                raise StagingError(f"column {self._name!r} was altered while it was iterated over")

    @in_turn
    def _value(self, key: RowKey, found: Found) -> SampleValue:
        return super()._value(key, self._of_now(key, found))

    @in_turn
    def _payloads(self, keys: Sequence[RowKey], founds: Sequence[Found]) -> list[bytes | memoryview]:
        return super()._payloads(keys, [self._of_now(key, found) for key, found in zip(keys, founds, strict=True)])

    def _of_now(self, key: RowKey, found: Found) -> Found:
        """What was found, or what became of it where another thread may have committed meanwhile."""
        return (self._column.find(key) or found) if _is_staged(found) else found

    def _rows_here(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[RowKey, Found]]:
        with self._turn.lock:
            over = self._column.over_base()
        base = (row for row in super()._rows_here(low, high) if row[0] not in over)
        new = [(key, found) for key, found in over.items() if found is not None and _within(key, low, high)]
        yield from merge(base, sorted(new, key=_place_of), key=_place_of)

    @in_turn
    def _write(self, rows: Iterable[tuple[RowKey, Payload | None]], schema: ColumnSchema | None = None) -> None:
        """Store payloads that were checked by a schema, or delete with None; durable on return but in a `with` block.

        Raises:
            StagingError: the column has another schema by now; nothing was written.
        """
        if not (self._depth and self._alive.at_first_sight()):
            self._alive()
        self._require_schema(schema)
        if self._depth == 0:
            # Found only by the flush, a purged sample would stay in memory and have all later writes refused.
            rows = list(rows)
            if self._is_small(rows):
                self._working.write_loose(self._name, cast("list[tuple[RowKey, Payload]]", rows))
                return
            self._working.refuse_purged(self._name, rows)
        for key, payload in rows:
            if self._column.put(key, payload):
                self._flush()
        if self._depth == 0:
            # Single deletions are as cheap as single writes: neither has the values before it packed.
            self._working.flush(self._name, pack=any(payload is not None for _, payload in rows))

    def _is_small(self, rows: Sequence[tuple[RowKey, Payload | None]]) -> bool:
        """Whether the staging area's own file is the place for these, which is one wait for the disk instead of two."""
        if not 1 <= len(rows) <= MOST_LOOSE or self._column.pending or self._entry.backend == "t0":
            return False
        return all(payload is not None and len(payload.data) <= _MOST_LOOSE_BYTES for _, payload in rows)

    @in_turn
    def _write_batch(self, keys: Sequence[RowKey], values: ValueBatch) -> None:
        """Store values under checked keys; all are checked before any is written, and durable on return."""
        self._alive()
        self._require_schema(values.schema)
        values.check(lambda i: f"column {self._name!r}, values[{i}] (sample {keys[i]!r})")
        # Of an iterator that is read only if anything was ever purged.
        self._working.refuse_purged(self._name, zip(keys, values.payloads(), strict=True))
        with byte_progress("writing", values.nbytes, enabled=values.nbytes > _LONG_WRITE) as progress:
            for portion in values.portions(keys):
                self._alive()
                self._working.write(self._name, portion)
                progress(portion.nbytes)

    def _require_schema(self, schema: ColumnSchema | None) -> None:
        now = self._entry.schema
        if schema is not None and schema is not now and schema != now:
            raise StagingError(
                f"column {self._name!r} was altered while the values to be written were made or read; nothing of them "
                "was written. Write them again"
            )

    @in_turn
    def _flush(self) -> None:
        self._alive()
        self._working.flush(self._name)


class FlatSampleWriter(ColumnWriter, FlatSampleReader):
    """A column that is being written: a mutable mapping from sample keys to values.

    A write is durable once it returns outside a ``with`` block, or once the block ends.
    """

    def __setitem__(self, key: KeyType, value: Any) -> None:
        """Store a value under a key, in place of what was there.

        Raises:
            ValueError: the key or the value is not suitable; nothing was written.
        """
        # All of it in turn: another thread may end the block, alter the column, or remove it.
        with self._turn.lock:
            # What is written inside a block goes to memory, and whatever makes it durable asks for the writer's lock.
            if not (self._depth and self._alive.at_first_sight()):
                self._alive()
            column = self._column
            key = key if type(key) is int and 0 <= key <= MAX_INT_KEY else checked_key(key, f"column {self._name!r}")
            data = column.entry.schema.quick_data(value)
            if not self._depth or data is None:
                self._write([(key, column.entry.schema.encode(value, self._where(key)))])
            elif column.keep(key, data):
                self._flush()

    def update(self, other: Mapping[KeyType, Any] | Iterable[tuple[KeyType, Any]] | None = None, **kwargs: Any) -> None:
        """Store many values, from a mapping, pairs or keywords; all are checked before any is written."""
        self._alive()
        schema = self._entry.schema
        checked: list[tuple[RowKey, Payload]] = []
        for given, value in pairs_of(other, kwargs, f"column {self._name!r}"):
            key = checked_key(given, f"column {self._name!r}")
            checked.append((key, schema.encode(value, self._where(key))))
        self._write(checked, schema)

    def extend(self, values: Iterable[Any]) -> list[int]:
        """Store many values under new whole numbers, and return these keys in the order of the values.

        The numbers follow the greatest that the column has, or had since this checkout was opened; 0 is the first. Two
        writers that extend one branch at the same time take the same numbers, and the second `commit` raises
        `CommitConflictError`: there use `append`, or `update_batch` with keys of your own.

        Args:
            values: for an ndarray column one array of shape ``(N, *shape)`` and the column's dtype, in any memory
                layout of which each ``values[i]`` is C-contiguous; for every column a sequence of values.

        Returns:
            N keys. Without values nothing is written.

        Raises:
            ValueError: a value is not suitable; says which, and nothing was written.
            OSError: the disk is full, or the like; what was stored before of the values is staged, and the rest is not.
        """
        self._alive()
        batch = ValueBatch(values, self._entry.schema, f"column {self._name!r}: extend()")
        with self._turn.lock:
            keys = numbers_after(self._column.greatest_number(), len(batch), f"column {self._name!r}")
            self._write_batch(keys, batch)
        return keys

    def update_batch(self, keys: Iterable[KeyType], values: Iterable[Any]) -> None:
        """Store many values under keys of your own, in place of what was there.

        Args:
            keys: as many as there are values, each once.
            values: as for `extend`.

        Raises:
            ValueError: a key or a value is not suitable; says which, and nothing was written.
            OSError: as for `extend`.
        """
        self._alive()
        where = f"column {self._name!r}"
        batch = ValueBatch(values, self._entry.schema, f"{where}: update_batch()")
        self._write_batch(keys_of_batch(keys, len(batch), where, lambda key: checked_key(key, where)), batch)

    def append(self, value: Any) -> KeyType:
        """Store a value under a fresh key, and return the key.

        Fresh keys sort in the order in which they were made, and do not collide between writers.
        """
        self._alive()
        key = fresh_key()
        self[key] = value
        return key

    @in_turn
    def __delitem__(self, key: KeyType) -> None:
        """Remove a sample. Raises KeyError where there is none."""
        self._alive()
        key = self._row_key(key)
        if self._find(key) is None:
            raise SampleNotFoundError(f"column {self._name!r} has no sample {key!r} to remove")
        self._write([(key, None)])

    @in_turn
    def pop(self, key: KeyType, default: Any = MISSING) -> Any:
        """Remove a sample and return its value, or `default` if given and there is none."""
        self._alive()
        if default is not MISSING and key not in self:
            return default
        value = self[key]
        del self[key]
        return value


class _ColumnAlive(Alive):
    """Refuses once the checkout is closed, or the column is gone from it."""

    def __init__(self, alive: Alive, working: WorkingSet, column: WorkingColumn) -> None:
        super().__init__(alive)
        self._checkout = alive
        self._forks = Forks.count
        self._working = working
        self._column = column

    @property
    def open(self) -> bool:
        """False once the checkout is closed."""
        return self._checkout.open

    def at_first_sight(self) -> bool:
        """Whether nothing is wrong that can be seen without a look at a file, at the writer's lock."""
        # Asked for each assignment inside a block, so no property is: a call costs as much as all of this.
        there = self._working.columns.get(self._column.name) is self._column
        return there and self._checkout._open and self._forks == Forks.count

    def __call__(self) -> None:
        super().__call__()
        if self._working.columns.get(self._column.name) is not self._column:
            now = self._column
            while now.renamed is not None:
                now = now.renamed
            if now is not self._column:
                raise ClosedError(
                    f"column {self._column.name!r} was renamed to {now.name!r}; take it from the checkout by that name"
                )
            raise ClosedError(f"column {self._column.name!r} was removed from this checkout")


def _place_of(row: tuple[RowKey, Found]) -> bytes:
    return encode_key(row[0])


def _within(key: RowKey, low: bytes, high: bytes | None) -> bool:
    return low <= encode_key(key) and (high is None or encode_key(key) < high)


def _is_staged(found: Found) -> bool:
    return isinstance(found, Row) and found.place is not None and staged_pack_number(found.place.pack) is not None
