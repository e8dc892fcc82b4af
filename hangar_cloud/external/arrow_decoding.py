"""Arrow arrays as samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import UnreadableFileError
from hangar_cloud.external.dataset_samples import from_native


def decode_rows(array: Any) -> Iterator[Any]:
    """The value of each row: an array, str or bytes; None where it is null; or the error that says why there is none.

    Numbers become arrays of no dimension, lists of them arrays of one, lists of lists of two, and so on.
    """
    tensor = array.type if isinstance(array.type, pa.FixedShapeTensorType) else None
    array = _plain(array)
    kind = array.type
    if is_text(kind):
        yield from array.to_pylist()
    elif is_bytes(kind):
        yield from (None if value is None else bytes(value) for value in array.to_pylist())
    elif tensor is not None:
        yield from (one.reshape(tensor.shape) if isinstance(one, np.ndarray) else one for one in _lists(array))
    elif is_list(kind):
        yield from _lists(array)
    else:
        yield from _spread(array, np.asarray(array.drop_null().to_numpy(zero_copy_only=False)))


def _lists(array: Any) -> Iterator[Any]:
    stacked = _stacked(array)
    if stacked is not None:
        yield from _spread(array, stacked)
        return
    for i in range(len(array)):
        yield _array_of(array.slice(i, 1)) if array[i].is_valid else None


def _spread(array: Any, present: npt.NDArray[Any]) -> Iterator[Any]:
    """The rows of `present` where the array is not null, and None where it is."""
    there = iter(range(len(present)))
    for is_valid in np.asarray(array.is_valid()):
        # A copy: a view would keep all of them in memory.
        yield present[(slice(i := next(there), i + 1))].reshape(present.shape[1:]).copy() if is_valid else None


def decode_known(schema: ColumnSchema, array: Any) -> Iterator[Any]:
    """The same for a column of a known schema, as `encode_column` wrote it (less the nesting)."""
    array = _plain(array)
    if schema.column_type != "ndarray":
        yield from decode_rows(array)
    elif pa.types.is_struct(array.type):
        sizes = decode_rows(array.field("shape"))
        for there, numbers, size in zip(array.is_valid(), decode_rows(array.field("data")), sizes, strict=True):
            yield _known(schema, numbers, tuple(size.tolist())) if there.as_py() and size is not None else None
    else:
        variable = schema.schema_type == "variable_shape"
        for numbers in decode_rows(array):
            shape = numbers.shape if variable and isinstance(numbers, np.ndarray) else schema.shape
            yield _known(schema, numbers, shape or ()) if isinstance(numbers, np.ndarray) else numbers


def _known(schema: ColumnSchema, numbers: Any, shape: tuple[int, ...]) -> Any:
    dtype = schema.numpy_dtype
    native = dtype.newbyteorder("=")
    try:
        if numbers is None:
            numbers = np.empty(0, native)
        whole = numbers.view(native) if native.kind == "c" else numbers
        return from_native(np.ascontiguousarray(whole).reshape(shape), dtype)
    except (ValueError, TypeError) as error:
        return UnreadableFileError(f"the numbers are not those of an array of {dtype} and shape {shape}: {error}")


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: Any) -> bool:
    """Whether an Arrow type is bytes."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is a list."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number(kind: Any) -> bool:
    """Whether an Arrow type is one of numpy's numbers, or true and false."""
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_arrays(kind: Any) -> bool:
    """Whether rows of an Arrow type can be samples: numbers, lists of them, lists of such lists, or tensors."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.permutation in (None, list(range(len(kind.shape)))) and is_number(kind.value_type)
    while is_list(kind):
        kind = kind.value_type
    return is_number(kind)


def _plain(array: Any) -> Any:
    """An array without what other tools wrap around it."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def _stacked(array: Any) -> npt.NDArray[Any] | None:
    """All rows of a list array that are not null, as one array; None where their shapes may differ."""
    shape: list[int] = []
    present = array.drop_null()
    while pa.types.is_fixed_size_list(present.type):
        if present.null_count:
            return None
        shape.append(present.type.list_size)
        present = present.flatten()
    if is_list(present.type) or present.null_count:
        return None
    return np.asarray(present.to_numpy(zero_copy_only=False)).reshape(-1, *shape)


def _array_of(row: Any) -> npt.NDArray[Any] | UnreadableFileError:
    """The array in a list array of one row."""
    shape: list[int] = []
    while is_list(row.type):
        if row.null_count:
            return UnreadableFileError("a list in it is null; arrays have no holes")
        lengths = (
            {row.type.list_size} if pa.types.is_fixed_size_list(row.type) else set(row.value_lengths().to_pylist())
        )
        if len(lengths) > 1:
            return UnreadableFileError(f"its lists have different lengths ({min(lengths)} to {max(lengths)})")
        shape.append(next(iter(lengths), 0))
        row = row.flatten()
    if row.null_count:
        return UnreadableFileError("a number in it is null; arrays have no holes")
    return np.array(row.to_numpy(zero_copy_only=False)).reshape(shape)
