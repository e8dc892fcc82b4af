"""Many values for one column at once: checked in full, then handed on a moderate amount at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.catalog.errors import InvalidSampleError
from hangar_cloud.catalog.incoming import Incoming
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.working_set import FLUSH_BYTES, FLUSH_SAMPLES


class ValueBatch:
    """Values of one column in their order.

    Args:
        values: an array whose first dimension counts the values, or an iterable of values; that is held as a list,
            since all are checked before any is written.
        schema: of the column.
        where: begins messages about the batch as a whole.

    `schema` and `values` are what was given.

    Raises:
        InvalidSampleError: it is neither.
    """

    def __init__(self, values: Any, schema: ColumnSchema, where: str) -> None:
        self.schema = schema
        self.values: Any
        if isinstance(values, np.ndarray) and schema.column_type == "ndarray":
            if values.ndim == 0:
                raise _no_batch(where, "an array without dimensions, which is one value")
            self.values = values
            return
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise _no_batch(where, f"{type(values).__name__}, which is no sequence of values")
        if isinstance(values, (list, tuple)):
            self.values = values
        else:
            # Whatever makes arrays one after the other may use the same memory for all of them.
            self.values = [value.copy() if isinstance(value, np.ndarray) else value for value in values]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of all values, as far as that is known without a look at each."""
        return int(self.values.nbytes) if isinstance(self.values, np.ndarray) else 0

    def check(self, where: Callable[[int], str]) -> None:
        """Look at every value; `where(i)` begins the message about value i. Raises InvalidSampleError."""
        if isinstance(self.values, np.ndarray):
            if isinstance(self.values, np.ma.MaskedArray):
                self.schema.check(self.values, where(0))
            # The first one tells of all: they have one dtype, one shape and one layout.
            elif len(self.values):
                self.schema.check(self._row(0), where(0))
            return
        for i, value in enumerate(self.values):
            if not self.schema.fits(value):
                self.schema.check(value, where(i))

    def payloads(self) -> Iterator[Payload]:
        """The payload of each value. Only after `check`."""
        values = map(self._row, range(len(self))) if isinstance(self.values, np.ndarray) else iter(self.values)
        return (self.schema.encode(value, "") for value in values)

    def portions(self, keys: Sequence[RowKey]) -> Iterator[Incoming]:
        """The values with their keys, some MiB at a time, each portion until the next. Only after `check`."""
        return self._of_array(keys) if isinstance(self.values, np.ndarray) else self._of_list(keys)

    def _of_array(self, keys: Sequence[RowKey]) -> Iterator[Incoming]:
        shape = self.values.shape[1:]
        size = max(self.values.itemsize * int(np.prod(shape, dtype=np.int64)), 1)
        together = max(min(FLUSH_BYTES // size, FLUSH_SAMPLES, len(self)), 1)
        # A copy, so that nobody can change a value between its digest and its encoding. One for all portions: fresh
        # memory costs more than the copying.
        copied = np.empty((together, *shape), self.values.dtype)
        raw = memoryview(copied.reshape(-1).view(np.uint8).data)
        shapes = [shape] * together if self.schema.schema_type == "variable_shape" else None
        for start in range(0, len(self), together):
            here = self.values[start : start + together]
            copied[: len(here)] = here
            some = shapes if shapes is None else shapes[: len(here)]
            yield Incoming(keys[start : start + together], ByteRows(raw[: len(here) * size], size), some)

    def _of_list(self, keys: Sequence[RowKey]) -> Iterator[Incoming]:
        waiting: list[tuple[RowKey, Payload]] = []
        size = 0
        for key, payload in zip(keys, self.payloads(), strict=True):
            waiting.append((key, payload))
            size += len(payload.data)
            if size >= FLUSH_BYTES or len(waiting) >= FLUSH_SAMPLES:
                yield Incoming.of(waiting)
                waiting, size = [], 0
        if waiting:
            yield Incoming.of(waiting)

    def _row(self, i: int) -> Any:
        row = self.values[i]
        return row if isinstance(row, np.ndarray) else np.array(row, self.values.dtype)


def _no_batch(where: str, given: str) -> InvalidSampleError:
    return InvalidSampleError(
        f"{where}: values must be a sequence of values, or an array whose first dimension counts them; not {given}"
    )
