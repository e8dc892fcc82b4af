"""Segments: one node of a record tree as one small, complete Parquet file (no I/O).

`docs/format.md` section "Records" is the normative text. A column that is absent is null in every
row. Floating-point columns are never dictionary-encoded: Arrow's dictionaries take all NaNs, and
both zeros, for one value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.backends.values import sample_identity
from hangar_cloud.catalog.arrow_columns import fixed_width, validity
from hangar_cloud.catalog.keys import MAX_ENCODED_KEY_LENGTH, KeyType, RowKey, decode_key, encode_key
from hangar_cloud.catalog.records import LeafEntry, NodeRef, Row, SegmentPlace
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segment_file import DELTA_COLUMNS, read_segment, write_segment

if TYPE_CHECKING:
    import pyarrow as pa

_TYPED_KINDS: Final = "biuf"
_OBJECT_ID_LENGTH: Final = 16
# Digests of leaves count the bytes of a key in two bytes. Which keys may be is for integrity checks to say.
_MAX_READ_KEY: Final = 30_000


class Leaf:
    """The rows of one leaf, decoded as they are asked for.

    Args:
        table: the leaf's Parquet columns.
        schema: of the column that the leaf belongs to.
    """

    def __init__(self, table: pa.Table, schema: ColumnSchema) -> None:
        self._table = table
        self._schema = schema
        self._names = set(table.column_names)
        self.keys = self._read_keys()

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def positions(self) -> dict[RowKey, int]:
        """The number of each key's row."""
        return {key: i for i, key in enumerate(self.keys)}

    def find(self, key: RowKey) -> Row | None:
        """The row of a key, or None."""
        position = self.positions.get(key)
        return None if position is None else self.row(position)

    def row(self, i: int) -> Row:
        """Row number `i` in key order."""
        shape = tuple(dimension[i] for dimension in self.shapes) if self.shapes else None
        value = self.values[i] if self.values is not None else None
        if value is not None:
            prefix = self._schema.prefix(shape)
            return Row(sample_identity(prefix, value, shape), None, value, shape)
        packed = self.packed
        if packed is None or packed[2][i] < 0:
            raise CorruptDataError(f"the record of sample {self.keys[i]!r} has neither a value nor a place")
        digests, packs, offsets, stored, starts, sizes = packed
        place = Place(packs[i * 16 : i * 16 + 16], offsets[i], stored[i], starts[i], sizes[i])
        return Row(b"\1" + digests[i * 32 : i * 32 + 32], place, None, shape)

    def entries(self) -> list[LeafEntry]:
        """All rows with their encoded keys, in key order."""
        return [(encode_key(key), self.row(i)) for i, key in enumerate(self.keys)]

    def packs(self) -> set[bytes]:
        """Ids of the packs that the leaf's rows refer to."""
        if "pack" not in self._names:
            return set()
        named = self._table.column("pack").unique().to_pylist()
        return {bytes(pack) for pack in named if pack not in (None, NO_PACK)}

    def extents(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """Pack, offset, length, and digest of one of its samples, of each extent that the rows refer to, each once."""
        packed = self.packed
        if packed is None:
            return
        digests, packs, offsets, stored, _, _ = packed
        seen: set[tuple[bytes, int]] = set()
        for i, (offset, length) in enumerate(zip(offsets, stored, strict=True)):
            pack = packs[i * 16 : i * 16 + 16]
            if offset >= 0 and pack != NO_PACK and (pack, offset) not in seen:
                seen.add((pack, offset))
                yield pack, offset, length, digests[i * 32 : i * 32 + 32]

    @property
    def nbytes(self) -> int:
        """An estimate of the memory this leaf takes, in bytes."""
        return int(self._table.nbytes) + 120 * len(self.keys)

    @cached_property
    def encoded_keys(self) -> list[bytes]:
        """The keys in the form that orders them."""
        return [encode_key(key) for key in self.keys]

    def _read_keys(self) -> list[RowKey]:
        keys = self._read_part("key_int", "key_str")
        if self._schema.column_layout == "flat":
            return list(keys)
        return list(zip(keys, self._read_part("sub_int", "sub_str"), strict=True))

    def _read_part(self, number: str, text: str) -> list[KeyType]:
        numbers = self._int_keys(number)
        texts = self._str_keys(text)
        if numbers is None or texts is None:
            keys = texts if numbers is None else numbers
        else:
            keys = [text if number is None else number for number, text in zip(numbers, texts, strict=True)]
        if keys is None or None in keys:
            raise CorruptDataError("a leaf has rows without a key")
        return keys

    def _int_keys(self, name: str) -> list[Any] | None:
        if name not in self._names or self._table.column(name).null_count:
            return self._column(name)
        return self._numbers(name)

    def _str_keys(self, name: str) -> list[Any] | None:
        texts = self._column(name)
        if texts is not None and not "".join(filter(None, texts)).isascii():
            raise CorruptDataError("a leaf has a key that is not ASCII")
        if texts is not None and max(map(len, filter(None, texts)), default=0) > _MAX_READ_KEY:
            raise CorruptDataError(f"a leaf has a key of more than {_MAX_READ_KEY} characters")
        return texts

    def _column(self, name: str) -> list[Any] | None:
        return self._table.column(name).to_pylist() if name in self._names else None

    @cached_property
    def shapes(self) -> list[list[int]]:
        """Each dimension of the rows' shapes; none where the column fixes them."""
        rank = len(self._schema.shape or ()) if self._schema.schema_type == "variable_shape" else 0
        names = [f"shape_{i}" for i in range(rank)]
        if not self._names.issuperset(names):
            raise CorruptDataError("a leaf of a variable-shape column lacks its shapes")
        columns = [self._numbers(name) for name in names]
        if any(min(column) < 1 for column in columns if column):
            raise CorruptDataError("a leaf of a variable-shape column has a shape that no array has")
        return columns

    @cached_property
    def packed(self) -> tuple[bytes, bytes, list[int], list[int], list[int], list[int]] | None:
        """Digests, packs, offsets, stored lengths, starts and sizes, -1 where a row has none; None if none has any."""
        if not {"digest", "pack", "offset", "stored", "start", "size"} <= self._names:
            return None
        columns = [self._table.column(name) for name in ("digest", "pack", "offset", "stored", "start", "size")]
        if any(column.null_count != columns[0].null_count for column in columns) or (
            columns[0].null_count and any(column.is_null() != columns[0].is_null() for column in columns)
        ):
            raise CorruptDataError("a leaf has a sample with a part of a place only")
        return (
            self._fixed_bytes("digest", 32),
            self._fixed_bytes("pack", 16),
            self._numbers("offset"),
            self._numbers("stored"),
            self._numbers("start"),
            self._numbers("size"),
        )

    def _fixed_bytes(self, name: str, width: int) -> bytes:
        return fixed_width(self._table.column(name), f"V{width}").tobytes()

    def _numbers(self, name: str) -> list[int]:
        column = self._table.column(name)
        numbers = fixed_width(column, np.int64)
        if column.null_count:
            numbers = np.where(validity(column), numbers, -1)
        if np.count_nonzero(numbers < 0) != column.null_count:
            raise CorruptDataError(f"a leaf's column {name} holds a negative number")
        return list(numbers.tolist())

    @cached_property
    def values(self) -> list[bytes | None] | None:
        """The payloads that stand in the leaf, None where a row has none; None if no row has any."""
        if "value_bytes" in self._names:
            return self._column("value_bytes")
        if "value" not in self._names:
            return None
        column = self._table.column("value")
        if self._schema.column_type == "str":
            import pyarrow as pa

            return list(column.combine_chunks().view(pa.binary()).to_pylist())
        valid = validity(column).tolist() if column.null_count else None
        width = self._schema.item_size
        raw = self._numbers_in(column).tobytes()
        cut = [raw[i : i + width] for i in range(0, len(raw), width)]
        if valid is None:
            return [*cut]
        return [value if there else None for value, there in zip(cut, valid, strict=True)]

    @property
    def raw_values(self) -> npt.NDArray[np.uint8] | None:
        """The bytes of the values of all rows, one row each; None where they are not all of one length."""
        if "value" not in self._names or "value_bytes" in self._names or self._schema.column_type != "ndarray":
            return None
        return self._numbers_in(self._table.column("value")).view(np.uint8).reshape(len(self), -1)

    @property
    def is_inline(self) -> npt.NDArray[np.bool_]:
        """Of each row whether its value stands in the leaf."""
        for name in ("value_bytes", "value"):
            if name in self._names:
                return validity(self._table.column(name))
        return np.zeros(len(self), np.bool_)

    def _numbers_in(self, column: Any) -> npt.NDArray[Any]:
        numbers = fixed_width(column, self._schema.numpy_dtype)
        return np.where(validity(column), numbers, numbers.dtype.type(0)) if column.null_count else numbers


def encode_leaf(entries: Sequence[LeafEntry], schema: ColumnSchema) -> bytes:
    """A leaf as Parquet bytes; which columns there are depends on the rows alone."""
    import pyarrow as pa

    keys = [decode_key(key) for key, _ in entries]
    rows = [row for _, row in entries]
    columns: dict[str, Any] = {}
    if schema.column_layout == "flat":
        _add_keys(columns, "key", keys)
    else:
        _add_keys(columns, "key", [key[0] for key in keys])  # type: ignore[index]
        _add_keys(columns, "sub", [key[1] for key in keys])  # type: ignore[index]
    if schema.column_type == "ndarray" and schema.schema_type == "variable_shape":
        for i in range(len(schema.shape or ())):
            columns[f"shape_{i}"] = pa.array([row.shape[i] for row in rows if row.shape is not None], pa.int64())
    if any(row.place is not None for row in rows):
        _add_places(columns, rows)
    if any(row.value is not None for row in rows):
        _add_values(columns, [row.value for row in rows], schema)
    return write_segment(pa.table(columns))


def encode_inner(children: Sequence[NodeRef]) -> bytes:
    """An inner node as Parquet bytes, one row a child.

    A child whose place has an empty object id lies in the same object as its parent.
    """
    import pyarrow as pa

    places = [child.place for child in children]
    columns = [
        [child.first for child in children],
        [child.count for child in children],
        [child.digest for child in children],
        *([getattr(place, name) for place in places] for name in SegmentPlace._fields),
    ]
    types = _inner_types()
    return write_segment(
        pa.table({name: pa.array(values, types[name]) for name, values in zip(types, columns, strict=True)})
    )


def decode_leaf(data: bytes | memoryview, schema: ColumnSchema, count: int) -> Leaf:
    """The leaf in Parquet bytes.

    Raises:
        CorruptDataError: it is not a leaf of that many rows.
    """
    import pyarrow as pa

    table = read_segment(data, _leaf_types(schema))
    try:
        leaf = Leaf(table, schema)
    except (pa.ArrowException, ValueError) as error:
        raise CorruptDataError(f"a leaf's keys are not readable: {error}") from error
    if len(leaf) != count:
        raise CorruptDataError(f"a leaf has {len(leaf)} rows where its parent declares {count}")
    return leaf


def decode_inner(data: bytes | memoryview, level: int, container: bytes) -> list[NodeRef]:
    """The children in an inner node's Parquet bytes.

    Args:
        data: the segment.
        level: of the node itself, at least 1.
        container: id of the object that the segment lies in.

    Raises:
        CorruptDataError: it is not an inner node.
    """
    types = _inner_types()
    table = read_segment(data, types)
    if not set(types) <= set(table.column_names) or any(table.column(name).null_count for name in types):
        raise CorruptDataError("an inner node lacks some of its columns or values")
    columns = [table.column(name).to_pylist() for name in types]
    if not columns[0] or min(map(min, (columns[1], columns[4], columns[5]))) < 0:
        raise CorruptDataError("an inner node has no children, or a negative number")
    if max(map(len, columns[0])) > MAX_ENCODED_KEY_LENGTH:
        raise CorruptDataError("an inner node has a key that is too long")
    if not {len(holder) for holder in columns[3]} <= {0, _OBJECT_ID_LENGTH}:
        raise CorruptDataError("an inner node names an object that cannot be")
    return [
        NodeRef(level - 1, first, count, digest, SegmentPlace(holder or container, offset, length, checksum))
        for first, count, digest, holder, offset, length, checksum in zip(*columns, strict=True)
    ]


def _leaf_types(schema: ColumnSchema) -> dict[str, Any]:
    """The Arrow types of a leaf's columns, those that are there."""
    import pyarrow as pa

    types = dict.fromkeys(DELTA_COLUMNS, pa.int64())
    types |= {
        "key_str": pa.string(),
        "sub_str": pa.string(),
        "digest": pa.binary(32),
        "pack": pa.binary(16),
        "value_bytes": pa.binary(),
    }
    types |= {f"shape_{i}": pa.int64() for i in range(len(schema.shape or ()))}
    if schema.column_type == "str":
        types["value"] = pa.string()
    elif _is_typed(schema):
        types["value"] = pa.from_numpy_dtype(schema.numpy_dtype)
    else:
        types["value"] = None
    return types


def _inner_types() -> dict[str, Any]:
    import pyarrow as pa

    number = pa.int64()
    return {
        "first": pa.binary(),
        "count": number,
        "digest": pa.binary(32),
        "object": pa.binary(),
        "offset": number,
        "length": number,
        "checksum": pa.uint64(),
    }


def _is_typed(schema: ColumnSchema) -> bool:
    """Whether Parquet has a type for the column's values: one native number each."""
    if schema.column_type != "ndarray" or schema.fixed_size != schema.item_size:
        return False
    dtype = schema.numpy_dtype
    return dtype.kind in _TYPED_KINDS and dtype.isnative and dtype.itemsize <= 8 and dtype != np.float16


def _add_keys(columns: dict[str, Any], name: str, keys: Sequence[Any]) -> None:
    import pyarrow as pa

    if any(type(key) is int for key in keys):
        columns[f"{name}_int"] = pa.array([key if type(key) is int else None for key in keys], pa.int64())
    if any(type(key) is str for key in keys):
        columns[f"{name}_str"] = pa.array([key if type(key) is str else None for key in keys], pa.string())


def _add_places(columns: dict[str, Any], rows: Sequence[Row]) -> None:
    import pyarrow as pa

    places = [row.place for row in rows]
    digests = [row.identity[1:] if row.place is not None else None for row in rows]
    columns["digest"] = pa.array(digests, pa.binary(32))
    columns["pack"] = pa.array([None if place is None else place.pack for place in places], pa.binary(16))
    for name in ("offset", "stored", "start", "size"):
        columns[name] = pa.array([None if place is None else getattr(place, name) for place in places], pa.int64())


def _add_values(columns: dict[str, Any], values: list[bytes | None], schema: ColumnSchema) -> None:
    import pyarrow as pa

    typed = _typed_values(values, schema)
    if typed is not None:
        columns["value"] = typed
    else:
        columns["value_bytes"] = pa.array(values, pa.binary())


def _typed_values(values: list[bytes | None], schema: ColumnSchema) -> Any | None:
    """The values in the Parquet type that queries expect, or None where that would not be exact."""
    import pyarrow as pa

    if schema.column_type == "str":
        try:
            return pa.array([None if value is None else value.decode("utf-8") for value in values], pa.string())
        except UnicodeDecodeError:
            return None
    if not _is_typed(schema):
        return None
    dtype = schema.numpy_dtype
    blank = bytes(dtype.itemsize)
    raw = b"".join(blank if value is None else value for value in values)
    if dtype.kind == "b" and max(raw) > 1:
        return None
    mask = np.array([value is None for value in values]) if None in values else None
    return pa.array(np.frombuffer(raw, dtype), mask=mask)
