"""What a reader of whole datasets gives, and what all writers of them share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.keys import KeyType, RowKey, encode_key
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.tombstones import tombstone_digest
from hangar_cloud.errors import CorruptDataError, UnreadableFileError, UnsupportedFormatError
from hangar_cloud.external.file_names import parse_tagged, tagged

FORMAT_VERSION: Final = 1
_READ_BYTES: Final = 16 * 1024 * 1024
_MOST_ROWS: Final = 256
Wants = Callable[[str, RowKey], bool]
"""Whether a sample of a column has to be read; else it is there already."""


class Sample(NamedTuple):
    """One value of a dataset.

    Attributes:
        column: its column.
        key: of the row: a pair in a nested column.
        value: an array, str or bytes; or the error that says why there is none.
        source: what a report calls it.
    """

    column: str
    key: RowKey
    value: Any
    source: str


class DatasetReader(Protocol):
    """A dataset of another tool, or one that was exported from here."""

    metadata: dict[KeyType, str]
    """Texts about the dataset as a whole."""
    unreadable: dict[str, str]
    """After `schemas`: what it has no column for, since nothing in it can be read, each with the reason."""

    def schemas(self) -> dict[str, ColumnSchema]:
        """Its columns. May read much of it: how large the largest image is, is said nowhere."""
        ...

    def samples(self, columns: list[str], wants: Wants) -> Iterator[Sample]:
        """The samples of some columns that are wanted, in the order in which they lie there."""
        ...


@dataclass(frozen=True)
class DatasetNote:
    """What an export says of itself in the format's own notes, so that an import makes the same columns again.

    Attributes:
        columns: the schema of each column.
        metadata: the metadata of the checkout.
        details: what else a format notes.
    """

    columns: dict[str, ColumnSchema]
    metadata: dict[KeyType, str]
    details: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The form in which it is written."""
        columns = {name: schema.to_json() for name, schema in self.columns.items()}
        metadata = {tagged(key): text for key, text in self.metadata.items()}
        return {"version": FORMAT_VERSION, "columns": columns, "metadata": metadata, "details": self.details}

    @staticmethod
    def from_json(data: Any, where: str) -> DatasetNote:
        """The inverse. Raises UnreadableFileError where it is none, or of a later version."""
        try:
            version = int(data["version"])
            if version == FORMAT_VERSION:
                columns = {str(name): ColumnSchema.from_json(one) for name, one in data["columns"].items()}
                metadata = {parse_tagged(str(key)): str(text) for key, text in data["metadata"].items()}
                return DatasetNote(columns, metadata, dict(data["details"]))
        except (KeyError, TypeError, ValueError, AttributeError, CorruptDataError, UnsupportedFormatError) as error:
            raise UnreadableFileError(f"{where}: what the export says of itself is damaged: {error}") from error
        raise UnreadableFileError(f"{where}: it was exported by a later version ({version}); upgrade hangar-cloud")


def note_of(checkout: Any, columns: list[str], **details: Any) -> DatasetNote:
    """The note of an export of some columns of a checkout."""
    schemas = {name: checkout[name]._entry.schema for name in columns}
    return DatasetNote(schemas, dict(checkout.metadata.items()), details)


def rows_of(column: Any) -> Iterator[RowKey]:
    """The keys of all values of a column that can be read, in order: pairs in a nested one; see `warn_of_purged`."""
    purged = column._storage.purged.digests()
    if not purged:
        return (key for key, _ in column._iterate())
    return (key for key, found in column._iterate() if not _is_in(purged, key, found))


def warn_of_purged(columns: Iterable[Any]) -> None:
    """Tell how many samples of some columns an export leaves out since they were purged.

    One sample that nobody may have, and that nobody can bring back, must not keep all others from being exported.
    """
    count = 0
    for column in columns:
        purged = column._storage.purged.digests()
        count += sum(_is_in(purged, key, found) for key, found in column._iterate()) if purged else 0
    if count:
        samples = f"{count:,} purged sample{' is' if count == 1 else 's are'}"
        warnings.warn(f"{samples} left out: nobody has the bytes any more", UserWarning, stacklevel=3)


def _is_in(purged: set[bytes], key: RowKey, found: Any) -> bool:
    # What is staged has no identity yet; a purged sample cannot be staged.
    identity = getattr(found, "identity", None)
    return identity is not None and tombstone_digest(encode_key(key), identity) in purged


def samples_of(column: Any) -> Iterator[tuple[KeyType, list[RowKey]]]:
    """The sample keys of a column, each with the keys of its values: itself, or pairs in a nested column."""
    if not column.contains_subsamples:
        return ((key, [key]) for key in rows_of(column))  # type: ignore[misc]
    return ((key, list(pairs)) for key, pairs in groupby(rows_of(column), key=lambda pair: pair[0]))  # type: ignore[index]


def by_sample(columns: Mapping[str, Any]) -> Iterator[tuple[KeyType, dict[str, list[RowKey]]]]:
    """Each sample key of several columns, in order, with the keys of its values in those columns that have it."""

    def rows(name: str) -> Iterator[tuple[bytes, str, KeyType, list[RowKey]]]:
        return ((encode_key(key), name, key, rows) for key, rows in samples_of(columns[name]))

    merged = merge(*(rows(name) for name in columns), key=lambda one: one[:2])
    for _, group in groupby(merged, key=lambda one: one[0]):
        found = list(group)
        yield found[0][2], {name: rows for _, name, _, rows in found}


def keys_of(columns: Mapping[str, Any]) -> Iterator[KeyType]:
    """Every sample key of several columns; one that is in several of them comes several times."""
    return (key for column in columns.values() for key in column)


def subkeys_of(column: Any) -> Iterator[KeyType]:
    """Every subsample key of a nested column; one that is in several samples comes several times."""
    return (row[1] for row in rows_of(column) if isinstance(row, tuple))


class SeenKeys:
    """Finds keys that come twice. Hashes are kept in place of the keys: some 60 bytes for each."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def is_first(self, key: KeyType) -> bool:
        """Whether a key comes for the first time."""
        before = len(self._hashes)
        self._hashes.add(hash((type(key), key)))
        return len(self._hashes) > before


class ReadAhead:
    """How many rows to read at once, so that they take some megabytes however large they are."""

    def __init__(self) -> None:
        self.rows = 1

    def learn(self, rows: int, size: int) -> None:
        """Take into account that `rows` rows took `size` bytes."""
        fitting = _READ_BYTES * rows // max(size, 1)
        # Those that follow may be larger than those before.
        self.rows = max(1, min(fitting, 2 * self.rows, _MOST_ROWS))


def values_of(column: Any, keys: Iterable[RowKey]) -> Iterator[tuple[RowKey, Any]]:
    """Keys and values of a column, read some megabytes at a time."""
    ahead = ReadAhead()
    rest = iter(keys)
    while some := list(islice(rest, ahead.rows)):
        values = column._read_all(some)
        ahead.learn(len(some), sum(map(size_of, values)))
        yield from zip(some, values, strict=True)


def size_of(value: Any) -> int:
    """Bytes of a value, about."""
    return value.nbytes if isinstance(value, np.ndarray) else len(value)


def to_native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers in this machine's byte order; the bits of each stay."""
    if values.dtype.isnative:
        return values
    return values.byteswap().view(values.dtype.newbyteorder("="))


def from_native(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The inverse, for a dtype of either byte order."""
    if dtype.isnative:
        return values
    return values.byteswap().view(dtype)
