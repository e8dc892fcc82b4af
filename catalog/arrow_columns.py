"""Columns of Arrow as numpy arrays, out of their buffers (no I/O).

pyarrow's own way (`to_numpy`, `fill_null`) imports pandas where that is installed, which takes longer than all else
that reading a first sample needs. The layout is https://arrow.apache.org/docs/format/Columnar.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def fixed_width(column: Any, dtype: Any) -> npt.NDArray[Any]:
    """The values of a column of numbers, or of binary of one length; what it has where a row has none is anything.

    Args:
        column: an Arrow column.
        dtype: numpy dtype of what it holds; bools are told bit by bit.
    """
    dtype = np.dtype(dtype)
    array = whole(column)
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), dtype)
    if dtype == np.bool_:
        return _bits(data, array)
    return np.frombuffer(data, dtype, len(array), array.offset * dtype.itemsize)


def validity(column: Any) -> npt.NDArray[np.bool_]:
    """Of each row of a column whether it has a value."""
    array = whole(column)
    data = array.buffers()[0]
    if not array.null_count or data is None:
        return np.full(len(array), array.null_count == 0)
    return _bits(data, array)


def whole(column: Any) -> Any:
    """A column as one array."""
    # Arrow would copy the one chunk that there mostly is, too.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _bits(data: Any, array: Any) -> npt.NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=array.offset + len(array), bitorder="little")
    return bits[array.offset :].astype(np.bool_)
