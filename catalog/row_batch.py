"""Rows of one column, held in columns and made into `Row` one by one only where somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.catalog.keys import RowKey, encode_key
from hangar_cloud.catalog.place_table import Places
from hangar_cloud.catalog.records import Row

Shape = tuple[int, ...]
Changes = Sequence[tuple[bytes, Row | None]]
"""Changed rows by encoded key, in key order; None where a sample is deleted."""


class RowBatch(Sequence[tuple[RowKey, Row]]):
    """Rows with their keys, each key once. Never changed once it is made.

    Args:
        keys: of the rows.
        identities: of each row what history hashes.
        packed: which rows have a place, the others have a value; None if all of them have.
        places: of the packed rows, in their order.
        values: of each row the value that stands in it, None where it is packed; None if all are.
        shapes: of each row, where they vary; else None.
    """

    def __init__(
        self,
        keys: Sequence[RowKey],
        identities: Sequence[bytes],
        packed: npt.NDArray[np.bool_] | None,
        places: Places | None,
        values: Sequence[bytes | None] | None,
        shapes: Sequence[Shape | None] | None,
    ) -> None:
        # Not `keys`: `dict.update` would take the batch for a mapping.
        self.row_keys = keys
        self.identities = identities
        self.places = places
        self.values = values
        self.shapes = shapes
        self.packed = packed
        self._position: npt.NDArray[np.int64] | None = None

    @lazy_property
    def key_numbers(self) -> npt.NDArray[np.int64] | None:
        """The keys as numbers; None unless all are."""
        return np.array(self.row_keys, np.int64) if are_numbers(self.row_keys) else None

    @property
    def alike(self) -> bool:
        """Whether all rows are packed, or none is."""
        return self.places is None or self.packed is None

    def __len__(self) -> int:
        return len(self.row_keys)

    @overload
    def __getitem__(self, i: int) -> tuple[RowKey, Row]: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[tuple[RowKey, Row]]: ...
    def __getitem__(self, i: int | slice) -> Any:
        if isinstance(i, slice):
            return [(self.row_keys[n], self.row(n)) for n in range(*i.indices(len(self)))]
        return self.row_keys[i], self.row(i)

    def __iter__(self) -> Iterator[tuple[RowKey, Row]]:
        return zip(self.row_keys, self.rows(), strict=True)

    def row(self, i: int) -> Row:
        """Row number i."""
        shape = None if self.shapes is None else self.shapes[i]
        if self.places is None or (self.packed is not None and not self.packed[i]):
            assert self.values is not None
            return Row(self.identities[i], None, self.values[i], shape)
        if self.packed is not None and self._position is None:
            self._position = np.cumsum(self.packed) - 1
        place = self.places.one(i if self._position is None else int(self._position[i]))
        return Row(self.identities[i], place, None, shape)

    def rows(self) -> Iterator[Row]:
        """All rows, in their order."""
        places = iter(()) if self.places is None else self.places.all()
        packed = self._each_packed()
        values = [None] * len(self) if self.values is None else self.values
        shapes = [None] * len(self) if self.shapes is None else self.shapes
        for identity, there, value, shape in zip(self.identities, packed, values, shapes, strict=True):
            yield Row(identity, next(places), None, shape) if there else Row(identity, None, value, shape)

    def take(self, order: Sequence[int]) -> RowBatch:
        """Some of the rows, in another order."""
        packed, places = self.packed, self.places
        rows: Any = np.asarray(order, np.int64)
        if places is not None:
            if packed is not None:
                position = np.cumsum(packed) - 1
                places = places.take(position[rows[packed[rows]]])
                packed = packed[rows]
            else:
                places = places.take(rows)
        return RowBatch(
            [self.row_keys[i] for i in order],
            _taken(self.identities, order),
            packed,
            places,
            None if self.values is None else _taken(self.values, order),
            None if self.shapes is None else [self.shapes[i] for i in order],
        )

    def part(self, start: int, stop: int) -> RowBatch:
        """The rows from one number to below another."""
        here, packed, places = slice(start, stop), self.packed, self.places
        if places is not None and packed is not None:
            before, inside = (int(np.count_nonzero(packed[some])) for some in (slice(start), here))
            places, packed = places.take(slice(before, before + inside)), packed[here]
            if not inside:
                places = packed = None
            elif inside == stop - start:
                packed = None
        elif places is not None:
            places = places.take(here)
        part = RowBatch(
            self.row_keys[here],
            self.identities[here],
            packed,
            places,
            None if self.values is None or (places is not None and packed is None) else self.values[here],
            None if self.shapes is None else self.shapes[here],
        )
        if self.key_numbers is not None:
            part.key_numbers = self.key_numbers[here]
        return part

    def with_packs(self, rename: Callable[[bytes], bytes]) -> RowBatch:
        """The same rows, in packs of other names."""
        if self.places is None:
            return self
        used = self.places.used()
        places = self.places._replace(packs=[rename(pack) if pack in used else pack for pack in self.places.packs])
        return RowBatch(self.row_keys, self.identities, self.packed, places, self.values, self.shapes)

    @staticmethod
    def of(rows: Sequence[tuple[RowKey, Row]]) -> RowBatch:
        """A batch of single rows."""
        packed = np.array([row.place is not None for _, row in rows], np.bool_)
        places = [row.place for _, row in rows if row.place is not None]
        return RowBatch(
            [key for key, _ in rows],
            [row.identity for _, row in rows],
            packed if places and not packed.all() else None,
            Places.of(places) if places else None,
            None if packed.all() else [row.value for _, row in rows],
            None if all(row.shape is None for _, row in rows) else [row.shape for _, row in rows],
        )

    @staticmethod
    def joined(parts: Sequence[RowBatch]) -> RowBatch:
        """The rows of several batches of one column; their keys differ."""
        if len(parts) == 1:
            return parts[0]
        places = [part.places for part in parts if part.places is not None]
        packed = None
        if places and any(not part.alike or part.places is None for part in parts):
            packed = np.array([there for part in parts for there in part._each_packed()], np.bool_)
        values = None if all(part.values is None for part in parts) else _flat(parts, lambda part: part.values)
        shapes = None if all(part.shapes is None for part in parts) else _flat(parts, lambda part: part.shapes)
        return RowBatch(
            [key for part in parts for key in part.row_keys],
            ByteRows.joined([part.identities for part in parts]),
            packed,
            Places.joined(places) if places else None,
            values,
            shapes,
        )

    def _each_packed(self) -> Iterable[bool]:
        if self.places is None:
            return [False] * len(self)
        return [True] * len(self) if self.packed is None else self.packed.tolist()


class SortedRows(Sequence[tuple[bytes, Row]]):
    """The rows of a batch by encoded key, in key order: what changes a record tree."""

    def __init__(self, batch: RowBatch) -> None:
        numbers = batch.key_numbers
        self.encoded: Sequence[bytes]
        if numbers is not None:
            if not bool((numbers[1:] > numbers[:-1]).all()):
                batch, numbers = batch.take(np.argsort(numbers, kind="stable").tolist()), np.sort(numbers)
            self.batch, self.encoded = batch, encode_numbers(numbers)
            return
        encoded = encode_keys(batch.row_keys)
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        self.batch, self.encoded = batch.take(order), [encoded[i] for i in order]

    def __len__(self) -> int:
        return len(self.encoded)

    @overload
    def __getitem__(self, i: int) -> tuple[bytes, Row]: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[tuple[bytes, Row]]: ...
    def __getitem__(self, i: int | slice) -> Any:
        if isinstance(i, slice):
            return [(self.encoded[n], self.batch.row(n)) for n in range(*i.indices(len(self)))]
        return self.encoded[i], self.batch.row(i)

    def __iter__(self) -> Iterator[tuple[bytes, Row]]:
        return zip(self.encoded, self.batch.rows(), strict=True)

    def with_packs(self, rename: Callable[[bytes], bytes]) -> SortedRows:
        """The same rows, in packs of other names."""
        other = object.__new__(SortedRows)
        other.encoded, other.batch = self.encoded, self.batch.with_packs(rename)
        return other


def encode_keys(keys: Sequence[RowKey]) -> Sequence[bytes]:
    """What `encode_key` gives for each."""
    return encode_numbers(np.array(keys, np.int64)) if are_numbers(keys) else [encode_key(key) for key in keys]


def encode_numbers(numbers: npt.NDArray[np.int64]) -> ByteRows:
    """What `encode_key` gives for each of these keys."""
    encoded = np.empty((len(numbers), 9), np.uint8)
    encoded[:, 0] = 1
    encoded[:, 1:] = numbers.astype(">i8").view(np.uint8).reshape(-1, 8)
    return ByteRows(encoded.tobytes(), 9)


def are_numbers(keys: Iterable[Any]) -> bool:
    """Whether all of these are whole numbers."""
    return set(map(type, keys)) == {int}


def _taken(rows: Sequence[Any], order: Sequence[int]) -> Sequence[Any]:
    return rows.take(order) if isinstance(rows, ByteRows) else [rows[i] for i in order]


def _flat(parts: Sequence[RowBatch], of: Callable[[RowBatch], Sequence[Any] | None]) -> Sequence[Any]:
    columns = [of(part) for part in parts]
    if all(isinstance(column, ByteRows) for column in columns):
        return ByteRows.joined([column for column in columns if column is not None])
    return [item for part in parts for item in (of(part) or [None] * len(part))]
