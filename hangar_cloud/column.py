"""What columns of every layout have in common: what they say of themselves, their rows, and reading values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, TypeVar

from hangar_cloud.alive import Alive
from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.backends.pack_reader import UNREADABLE, PackedSample, PackReader
from hangar_cloud.backends.values import SampleValue
from hangar_cloud.batches import BatchReading
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import InvalidNameError, PurgedError
from hangar_cloud.catalog.keys import KeyType, RowKey, check_key
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import Payload
from hangar_cloud.catalog.working_set import Found
from hangar_cloud.column_boxes import BoxReading
from hangar_cloud.errors import SampleNotFoundError
from hangar_cloud.notebook import facts_table, pictures_of
from hangar_cloud.storage import Storage

READ_AHEAD: Final = 256
_MOST_SHOWN: Final = 16 * 1024 * 1024
_Key = TypeVar("_Key", bound=RowKey)


class ColumnReader(BoxReading, BatchReading):
    """A column of one commit. Its rows are samples or, where it is nested, subsamples."""

    def __init__(self, name: str, storage: Storage, commit: str | None, entry: ColumnEntry, alive: Alive) -> None:
        self._name = name
        self._storage = storage
        self._commit = commit
        self._entry_at_open = entry
        self._alive = alive
        self._nodes: NodeReader = storage.nodes
        self._packs: PackReader = storage.packs

    @property
    def contains_remote_references(self) -> bool:
        """True if any value is not on this machine."""
        return self.misses_data()

    def misses_data(self, most_leaves: int | None = None) -> bool:
        """As `contains_remote_references`, looking at no more than `most_leaves` leaves of the records."""
        self._alive()
        if self._storage.holds_everything:
            return False
        return self._any_leaf_is_remote(most_leaves)

    @property
    def column(self) -> str:
        """Name of the column."""
        self._alive()
        return self._name

    @property
    def column_type(self) -> str:
        """One of "ndarray", "str" and "bytes"."""
        self._alive()
        return self._entry.schema.column_type

    @property
    def column_layout(self) -> str:
        """Either "flat" or "nested"."""
        self._alive()
        return self._entry.schema.column_layout

    @property
    def schema_type(self) -> str:
        """Either "fixed_shape" or "variable_shape"."""
        self._alive()
        return self._entry.schema.schema_type

    @property
    def dtype(self) -> Any:
        """numpy dtype of an ndarray column, else `str` or `bytes`."""
        self._alive()
        schema = self._entry.schema
        return {"str": str, "bytes": bytes}.get(schema.column_type) or schema.numpy_dtype

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of every value, or the maximum where it varies; None for str and bytes."""
        self._alive()
        return self._entry.schema.shape

    @property
    def backend(self) -> str:
        """Code of the backend that new values go to: "p0" packs, "i0" inline in the records, "t0" arrays in tiles."""
        self._alive()
        return self._entry.backend

    @property
    def backend_options(self) -> dict[str, Any]:
        """Options of that backend (a copy)."""
        self._alive()
        return dict(self._entry.backend_options)

    @property
    def contains_subsamples(self) -> bool:
        """True if each sample is a set of subsamples; False if samples are values."""
        self._alive()
        return self._entry.schema.column_layout == "nested"

    @property
    def iswriteable(self) -> bool:
        """True in a checkout for writing."""
        self._alive()
        return False

    def __enter__(self) -> Any:
        self._alive()
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        self._alive()
        return _reopen, (type(self), self._storage, self._commit, self._name, self._entry_at_open)

    def __repr__(self) -> str:
        self._alive()
        return f"{type(self).__qualname__}(repo_path={self._storage.location}, column_name={self._name})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """The table that notebooks show; nothing is fetched for it."""
        self._alive()
        return facts_table(f"Hangar {type(self).__qualname__}", self._facts(), pictures_of(self))

    def __str__(self) -> str:
        self._alive()
        return as_table(f"Hangar {type(self).__qualname__}", self._facts())

    def _facts(self) -> list[tuple[str, object]]:
        """What the column says of itself, by name; nothing is fetched for it."""
        return [
            ("Column Name", self.column),
            ("Writeable", self.iswriteable),
            ("Column Type", self.column_type),
            ("Column Layout", self.column_layout),
            ("Schema Type", self.schema_type),
            ("DType", self._dtype_name),
            ("Shape", self.shape),
            *self._sizes(),
            ("Partial Remote Data Refs", self.contains_remote_references),
        ]

    def _sizes(self) -> list[tuple[str, object]]:
        raise NotImplementedError

    @property
    def _dtype_name(self) -> str:
        return getattr(self.dtype, "name", None) or str(self.dtype.__name__)

    @property
    def _entry(self) -> ColumnEntry:
        return self._entry_at_open

    def _row_key(self, key: Any) -> RowKey:
        """The key of a row, checked. Raises SampleNotFoundError if it cannot be one."""
        raise NotImplementedError

    def _check(self, key: Any, below: str = "") -> KeyType:
        try:
            return check_key(key)
        except InvalidNameError as error:
            raise SampleNotFoundError(f"column {self._name!r}{below}: {error}") from None

    def _where(self, key: RowKey) -> str:
        """What a row is, for messages."""
        if isinstance(key, tuple):
            return f"column {self._name!r}, sample {key[0]!r}, subsample {key[1]!r}"
        return f"column {self._name!r}, sample {key!r}"

    def _absent(self, key: RowKey) -> SampleNotFoundError:
        """The error that says that there is no such row."""
        return SampleNotFoundError(f"column {self._name!r} has no sample {key!r}")

    def _count(self) -> int:
        """Number of rows."""
        return self._entry.count

    def _find(self, key: RowKey) -> Found | None:
        try:
            return self._nodes.find(self._entry.root, self._entry.schema, key)
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"{self._where(key)}: its record: {error}") from error

    def _find_all(self, keys: Sequence[RowKey]) -> list[Found]:
        self._nodes.prefetch_keys(self._entry.root, self._entry.schema, keys)
        founds = []
        for key in keys:
            found = self._find(key)
            if found is None:
                raise self._absent(key)
            founds.append(found)
        return founds

    def _iterate(self) -> Iterator[tuple[RowKey, Found]]:
        for leaf in self._leaves():
            for i, key in enumerate(leaf.keys):
                self._alive()
                yield key, leaf.row(i)

    def _leaves(self) -> Iterator[Leaf]:
        entry = self._entry
        try:
            for ref in self._nodes.leaves(entry.root):
                yield self._nodes.leaf(ref, entry.schema)
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"column {self._name!r}, its records: {error}") from error

    def _any_leaf_is_remote(self, most_leaves: int | None) -> bool:
        """Looks without fetching: a leaf that is not here counts as remote."""
        schema = self._entry.schema
        for ref in islice(self._nodes.local_leaves(self._entry.root, schema), most_leaves):
            if ref is None:
                return True
            leaf = self._nodes.leaf(ref, schema)
            if all(self._packs.is_whole(pack) for pack in leaf.packs()):
                continue
            if any(self._is_remote(leaf.row(i)) for i in range(len(leaf))):
                return True
        return False

    def _rows_here(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[RowKey, Found]]:
        """The rows from encoded key `low` to below `high` that can be told without fetching records."""
        schema = self._entry.schema
        for ref in self._nodes.local_leaves(self._entry.root, schema, low, high):
            if ref is None:
                continue
            leaf = self._nodes.leaf(ref, schema)
            start = bisect_left(leaf.encoded_keys, low)
            end = len(leaf) if high is None else bisect_left(leaf.encoded_keys, high)
            for i in range(start, end):
                yield leaf.keys[i], leaf.row(i)

    def _value_here(self, key: RowKey, found: Found) -> SampleValue | None:
        """The value of a row, None if it is too big to be shown, damaged, or not on this machine."""
        try:
            if isinstance(found, Payload) or found.place is None:
                return self._value(key, found)
            if found.place.size > _MOST_SHOWN:
                return None
            data = self._packs.read_local(self._packed(found))
            return None if data is None else self._decode(key, data, found.shape)
        except CorruptDataError:
            return None

    def _read_all(self, keys: Sequence[RowKey]) -> list[SampleValue]:
        """The values of some keys, in their order; all must exist."""
        founds = self._find_all(keys)
        payloads = self._payloads(keys, founds)
        return [self._decode(key, data, f.shape) for key, data, f in zip(keys, payloads, founds, strict=True)]

    def _read_ahead(self, rows: Iterator[tuple[_Key, Found]], local: bool) -> Iterator[tuple[_Key, Any]]:
        """Keys and values of rows, read some hundred at a time; with `local` only of those on this machine."""
        waiting: list[tuple[_Key, Found]] = []
        for key, found in rows:
            if not local or self._is_local(found):
                waiting.append((key, found))
            if len(waiting) >= READ_AHEAD:
                yield from self._read(waiting)
                waiting = []
        yield from self._read(waiting)

    def _read(self, waiting: Sequence[tuple[_Key, Found]]) -> Iterator[tuple[_Key, Any]]:
        try:
            payloads = self._payloads([key for key, _ in waiting], [found for _, found in waiting])
        except UNREADABLE:
            # Those before what cannot be read are wanted first.
            yield from ((key, self._value(key, found)) for key, found in waiting)
            return
        for (key, found), data in zip(waiting, payloads, strict=True):
            self._alive()
            yield key, self._decode(key, data, found.shape)

    def _value(self, key: RowKey, found: Found) -> SampleValue:
        if isinstance(found, Payload):
            return self._entry.schema.decode(found.data, found.shape)
        if found.value is not None:
            return self._decode(key, found.value, found.shape)
        return self._decode(key, self._read_one(key, self._packed(found)), found.shape)

    def _decode(self, key: RowKey, data: bytes | memoryview, shape: tuple[int, ...] | None) -> SampleValue:
        try:
            return self._entry.schema.decode(data, shape)
        except CorruptDataError as error:
            raise CorruptDataError(f"{self._where(key)}: {error}") from error

    def _payloads(self, keys: Sequence[RowKey], founds: Sequence[Found]) -> list[bytes | memoryview]:
        result: list[Any] = [None] * len(founds)
        packed: list[int] = []
        for i, found in enumerate(founds):
            if isinstance(found, Payload):
                result[i] = found.data
            elif found.value is not None:
                result[i] = found.value
            else:
                packed.append(i)
        samples = [self._packed(founds[i]) for i in packed]  # type: ignore[arg-type]
        datas: list[memoryview] | None = None
        with suppress(*UNREADABLE):
            datas = self._packs.read_many(samples)
        if datas is None:
            # Read one by one, so that the message names the sample that fails.
            datas = [self._read_one(keys[i], sample) for i, sample in zip(packed, samples, strict=True)]
        for i, data in zip(packed, datas, strict=True):
            result[i] = data
        return result

    def _read_one(self, key: RowKey, sample: PackedSample) -> memoryview:
        try:
            return self._packs.read(sample)
        except PurgedError as error:
            raise error.at(self._where(key), self._name, key) from error.__cause__
        except UNREADABLE as error:
            raise type(error)(f"{self._where(key)}: {error}") from error

    def _packed(self, row: Row) -> PackedSample:
        assert row.place is not None
        return PackedSample(row.place, row.identity[1:], self._entry.schema.prefix(row.shape))

    def _is_local(self, found: Found) -> bool:
        if isinstance(found, Payload) or found.place is None:
            return True
        return self._packs.is_local(self._packed(found))

    def _is_remote(self, found: Found) -> bool:
        """Whether a value has to be fetched: it is not on this machine, and was not purged either."""
        if isinstance(found, Payload) or self._is_local(found):
            return False
        return self._storage.purged.error(found.identity[1:], here=True) is None


def as_table(title: str, lines: Iterable[tuple[str, object]]) -> str:
    """A title, and below it names and values in two columns."""
    return title + "".join(f"\n    {name:<24} : {value}" for name, value in lines)


def _reopen(
    kind: type[ColumnReader], storage: Storage, commit: str | None, name: str, entry: ColumnEntry
) -> ColumnReader:
    """The reader of a column in another process, from its pickle."""
    return kind(name, storage, commit, entry, Alive())
