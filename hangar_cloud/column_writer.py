"""Writing columns, and the flat ones."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any, Final, TypeVar

from hangar_cloud.alive import Alive
from hangar_cloud.backends.array_options import array_options
from hangar_cloud.backends.codecs import codec_from_options
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.backends.packs import staged_pack_number
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import InvalidNameError, InvalidSampleError
from hangar_cloud.catalog.keys import MAX_INT_KEY, KeyType, RowKey, check_key, encode_key
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_writer import BACKENDS, default_backend
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.working_set import FLUSH_BYTES, FLUSH_SAMPLES, Found, WorkingColumn, WorkingSet
from hangar_cloud.column import ColumnReader
from hangar_cloud.column_reader import FlatSampleReader
from hangar_cloud.errors import ClosedError, ColumnBusyError, InvalidArgumentError, SampleNotFoundError, StagingError
from hangar_cloud.storage import Storage

MISSING: Final = object()
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

    A write is durable once it returns outside a ``with`` block, or once the block ends.
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
        self._column = column
        self._packs = packs
        self._blocks = blocks
        self._depth = 0
        self._alive: _ColumnAlive = _ColumnAlive(alive, working, column)

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

    def __enter__(self) -> Any:
        self._alive()
        self._depth += 1
        self._blocks.count += 1
        return self

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

    def _count(self) -> int:
        return len(self._column)

    def _find(self, key: RowKey) -> Found | None:
        return self._column.find(key)

    def _iterate(self) -> Iterator[tuple[RowKey, Found]]:
        return self._current(self._column.iterate())

    def _current(self, rows: Iterator[tuple[_Key, Found]]) -> Iterator[tuple[_Key, Found]]:
        # A snapshot of what is staged: a writer may write while it iterates. After a commit the staged rows
        # of the snapshot are in sealed packs, so they are looked up again.
        staged = self._column.staged
        for key, found in rows:
            self._alive()
            now = found if self._column.staged is staged or not _is_staged(found) else self._column.find(key)
            if now is not None:
                yield key, now

    def _read(self, waiting: Sequence[tuple[_Key, Found]]) -> Iterator[tuple[_Key, Any]]:
        schema = self._entry.schema
        for item in super()._read(waiting):
            yield item
            if self._entry.schema != schema:
                raise StagingError(f"column {self._name!r} was altered while it was iterated over")

    def _rows_here(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[RowKey, Found]]:
        over = {**self._column.staged, **self._column.pending}
        base = (row for row in super()._rows_here(low, high) if row[0] not in over)
        new = [(key, found) for key, found in over.items() if found is not None and _within(key, low, high)]
        yield from merge(base, sorted(new, key=_place_of), key=_place_of)

    def _encode(self, key: RowKey, value: Any) -> Payload:
        return self._entry.schema.encode(value, self._where(key))

    def _write(self, rows: Iterable[tuple[RowKey, Payload | None]]) -> None:
        """Store checked payloads, or delete with None; durable on return unless a ``with`` block is open."""
        if self._depth == 0:
            # Found only by the flush, a purged sample would stay in memory and have all later writes refused.
            rows = list(rows)
            self._working.refuse_purged(self._name, rows)
        for key, payload in rows:
            self._column.put(key, payload)
            self._flush_if_much()
        if self._depth == 0:
            self._working.flush(self._name)

    def _flush_if_much(self) -> None:
        if self._column.pending_bytes >= FLUSH_BYTES or len(self._column.pending) >= FLUSH_SAMPLES:
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
        if self._depth:
            # What is written here goes to memory, and whatever makes it durable asks for the lock.
            self._alive.quickly()
        else:
            self._alive()
        key = key if type(key) is int and 0 <= key <= MAX_INT_KEY else checked_key(key, f"column {self._name!r}")
        payload = self._entry.schema.quick_payload(value) or self._encode(key, value)
        if not self._depth:
            self._write([(key, payload)])
            return
        self._column.put(key, payload)
        self._flush_if_much()

    def update(self, other: Mapping[KeyType, Any] | Iterable[tuple[KeyType, Any]] | None = None, **kwargs: Any) -> None:
        """Store many values, from a mapping, pairs or keywords; all are checked before any is written."""
        self._alive()
        checked: list[tuple[RowKey, Payload]] = []
        for given, value in pairs_of(other, kwargs, f"column {self._name!r}"):
            key = checked_key(given, f"column {self._name!r}")
            checked.append((key, self._encode(key, value)))
        self._write(checked)

    def append(self, value: Any) -> KeyType:
        """Store a value under a fresh key, and return the key.

        Fresh keys sort in the order in which they were made, and do not collide between writers.
        """
        self._alive()
        key = fresh_key()
        self[key] = value
        return key

    def __delitem__(self, key: KeyType) -> None:
        """Remove a sample. Raises KeyError where there is none."""
        self._alive()
        key = self._row_key(key)
        if self._find(key) is None:
            raise SampleNotFoundError(f"column {self._name!r} has no sample {key!r} to remove")
        self._write([(key, None)])

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
        self._process = os.getpid()
        self._working = working
        self._column = column

    @property
    def open(self) -> bool:
        """False once the checkout is closed."""
        return self._checkout.open

    def quickly(self) -> None:
        """The same, but for what takes a look at a file: whether the writer's lock was released by force."""
        there = self._working.columns.get(self._column.name) is self._column
        if not (there and self._checkout.open and os.getpid() == self._process):
            self()

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


