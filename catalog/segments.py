"""Segments: one node of a record tree as one small, complete Parquet file (no I/O).

`docs/format.md` section "Records" is the normative text. A column that is absent is null in every
row. Floating-point columns are never dictionary-encoded: Arrow's dictionaries take all NaNs, and
both zeros, for one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog.keys import MAX_ENCODED_KEY_LENGTH, decode_key
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.records import LeafEntry, NodeRef, Row, SegmentPlace
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segment_file import DELTA_COLUMNS, read_segment, write_segment

if TYPE_CHECKING:
    import pyarrow as pa

_TYPED_KINDS: Final = "biuf"
_OBJECT_ID_LENGTH: Final = 16


def encode_leaf(entries: Sequence[LeafEntry], schema: ColumnSchema) -> bytes:
    """A leaf as Parquet bytes; which columns there are depends on the rows alone."""
    return write_segment(leaf_table(entries, schema))


def leaf_table(entries: Sequence[LeafEntry], schema: ColumnSchema) -> pa.Table:
    """The columns of a leaf."""
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
        name, values = values_column([row.value for row in rows], schema)
        columns[name] = values
    return pa.table(columns)


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


def values_column(values: Sequence[bytes | None], schema: ColumnSchema) -> tuple[str, Any]:
    """Name and Arrow column of the values of a leaf's rows, None where a row has none."""
    import pyarrow as pa

    typed = _typed_values(values, schema)
    return ("value_bytes", pa.array(list(values), pa.binary())) if typed is None else ("value", typed)


def _typed_values(values: Sequence[bytes | None], schema: ColumnSchema) -> Any | None:
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
    if isinstance(values, ByteRows):
        raw = bytes(values.data)
    else:
        raw = b"".join(blank if value is None else value for value in values)
    if dtype.kind == "b" and max(raw) > 1:
        return None
    mask = None
    if not isinstance(values, ByteRows) and None in values:
        mask = np.array([value is None for value in values])
    return pa.array(np.frombuffer(raw, dtype), mask=mask)
