"""Reading one flat column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.alive import Alive
from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.values import SampleValue
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.keys import KeyType, check_key
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import Payload
from hangar_cloud.catalog.segments import Leaf
from hangar_cloud.catalog.working_set import Found
from hangar_cloud.errors import SampleNotFoundError
from hangar_cloud.storage import Storage

_READ_AHEAD: Final = 256


class FlatSampleReader:
    """A column of one commit: a mapping from sample keys to values, read-only.

    Values are fresh numpy arrays (writable, changing one changes nothing stored), str or bytes. What is
    not on this machine is fetched when it is read.
    """

    def __init__(self, name: str, storage: Storage, commit: str | None, entry: ColumnEntry, alive: Alive) -> None:
        self._name = name
        self._storage = storage
        self._commit = commit
        self._entry_at_open = entry
        self._alive = alive
        self._nodes: NodeReader = storage.nodes
        self._packs: PackReader = storage.packs

    def __getitem__(self, key: KeyType) -> Any:
        """The value of a key.

        Raises:
            KeyError: no such key.
            CorruptDataError: the stored bytes are damaged.
            FileNotFoundError: not on this machine, and the repository is offline.
        """
        self._alive()
        key = self._check(key)
        found = self._find(key)
        if found is None:
            raise SampleNotFoundError(f"column {self._name!r} has no sample {key!r}")
        return self._value(key, found)

    def get(self, key: KeyType, default: Any = None) -> Any:
        """The value of a key, or `default` where there is no such key."""
        self._alive()
        try:
            found = self._find(check_key(key))
        except InvalidNameError:
            return default
        return default if found is None else self._value(key, found)

    def get_batch(self, keys: Iterable[KeyType]) -> npt.NDArray[Any] | list[Any]:
        """The values of many keys, in the order asked; a key may be asked more than once.

        Returns:
            for a fixed-shape ndarray column one array of shape ``(len(keys), *shape)``; else a list.

        Raises:
            KeyError: some key does not exist; it is named.
        """
        self._alive()
        wanted = [self._check(key) for key in keys]
        self._nodes.prefetch_keys(self._entry.root, self._entry.schema, wanted)
        founds = []
        for key in wanted:
            found = self._find(key)
            if found is None:
                raise SampleNotFoundError(f"column {self._name!r} has no sample {key!r}")
            founds.append(found)
        payloads = self._payloads(wanted, founds)
        schema = self._entry.schema
        if schema.schema_type != "fixed_shape":
            found_values = zip(wanted, payloads, founds, strict=True)
            return [self._decode(key, data, found.shape) for key, data, found in found_values]
        batch = np.empty((len(wanted), *(schema.shape or ())), schema.numpy_dtype)
        flat = batch.reshape(len(wanted), -1) if wanted else batch
        for i, data in enumerate(payloads):
            if len(data) != schema.fixed_size:
                raise CorruptDataError(
                    f"column {self._name!r}, sample {wanted[i]!r}: {len(data)} bytes are not one sample"
                )
            flat[i] = np.frombuffer(data, schema.numpy_dtype)
        return batch

    def __contains__(self, key: object) -> bool:
        """True if there is a sample of that key."""
        self._alive()
        try:
            return self._find(check_key(key)) is not None
        except InvalidNameError:
            return False

    def __len__(self) -> int:
        """Number of samples."""
        self._alive()
        return self._entry.count

    def __iter__(self) -> Iterator[KeyType]:
        """Keys in order: numbers by value, then text."""
        return self.keys()

    def keys(self, local: bool = False) -> Iterator[KeyType]:
        """Keys in order; with `local` only those whose value is on this machine."""
        self._alive()
        return (key for key, found in self._iterate() if not local or self._is_local(found))

    def values(self, local: bool = False) -> Iterator[Any]:
        """Values in key order; with `local` only those on this machine."""
        return (value for _, value in self.items(local))

    def items(self, local: bool = False) -> Iterator[tuple[KeyType, Any]]:
        """Keys and values in key order; with `local` only those on this machine.

        What has to be fetched is fetched some hundred samples at a time.
        """
        self._alive()
        return self._items(local)

    @property
    def remote_reference_keys(self) -> tuple[KeyType, ...]:
        """Keys of the samples whose value is not on this machine."""
        self._alive()
        return tuple(key for key, found in self._iterate() if not self._is_local(found))

    @property
    def contains_remote_references(self) -> bool:
        """True if the value of any sample is not on this machine."""
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
        """"ndarray", "str" or "bytes"."""
        self._alive()
        return self._entry.schema.column_type

    @property
    def column_layout(self) -> str:
        """"flat"."""
        self._alive()
        return self._entry.schema.column_layout

    @property
    def schema_type(self) -> str:
        """"fixed_shape" or "variable_shape"."""
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
        """Shape of every sample, or the maximum where it varies; None for str and bytes."""
        self._alive()
        return self._entry.schema.shape

    @property
    def backend(self) -> str:
        """Code of the backend that new values go to: "p0" packs, "i0" inline in the records."""
        self._alive()
        return self._entry.backend

    @property
    def backend_options(self) -> dict[str, Any]:
        """Options of that backend (a copy)."""
        self._alive()
        return dict(self._entry.backend_options)

    @property
    def contains_subsamples(self) -> bool:
        """False: samples of a flat column are values."""
        self._alive()
        return False

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
        return _reopen, (self._storage, self._commit, self._name, self._entry_at_open)

    def __repr__(self) -> str:
        self._alive()
        return f"{type(self).__qualname__}(repo_path={self._storage.location}, column_name={self._name})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def __str__(self) -> str:
        self._alive()
        lines = [
            ("Column Name", self.column),
            ("Writeable", self.iswriteable),
            ("Column Type", self.column_type),
            ("Column Layout", self.column_layout),
            ("Schema Type", self.schema_type),
            ("DType", getattr(self.dtype, "name", None) or self.dtype.__name__),
            ("Shape", self.shape),
            ("Number of Samples", len(self)),
            ("Partial Remote Data Refs", self.contains_remote_references),
        ]
        return f"Hangar {type(self).__qualname__}" + "".join(f"\n    {name:<24} : {value}" for name, value in lines)

    @property
    def _entry(self) -> ColumnEntry:
        return self._entry_at_open

    def _check(self, key: Any) -> KeyType:
        try:
            return check_key(key)
        except InvalidNameError as error:
            raise SampleNotFoundError(f"column {self._name!r}: {error}") from None

    def _find(self, key: KeyType) -> Found | None:
        try:
            return self._nodes.find(self._entry.root, self._entry.schema, key)
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"column {self._name!r}, record of sample {key!r}: {error}") from error

    def _iterate(self) -> Iterator[tuple[KeyType, Found]]:
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

    def _items(self, local: bool) -> Iterator[tuple[KeyType, Any]]:
        waiting: list[tuple[KeyType, Found]] = []
        for key, found in self._iterate():
            if not local or self._is_local(found):
                waiting.append((key, found))
            if len(waiting) >= _READ_AHEAD:
                yield from self._read(waiting)
                waiting = []
        yield from self._read(waiting)

    def _any_leaf_is_remote(self, most_leaves: int | None) -> bool:
        """Looks without fetching: a leaf that is not here counts as remote."""
        schema = self._entry.schema
        for ref in islice(self._nodes.local_leaves(self._entry.root, schema), most_leaves):
            if ref is None:
                return True
            leaf = self._nodes.leaf(ref, schema)
            if all(self._packs.is_whole(pack) for pack in leaf.packs()):
                continue
            if any(not self._is_local(leaf.row(i)) for i in range(len(leaf))):
                return True
        return False

    def _read(self, waiting: Sequence[tuple[KeyType, Found]]) -> Iterator[tuple[KeyType, Any]]:
        payloads = self._payloads([key for key, _ in waiting], [found for _, found in waiting])
        for (key, found), data in zip(waiting, payloads, strict=True):
            yield key, self._decode(key, data, found.shape)

    def _value(self, key: KeyType, found: Found) -> SampleValue:
        if isinstance(found, Payload):
            return self._entry.schema.decode(found.data, found.shape)
        if found.value is not None:
            return self._decode(key, found.value, found.shape)
        try:
            data = self._packs.read(self._packed(found))
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"column {self._name!r}, sample {key!r}: {error}") from error
        return self._decode(key, data, found.shape)

    def _decode(self, key: KeyType, data: bytes | memoryview, shape: tuple[int, ...] | None) -> SampleValue:
        try:
            return self._entry.schema.decode(data, shape)
        except CorruptDataError as error:
            raise CorruptDataError(f"column {self._name!r}, sample {key!r}: {error}") from error

    def _payloads(self, keys: Sequence[KeyType], founds: Sequence[Found]) -> list[bytes | memoryview]:
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
        try:
            datas = self._packs.read_many(samples)
        except (CorruptDataError, DataNotLocalError):
            # Read one by one, so that the message names the sample that fails.
            datas = [self._read_one(keys[i], sample) for i, sample in zip(packed, samples, strict=True)]
        for i, data in zip(packed, datas, strict=True):
            result[i] = data
        return result

    def _read_one(self, key: KeyType, sample: PackedSample) -> memoryview:
        try:
            return self._packs.read(sample)
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"column {self._name!r}, sample {key!r}: {error}") from error

    def _packed(self, row: Row) -> PackedSample:
        assert row.place is not None
        return PackedSample(row.place, row.identity[1:], self._entry.schema.prefix(row.shape))

    def _is_local(self, found: Found) -> bool:
        if isinstance(found, Payload) or found.place is None:
            return True
        return self._packs.is_local(self._packed(found))


def _reopen(storage: Storage, commit: str, name: str, entry: ColumnEntry) -> FlatSampleReader:
    """The reader of a column in another process, from its pickle."""
    return FlatSampleReader(name, storage, commit, entry, Alive())