def check_backend(code: Any, options: Any, schema: ColumnSchema) -> tuple[str, dict[str, Any]]:
    """The backend and options of a column, chosen where None was given.

    Raises:
        InvalidArgumentError: no such backend, or options that it does not take.
    """
    chosen = default_backend(schema) if code is None else code
    if chosen not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise InvalidArgumentError(f"backend {chosen!r} is not known; use one of {known}, or None to choose")
    if options is not None and not isinstance(options, dict):
        raise InvalidArgumentError(f"backend_options must be a dict, not {type(options).__name__}")
    try:
        if chosen == "t0":
            return chosen, array_options(options or {}, schema.shape, schema.item_size).as_json()
        codec_from_options(options or {}, schema.item_size)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    return chosen, dict(options or {})


def _place_of(row: tuple[RowKey, Found]) -> bytes:
    return encode_key(row[0])


def _within(key: RowKey, low: bytes, high: bytes | None) -> bool:
    return low <= encode_key(key) and (high is None or encode_key(key) < high)


def _is_staged(found: Found) -> bool:
    return isinstance(found, Row) and found.place is not None and staged_pack_number(found.place.pack) is not None


def pairs_of(other: Any, more: Mapping[str, Any], where: str) -> Iterator[tuple[Any, Any]]:
    """Keys and values of a mapping or of pairs, and of keywords, as `update` takes them.

    Raises:
        InvalidSampleError: `other` is neither a mapping nor pairs; `where` begins the message.
    """
    pairs: Any = ()
    if other is not None:
        pairs = other.items() if isinstance(other, Mapping) or hasattr(other, "items") else other
    if not isinstance(pairs, Iterable):
        raise _neither(where, pairs)
    for pair in pairs:
        try:
            key, value = pair
        except (TypeError, ValueError):
            raise _neither(where, pair) from None
        yield key, value
    yield from more.items()


def checked_key(key: Any, where: str) -> KeyType:
    """The key itself if it may be one.

    Raises:
        InvalidNameError: it may not; `where` begins the message.
    """
    try:
        return check_key(key)
    except InvalidNameError as error:
        raise InvalidNameError(f"{where}: {error}") from None


def fresh_key() -> str:
    """A key that no sample has: it sorts after those made before, and does not collide between writers."""
    return f"{_clock.next():014x}-{secrets.token_hex(6)}"


def _neither(where: str, given: object) -> InvalidSampleError:
    return InvalidSampleError(
        f"{where}: update() takes a mapping or pairs (key, value); this is neither: {str(given)[:80]!r}"
    )


class _Clock:
    """The time in microseconds; always later than before, even if the system's clock was set back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(time.time_ns() // 1000, self._last + 1)
        return self._last


_clock: Final = _Clock()
