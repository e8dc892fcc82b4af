"""A `tf.data.Dataset` of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from hangar_cloud.column import ColumnReader
from hangar_cloud.errors import InvalidArgumentError, InvalidSchemaError
from hangar_cloud.external.optional_packages import require
from hangar_cloud.loaders.batch_stream import BatchStream

_READ_TOGETHER: Final = 256


def make_tf_dataset(
    columns: Any, keys: Iterable[Any] | None = None, index_range: slice | None = None, shuffle: bool | str = True
) -> Any:
    """A `tf.data.Dataset` whose elements are tuples, with one tensor for each column, in the order they are given.

    Samples are read some hundred at a time, ahead of what is used. Each pass over it is an epoch in another order.
    Dimensions of arrays whose shape varies are None in its `element_spec`, as `padded_batch` wants them.

    Args:
        columns: a column, some columns, or all columns of a checkout (``co.columns``); flat, of checkouts for reading.
        keys: of the samples wanted, by default those that all columns have. With pairs (sample, subsample) columns may
            be nested, and each subsample is a sample.
        index_range: a part of the samples that all columns have, in the order of their keys; not looked at where
            there are `keys`.
        shuffle: True mixes samples within windows of some 64 MiB; "full" gives every order with the same chance; False
            the order of the keys; "storage" the order in which their bytes lie.

    Raises:
        TypeError: no columns, or what is no column.
        PermissionError: a column of a checkout for writing.
        KeyError: a column lacks one of the keys.
        ValueError: no sample is in all columns, a nested column, or a dtype that TensorFlow does not have.
        ImportError: TensorFlow is not installed.
    """
    tensorflow = require("tensorflow", "tensorflow", "make_tf_dataset")
    stream = BatchStream(columns, keys, _READ_TOGETHER, index_range=index_range, shuffle=shuffle)
    specs = tuple(_spec(tensorflow, field.column, field.is_nested) for field in stream._source.fields.values())

    def samples() -> Iterator[tuple[Any, ...]]:
        for batch in stream:
            yield from zip(*batch.values(), strict=True)

    made = tensorflow.data.Dataset.from_generator(samples, output_signature=specs)
    return made.apply(tensorflow.data.experimental.assert_cardinality(stream.num_samples))


def _spec(tensorflow: Any, column: ColumnReader, nested: bool) -> Any:
    """What TensorFlow is told of a column's values."""
    schema = column._entry.schema
    if nested:
        raise InvalidArgumentError(
            f"column {column.column!r} is nested, and its samples are no tensors; name subsamples by "
            "keys=[(sample, subsample), …]"
        )
    if schema.column_type != "ndarray":
        return tensorflow.TensorSpec((), tensorflow.string)
    dtype: np.dtype[Any] = schema.numpy_dtype.newbyteorder("=")
    try:
        known = tensorflow.as_dtype(dtype)
    except TypeError as error:
        raise InvalidSchemaError(
            f"column {column.column!r} is of dtype {schema.dtype}, of which TensorFlow has no tensors; make a numpy "
            "dataset of it, or alter the column to another dtype"
        ) from error
    varies = schema.schema_type == "variable_shape"
    return tensorflow.TensorSpec([None if varies else size for size in schema.shape or ()], known)
