"""Writing one flat column."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from hangar_cloud.alive import Alive
from hangar_cloud.backends.codecs import codec_from_options
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.backends.packs import staged_pack_number
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import InvalidSampleError
from hangar_cloud.catalog.keys import KeyType, check_key
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_writer import BACKENDS, default_backend
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.working_set import FLUSH_BYTES, FLUSH_SAMPLES, Found, WorkingColumn, WorkingSet
from hangar_cloud.column_reader import FlatSampleReader
from hangar_cloud.errors import ClosedError, ColumnBusyError, InvalidArgumentError, SampleNotFoundError, StagingError
from hangar_cloud.storage import Storage

_MISSING: Final = object()


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


class FlatSampleWriter(FlatSampleReader):
    """A column that is being written: a mutable mapping from sample keys to values.

    A write is durable once it returns outside a ``with`` block, or once the block ends.
    """

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
        self._alive = _ColumnAlive(alive, working, column)

    def __setitem__(self, key: KeyType, value: Any) -> None:
        """Store a value under a key, in place of what was there.

        Raises:
            ValueError: the key or the value is not suitable; nothing was written.
        """
        self._alive()
        key = check_key(key)
        self._put(key, self._encode(key, value))
        self._flush_if_due()

    def update(self, other: Mapping[KeyType, Any] | Iterable[tuple[KeyType, Any]] | None = None, **kwargs: Any) -> None:
        """Store many values, from a mapping, pairs or keywords; all are checked before any is written."""
        self._alive()
        pairs: Iterable[tuple[KeyType, Any]] = ()
        if other is not None:
            pairs = other.items() if isinstance(other, Mapping) or hasattr(other, "items") else other
        checked: list[tuple[KeyType, Payload]] = []
        for pair in (*_pairs(pairs, self._name), *kwargs.items()):
            key = check_key(pair[0])
            checked.append((key, self._encode(key, pair[1])))
        for key, payload in checked:
            self._put(key, payload)
        self._flush_if_due()

    def append(self, value: Any) -> KeyType:
        """Store a value under a fresh key, and return the key.

        Fresh keys sort in the order in which they were made, and do not collide between writers.
        """
        self._alive()
        key = f"{_clock.next():014x}-{secrets.token_hex(6)}"
        self[key] = value
        return key

    def __delitem__(self, key: KeyType) -> None:
        """Remove a sample. Raises KeyError where there is none."""
        self._alive()
        key = self._check(key)
        if self._find(key) is None:
            raise SampleNotFoundError(f"column {self._name!r} has no sample {key!r} to remove")
        self._put(key, None)
        self._flush_if_due()

    def pop(self, key: KeyType, default: Any = _MISSING) -> Any:
        """Remove a sample and return its value, or `default` if given and there is none."""
        self._alive()
        if default is not _MISSING and key not in self:
            return default
        value = self[key]
        del self[key]
        return value

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

    def __len__(self) -> int:
        """Number of samples, staged ones included."""
        self._alive()
        return len(self._column)

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

    def _find(self, key: KeyType) -> Found | None:
        return self._column.find(key)

    def _iterate(self) -> Iterator[tuple[KeyType, Found]]:
        # A snapshot of what is staged: a writer may write while it iterates. After a commit the staged rows
        # of the snapshot are in sealed packs, so they are looked up again.
        staged = self._column.staged
        for key, found in self._column.iterate():
            self._alive()
            now = found if self._column.staged is staged or not _is_staged(found) else self._column.find(key)
            if now is not None:
                yield key, now

    def _encode(self, key: KeyType, value: Any) -> Payload:
        return self._entry.schema.encode(value, f"column {self._name!r}, sample {key!r}")

    def _put(self, key: KeyType, payload: Payload | None) -> None:
        self._column.put(key, payload)
        if self._column.pending_bytes >= FLUSH_BYTES or len(self._column.pending) >= FLUSH_SAMPLES:
            self._working.flush(self._name)

    def _flush_if_due(self) -> None:
        if self._depth == 0:
            self._working.flush(self._name)


class _ColumnAlive(Alive):
    """Refuses once the checkout is closed, or the column is gone from it."""

    def __init__(self, alive: Alive, working: WorkingSet, column: WorkingColumn) -> None:
        super().__init__(alive)
        self._working = working
        self._column = column

    def __call__(self) -> None:
        super().__call__()
        if self._working.columns.get(self._column.name) is not self._column:
            raise ClosedError(f"column {self._column.name!r} was removed from this checkout")


def check_backend(code: Any, options: Any, schema: ColumnSchema) -> tuple[str, dict[str, Any]]:
    """The backend and options of a column, chosen where None was given.

    Raises:
        InvalidArgumentError: no such backend, or options that it does not take.
    """
    chosen = default_backend(schema) if code is None else code
    if chosen not in BACKENDS:
        raise InvalidArgumentError(
            f"backend {chosen!r} is not known; use one of {', '.join(BACKENDS)}, or None to choose"
        )
    if options is not None and not isinstance(options, dict):
        raise InvalidArgumentError(f"backend_options must be a dict, not {type(options).__name__}")
    try:
        codec_from_options(options or {}, schema.item_size)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    return chosen, dict(options or {})


def _is_staged(found: Found) -> bool:
    return isinstance(found, Row) and found.place is not None and staged_pack_number(found.place.pack) is not None


def _pairs(pairs: Iterable[Any], column: str) -> Iterator[tuple[Any, Any]]:
    if not isinstance(pairs, Iterable):
        raise _neither(column, pairs)
    for pair in pairs:
        try:
            key, value = pair
        except (TypeError, ValueError):
            raise _neither(column, pair) from None
        yield key, value


def _neither(column: str, given: object) -> InvalidSampleError:
    return InvalidSampleError(
        f"column {column!r}: update() takes a mapping or pairs (key, value); this is neither: {str(given)[:80]!r}"
    )


class _Clock:
    """The time in microseconds; always later than before, even if the system's clock was set back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(time.time_ns() // 1000, self._last + 1)
        return self._last


_clock: Final = _Clock()
