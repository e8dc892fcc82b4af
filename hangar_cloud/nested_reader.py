"""Reading one nested column: samples that are sets of subsamples with keys of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from types import EllipsisType
from typing import Any, Final, cast

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.keys import KeyType, RowKey, check_key, key_range
from hangar_cloud.catalog.working_set import Found
from hangar_cloud.column import ColumnReader, as_table
from hangar_cloud.errors import SampleNotFoundError
from hangar_cloud.notebook import facts_table, pictures_of

Pair = tuple[KeyType, KeyType]
SubsampleIndex = KeyType | EllipsisType | slice
NOT_COUNTED: Final = "not counted: some records are not on this machine"


class NestedSampleReader(ColumnReader):
    """A nested column of one commit: a mapping from sample keys to `FlatSubsampleReader`, read-only.

    ``column[sample, subsample]`` is one value, ``column[sample, ...]`` a dict of all of a sample's. A sample is there
    as long as it has a subsample: there are no empty samples.
    """

    _may_read_warm = True

    def __getitem__(self, key: Any) -> Any:
        """The accessor of a sample; or of a pair (sample, subsample) the value.

        Instead of the subsample ``...`` or a slice may stand, for a dict of all or some subsamples.

        Raises:
            KeyError: no such sample or subsample.
            CorruptDataError: the stored bytes are damaged.
            FileNotFoundError: not on this machine, and the repository is offline.
        """
        self._alive()
        quickly = self._one
        if quickly is not None and type(key) is tuple:
            value = quickly(key)
            if value is not None:
                return value
        if isinstance(key, tuple) and len(key) == 1:
            key = key[0]
        if not isinstance(key, tuple):
            return self._sample(self._existing(key))
        if len(key) == 2 and (key[1] is ... or isinstance(key[1], slice)):
            return self[key[0]][key[1]]
        pair = self._row_key(key)
        warm = self._warm
        if warm is not None:
            value = warm.checked(pair)
            if value is not None:
                return value
        found = self._find(pair)
        if found is None:
            raise self._absent(pair)
        value = self._value(pair, found)
        if warm is not None:
            self._learned(warm, [pair])
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """As indexing, with `default` where there is no such sample or subsample."""
        self._alive()
        try:
            return self[key]
        except SampleNotFoundError:
            return default

    def __contains__(self, key: object) -> bool:
        """True if there is a sample of that key; or of a pair, if the sample has that subsample."""
        self._alive()
        try:
            if isinstance(key, tuple) and len(key) == 1:
                key = key[0]
            if isinstance(key, tuple):
                return self._find(self._row_key(key)) is not None
            return self._count_below(check_key(key)) > 0
        except (InvalidNameError, SampleNotFoundError):
            return False

    def __len__(self) -> int:
        """Number of samples; `num_subsamples` counts their subsamples."""
        self._alive()
        return sum(1 for _ in self._samples())

    def __iter__(self) -> Iterator[KeyType]:
        """Sample keys in order: numbers by value, then text."""
        return self.keys()

    def keys(self, local: bool = False) -> Iterator[KeyType]:
        """Sample keys in order; with `local` only samples all of whose values are on this machine."""
        self._alive()
        if not local:
            return self._living(self._samples())
        return (sample for sample, here in self._whether_here() if here)

    def values(self, local: bool = False) -> Iterator[Any]:
        """The accessors of the samples, in key order; `local` as in `keys`."""
        return (sample for _, sample in self.items(local))

    def items(self, local: bool = False) -> Iterator[tuple[KeyType, Any]]:
        """Sample keys and accessors, in key order; `local` as in `keys`."""
        return ((sample, self._sample(sample)) for sample in self.keys(local))

    @property
    def num_subsamples(self) -> int:
        """Number of subsamples in all samples."""
        self._alive()
        return self._count()

    @property
    def remote_reference_keys(self) -> tuple[KeyType, ...]:
        """Keys of the samples of which any value is not on this machine."""
        self._alive()
        return tuple(sample for sample, here in self._whether_here() if not here)

    def _sizes(self) -> list[tuple[str, object]]:
        # Counting the samples reads their records.
        samples = len(self) if self._holds_records() else NOT_COUNTED
        return [("Number of Samples", samples), ("Number of Subsamples", self.num_subsamples)]

    def _holds_records(self, low: bytes = b"", high: bytes | None = None) -> bool:
        """Whether all records, or those from encoded key `low` to below `high`, are on this machine."""
        if self._storage.holds_everything:
            return True
        entry = self._entry
        return all(ref is not None for ref in self._nodes.local_leaves(entry.root, entry.schema, low, high))

    def _row_key(self, key: Any) -> Pair:
        if not isinstance(key, (tuple, list)) or len(key) != 2:
            raise SampleNotFoundError(
                f"column {self._name!r} is nested: its values have keys (sample, subsample); this is not one: {key!r}"
            )
        sample = self._check(key[0])
        return sample, self._check(key[1], f", sample {sample!r}, subsample")

    def _existing(self, key: Any) -> KeyType:
        sample = self._check(key)
        if self._count_below(sample) == 0:
            raise SampleNotFoundError(f"column {self._name!r} has no sample {sample!r}")
        return sample

    def _absent(self, key: RowKey) -> SampleNotFoundError:
        if isinstance(key, tuple) and self._count_below(key[0]) > 0:
            return SampleNotFoundError(f"column {self._name!r}, sample {key[0]!r} has no subsample {key[1]!r}")
        return super()._absent(key[0] if isinstance(key, tuple) else key)

    def _sample(self, sample: KeyType) -> FlatSubsampleReader:
        return FlatSubsampleReader(self, sample)

    def _samples(self) -> Iterator[KeyType]:
        try:
            yield from self._nodes.samples(self._entry.root, self._entry.schema)
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"column {self._name!r}, its records: {error}") from error

    def _living(self, samples: Iterator[KeyType]) -> Iterator[KeyType]:
        for sample in samples:
            self._alive()
            yield sample

    def _count_below(self, sample: KeyType) -> int:
        """Number of subsamples of a sample, 0 where there is none."""
        try:
            return self._nodes.count_between(self._entry.root, self._entry.schema, *key_range(sample))
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"column {self._name!r}, sample {sample!r}: its records: {error}") from error

    def _below(self, sample: KeyType) -> Iterator[tuple[Pair, Found]]:
        """The rows of a sample, in key order."""
        entry = self._entry
        try:
            for key, row in self._nodes.range(entry.root, entry.schema, *key_range(sample)):
                self._alive()
                yield cast("Pair", key), row
        except (CorruptDataError, DataNotLocalError) as error:
            raise type(error)(f"column {self._name!r}, sample {sample!r}: its records: {error}") from error

    def _whether_here(self) -> Iterator[tuple[KeyType, bool]]:
        """Samples, and whether all of their values are on this machine."""
        rows = cast("Iterator[tuple[Pair, Found]]", self._iterate())
        for sample, below in groupby(rows, lambda row: row[0][0]):
            yield sample, all(self._is_local(found) for _, found in below)


class FlatSubsampleReader:
    """One sample of a nested column: a mapping from subsample keys to values, read-only.

    In a writer the accessor of a sample that was removed, or lost its last subsample, raises KeyError when
    it is used; it works again once the sample is back.
    """

    def __init__(self, column: NestedSampleReader, sample: KeyType) -> None:
        self._parent = column
        self._name = sample

    def __getitem__(self, key: SubsampleIndex) -> Any:
        """The value of a subsample; ``[...]`` and slices give dicts.

        A slice counts subsamples in key order: ``[:]`` is all of them, ``[0:5]`` the first five.

        Raises:
            KeyError: no such subsample.
            CorruptDataError: the stored bytes are damaged.
            FileNotFoundError: not on this machine, and the repository is offline.
        """
        self._check()
        if key is ... or (isinstance(key, slice) and key == slice(None)):
            return self.data
        if isinstance(key, slice):
            pairs = [pair for pair, _ in self._rows()][_checked(key)]
            return dict(zip((sub for _, sub in pairs), self._parent._read_all(pairs), strict=True))
        return self._parent[self._name, key]

    def read_slice(self, key: KeyType, index: Any) -> Any:
        """A box of the array of a subsample; see `ColumnReader.read_slice`."""
        self._check()
        return self._parent.read_slice((self._name, key), index)

    def get(self, key: SubsampleIndex, default: Any = None) -> Any:
        """As indexing, with `default` where there is no such subsample."""
        self._check()
        try:
            return self[key]
        except SampleNotFoundError:
            return default

    def __contains__(self, key: object) -> bool:
        """True if the sample has a subsample of that key."""
        self._check()
        return (self._name, key) in self._parent

    def __len__(self) -> int:
        """Number of subsamples."""
        self._check()
        return self._parent._count_below(self._name)

    def __iter__(self) -> Iterator[KeyType]:
        """Subsample keys in order: numbers by value, then text."""
        return self.keys()

    def keys(self, local: bool = False) -> Iterator[KeyType]:
        """Subsample keys in order; with `local` only those whose value is on this machine."""
        self._check()
        return (sub for (_, sub), found in self._rows() if not local or self._parent._is_local(found))

    def values(self, local: bool = False) -> Iterator[Any]:
        """Values in key order; with `local` only those on this machine."""
        return (value for _, value in self.items(local))

    def items(self, local: bool = False) -> Iterator[tuple[KeyType, Any]]:
        """Subsample keys and values in key order; with `local` only those on this machine.

        What has to be fetched is fetched some hundred values at a time.
        """
        self._check()
        return ((sub, value) for (_, sub), value in self._parent._read_ahead(self._rows(), local))

    @property
    def data(self) -> dict[KeyType, Any]:
        """All subsample keys and values."""
        return dict(self.items())

    @property
    def sample(self) -> KeyType:
        """Key of the sample."""
        self._check()
        return self._name

    @property
    def column(self) -> str:
        """Name of the column."""
        self._check()
        return self._parent.column

    @property
    def iswriteable(self) -> bool:
        """True in a checkout for writing."""
        self._check()
        return self._parent.iswriteable

    @property
    def remote_reference_keys(self) -> tuple[KeyType, ...]:
        """Keys of the subsamples whose value is not on this machine."""
        self._check()
        return tuple(sub for (_, sub), found in self._rows() if self._parent._is_remote(found))

    @property
    def contains_remote_references(self) -> bool:
        """True if the value of any subsample is not on this machine."""
        self._check()
        if self._parent._storage.holds_everything:
            return False
        return any(self._parent._is_remote(found) for _, found in self._rows())

    def __enter__(self) -> Any:
        self._check()
        self._parent.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._parent.__exit__(*problem)

    def __reduce__(self) -> tuple[Any, ...]:
        self._check()
        return type(self), (self._parent, self._name)

    def __repr__(self) -> str:
        self._check()
        return f"{type(self).__qualname__}(column_name={self._parent.column!r}, sample_name={self._name!r})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def __str__(self) -> str:
        return as_table(f"Hangar {type(self).__qualname__}", self._facts())

    def _repr_html_(self) -> str:
        """The table that notebooks show; nothing is fetched for it."""
        self._check()
        rows = self._parent._rows_here(*key_range(self._name))
        return facts_table(f"Hangar {type(self).__qualname__}", self._facts(), pictures_of(self._parent, rows))

    def _facts(self) -> list[tuple[str, object]]:
        here = self._parent._holds_records(*key_range(self._name))
        return [
            ("Column Name", self.column),
            ("Sample Name", self.sample),
            ("Writeable", self.iswriteable),
            ("Number of Subsamples", len(self) if here else NOT_COUNTED),
        ]

    def _ipython_key_completions_(self) -> list[KeyType]:
        return list(self.keys())

    def _check(self) -> None:
        """Raises PermissionError after `close()`."""
        self._parent._alive()

    def _rows(self) -> Iterator[tuple[Pair, Found]]:
        return self._parent._below(self._name)


def _checked(part: slice) -> slice:
    try:
        part.indices(0)
    except (TypeError, ValueError) as error:
        raise SampleNotFoundError(f"a slice of subsamples counts them in whole numbers, not {part}: {error}") from None
    return part
