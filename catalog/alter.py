"""What another schema means for the rows of a column: which stay, which get another record, which other bytes.

A row that holds the same value under both schemas keeps its bytes where they are. Its record changes only
where a shape comes or goes. Another dtype gives other bytes, so its values are written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.values import LITERAL_LIMIT, identity_digest, sample_identity
from hangar_cloud.catalog.casting import always_exact, cast_exact
from hangar_cloud.catalog.errors import InvalidSchemaError
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema, Payload

ReadMany = Callable[[Sequence[PackedSample]], Sequence["memoryview | bytes"]]
KeyedRow = tuple[RowKey, Row]

_CHUNK_BYTES: Final = 16 * 1024 * 1024
_CHUNK_ROWS: Final = 8_192


class Altering:
    """One change of a column's schema.

    Args:
        name: of the column.
        old: its schema.
        new: the schema it is to have; of the same type, layout and rank.
        read: reads packed samples.
    """

    def __init__(self, name: str, old: ColumnSchema, new: ColumnSchema, read: ReadMany) -> None:
        self._name = name
        self._old = old
        self._new = new
        self._read = read
        self._rank = len(new.shape or ())

    @property
    def keeps_rows(self) -> bool:
        """True if every row stays as it is, because only the maximum of the shapes changes."""
        return self._same_dtype and self._old.schema_type == self._new.schema_type == "variable_shape"

    def check(self, rows: Iterable[KeyedRow]) -> None:
        """Find out whether every row fits, where that can be known without writing any.

        Raises:
            InvalidSchemaError: a value does not fit; says which.
        """
        values_matter = not always_exact(self._old.numpy_dtype, self._new.numpy_dtype)
        if not values_matter and self._takes_all_shapes():
            return
        for chunk in self._chunks(rows):
            for key, row in chunk:
                self._check_shape(key, row)
            if values_matter:
                self._cast(chunk)

    def convert(self, rows: Iterable[KeyedRow]) -> Iterator[tuple[list[KeyedRow], list[tuple[RowKey, Payload]]]]:
        """For every chunk of rows, rows of the new schema and, where their bytes change, payloads to be written.

        Raises:
            InvalidSchemaError: a value does not fit; says which.
        """
        for chunk in self._chunks(rows):
            for key, row in chunk:
                self._check_shape(key, row)
            if self._same_dtype:
                yield self._reshaped(chunk), []
            else:
                yield [], self._cast(chunk)

    @property
    def _same_dtype(self) -> bool:
        return self._old.dtype == self._new.dtype

    def _takes_all_shapes(self) -> bool:
        if self._new.schema_type == "fixed_shape":
            return self._old.schema_type == "fixed_shape" and self._old.shape == self._new.shape
        return all(n <= most for n, most in zip(self._old.shape or (), self._new.shape or (), strict=True))

    def _chunks(self, rows: Iterable[KeyedRow]) -> Iterator[list[KeyedRow]]:
        chunk: list[KeyedRow] = []
        size = 0
        for key, row in rows:
            chunk.append((key, row))
            size += _size(row)
            if size >= _CHUNK_BYTES or len(chunk) >= _CHUNK_ROWS:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def _shape(self, row: Row) -> tuple[int, ...]:
        return (self._old.shape or ()) if row.shape is None else row.shape

    def _check_shape(self, key: RowKey, row: Row) -> None:
        shape, wanted = self._shape(row), self._new.shape or ()
        if self._new.schema_type == "fixed_shape":
            if shape != wanted:
                raise self._refusal(key, f"has shape {shape}, and every sample would have to have {wanted}")
        elif any(n > most for n, most in zip(shape, wanted, strict=True)):
            raise self._refusal(key, f"has shape {shape}, more than the maximum {wanted}")

    def _refusal(self, key: RowKey, why: str) -> InvalidSchemaError:
        return InvalidSchemaError(
            f"column {self._name!r} cannot be altered to {describe(self._new)}: {_row_name(key)} {why}. "
            "Nothing was changed"
        )

    def _reshaped(self, chunk: list[KeyedRow]) -> list[KeyedRow]:
        """The rows with a shape where it varies now, or without; their bytes stay where they are."""
        variable = self._new.schema_type == "variable_shape"
        moved = [(key, row) for key, row in chunk if row.place is not None and self._is_literal(row)]
        datas = dict(zip((key for key, _ in moved), self._payloads(moved), strict=True))
        made = []
        for key, row in chunk:
            shape = self._shape(row) if variable else None
            if identity_digest(row.identity) is not None and not self._is_literal(row):
                made.append((key, row._replace(shape=shape)))
                continue
            data = bytes(datas[key]) if row.value is None else row.value
            identity = sample_identity(self._new.prefix(shape), data, shape)
            made.append((key, Row(identity, None, data, shape)))
        return made

    def _is_literal(self, row: Row) -> bool:
        """Whether a row's value will stand for itself under the new schema (see `sample_identity`)."""
        dimensions = 8 * self._rank if self._new.schema_type == "variable_shape" else 0
        return _size(row) + dimensions <= LITERAL_LIMIT

    def _cast(self, chunk: list[KeyedRow]) -> list[tuple[RowKey, Payload]]:
        """The payloads of the same numbers in the new dtype."""
        old, new = self._old.numpy_dtype, self._new.numpy_dtype
        datas = self._payloads(chunk)
        for (key, row), data in zip(chunk, datas, strict=True):
            if len(data) != int(np.prod(self._shape(row), dtype=np.int64)) * old.itemsize:
                raise CorruptDataError(f"column {self._name!r}, {_row_name(key)}: {len(data)} bytes are not one sample")
        values = np.frombuffer(b"".join(datas), old)
        cast, exact = cast_exact(values, new)
        ends = np.cumsum([len(data) // old.itemsize for data in datas])
        if not exact.all():
            i = int(np.argmin(exact))
            key = chunk[int(np.searchsorted(ends, i, side="right"))][0]
            raise self._refusal(key, f"holds {values[i]!s}, which {new.name} cannot hold as exactly")
        made = []
        raw = cast.tobytes()
        start = 0
        for (key, row), end in zip(chunk, ends.tolist(), strict=True):
            shape = self._shape(row) if self._new.schema_type == "variable_shape" else None
            data = raw[start * new.itemsize : end * new.itemsize]
            made.append((key, Payload(self._new.prefix(shape), data, shape)))
            start = end
        return made

    def _payloads(self, chunk: list[KeyedRow]) -> list[bytes | memoryview]:
        packed = [
            PackedSample(row.place, row.identity[1:], self._old.prefix(row.shape))
            for _, row in chunk
            if row.place is not None
        ]
        read = iter(self._read(packed) if packed else ())
        return [next(read) if row.value is None else row.value for _, row in chunk]


def describe(schema: ColumnSchema) -> str:
    """A schema in words."""
    varying = " at most, variable" if schema.schema_type == "variable_shape" else ""
    return f"{schema.numpy_dtype.name} ({schema.dtype}) of shape {schema.shape}{varying}"


def _row_name(key: RowKey) -> str:
    return f"sample {key[0]!r}, subsample {key[1]!r}" if isinstance(key, tuple) else f"sample {key!r}"


def _size(row: Row) -> int:
    return row.place.size if row.place is not None else len(row.value or b"")
