"""Samples as Arrow arrays, bit by bit.

A sample is null where its column has no such key. What Arrow has no type for, complex numbers and the other byte
order, is written as what it has; the note of the export says what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hangar_cloud.catalog.keys import KeyType
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.external.dataset_samples import to_native
from hangar_cloud.external.file_names import KeyForm, write_key


def key_type(form: KeyForm) -> Any:
    """The Arrow type of keys."""
    return pa.int64() if form == "int" else pa.string()


def encode_keys(keys: Sequence[KeyType], form: KeyForm) -> Any:
    """Keys as an Arrow array."""
    return pa.array(keys if form == "int" else [write_key(key, form) for key in keys], key_type(form))


def arrow_type(schema: ColumnSchema, sub_form: KeyForm | None) -> Any:
    """The Arrow type of a column; `sub_form` is that of subsample keys where it is nested."""
    if sub_form is not None:
        fields = [pa.field("key", key_type(sub_form), nullable=False), pa.field("value", _plain_type(schema))]
        return pa.list_(pa.struct(fields))
    if _is_tensor(schema):
        return pa.fixed_shape_tensor(_number_type(schema), _stored_shape(schema))
    return _plain_type(schema)


def encode_column(schema: ColumnSchema, sub_form: KeyForm | None, rows: Sequence[Any]) -> Any:
    """Values of a column as an Arrow array.

    Args:
        schema: of the column.
        sub_form: of subsample keys where it is nested.
        rows: of each row the value, or None; in a nested column a dict of subsamples.
    """
    if sub_form is not None:
        return _encode_nested(schema, sub_form, rows)
    plain = _encode_plain(schema, rows)
    return pa.ExtensionArray.from_storage(arrow_type(schema, None), plain) if _is_tensor(schema) else plain


def _encode_nested(schema: ColumnSchema, sub_form: KeyForm, rows: Sequence[dict[KeyType, Any] | None]) -> Any:
    keys = [key for row in rows if row is not None for key in row]
    values = [value for row in rows if row is not None for value in row.values()]
    fields = list(arrow_type(schema, sub_form).value_type)
    pairs = pa.StructArray.from_arrays([encode_keys(keys, sub_form), _encode_plain(schema, values)], fields=fields)
    offsets = [0, *np.cumsum([0 if row is None else len(row) for row in rows]).tolist()]
    # A null in the offsets makes the row null.
    starts = [None if row is None else start for row, start in zip(rows, offsets[:-1], strict=True)]
    return pa.ListArray.from_arrays(pa.array([*starts, offsets[-1]], pa.int32()), pairs).cast(
        arrow_type(schema, sub_form)
    )


def _encode_plain(schema: ColumnSchema, rows: Sequence[Any]) -> Any:
    if schema.column_type != "ndarray":
        return pa.array(rows, _plain_type(schema))
    if schema.schema_type == "fixed_shape":
        return _encode_fixed(schema, rows)
    present = [row for row in rows if row is not None]
    flat = [_stored(row).reshape(-1) for row in present]
    lengths = iter([len(one) for one in flat])
    data = pa.array(np.concatenate(flat) if flat else np.empty(0, _stored_dtype(schema)), _number_type(schema))
    offsets: list[int | None] = []
    end = 0
    for row in rows:
        offsets.append(None if row is None else end)
        end += 0 if row is None else next(lengths)
    lists = pa.LargeListArray.from_arrays(pa.array([*offsets, end], pa.int64()), data)
    if _rank(schema) == 1 and schema.numpy_dtype.kind != "c":
        return lists
    shapes = np.array([(0,) * _rank(schema) if row is None else row.shape for row in rows], np.int64)
    sizes = pa.FixedSizeListArray.from_arrays(pa.array(shapes.reshape(-1)), _rank(schema))
    mask = pa.array([row is None for row in rows], pa.bool_())
    return pa.StructArray.from_arrays([lists.cast(_plain_type(schema)[0].type), sizes], ["data", "shape"], mask=mask)


def _encode_fixed(schema: ColumnSchema, rows: Sequence[Any]) -> Any:
    shape = _stored_shape(schema)
    numbers = np.zeros((len(rows), *shape), _stored_dtype(schema))
    for i, row in enumerate(rows):
        if row is not None:
            numbers[i] = _stored(row)
    missing = np.array([row is None for row in rows], np.bool_)
    if not shape:
        return pa.array(numbers, _number_type(schema), mask=missing)
    flat = pa.array(numbers.reshape(-1), _number_type(schema))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape)), mask=pa.array(missing))


def _plain_type(schema: ColumnSchema) -> Any:
    if schema.column_type != "ndarray":
        return pa.large_string() if schema.column_type == "str" else pa.large_binary()
    number = _number_type(schema)
    if schema.schema_type == "fixed_shape":
        shape = _stored_shape(schema)
        return pa.list_(number, int(np.prod(shape))) if shape else number
    if _rank(schema) == 1 and schema.numpy_dtype.kind != "c":
        return pa.large_list(number)
    return pa.struct([("data", pa.large_list(number)), ("shape", pa.list_(pa.int64(), _rank(schema)))])


def _is_tensor(schema: ColumnSchema) -> bool:
    # Booleans are no numbers to Arrow's tensors: their bits are packed.
    fixed = schema.column_type == "ndarray" and schema.schema_type == "fixed_shape"
    return fixed and len(_stored_shape(schema)) > 1 and schema.numpy_dtype.kind != "b"


def _rank(schema: ColumnSchema) -> int:
    return len(schema.shape or ())


def _stored_shape(schema: ColumnSchema) -> tuple[int, ...]:
    shape = schema.shape or ()
    return (*shape, 2) if schema.numpy_dtype.kind == "c" else shape


def _stored_dtype(schema: ColumnSchema) -> np.dtype[Any]:
    native = schema.numpy_dtype.newbyteorder("=")
    return np.dtype(f"f{native.itemsize // 2}") if native.kind == "c" else native


def _number_type(schema: ColumnSchema) -> Any:
    return pa.from_numpy_dtype(_stored_dtype(schema))


def _stored(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The numbers as Arrow knows them: in this machine's order, complex ones as two."""
    native = to_native(value)
    if native.dtype.kind != "c":
        return native
    return np.ascontiguousarray(native).view(f"f{native.itemsize // 2}").reshape(*native.shape, 2)
