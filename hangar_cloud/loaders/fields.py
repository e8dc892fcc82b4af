"""The values of one field, of many samples at once: arrays where the shape is fixed, else lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.reused_memory import ReusedMemory
from hangar_cloud.brought_blocks import BroughtBlocks
from hangar_cloud.column import ColumnReader
from hangar_cloud.loaders.packed_rows import PackedRows
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.selection import SampleKey
from hangar_cloud.loaders.whereabouts import Rows, Whereabouts

# What a cache of less room would lose before it is read would be fetched twice.
_ROOM: Final = 2

Values = npt.NDArray[Any]
"""Of fixed-shape arrays (samples, *shape); of everything else one object for each sample."""


class Field:
    """A column as a loader reads it.

    Args:
        column: of a checkout for reading.
        by_subsample: whether keys are pairs (sample, subsample).
        brought: holds what was fetched until it is read.

    `values` are those of all samples by position, where they stand in the records.
    """

    def __init__(self, column: ColumnReader, by_subsample: bool, brought: BroughtBlocks[BlockName]) -> None:
        self.column = column
        self._brought = brought
        self.values: Values | None = None
        self._rows: PackedRows | None = None
        self._most_decoded: int | None = None
        schema = column._entry.schema
        self.is_nested = column.contains_subsamples and not by_subsample
        self._of_sample = by_subsample and not column.contains_subsamples
        self.is_array = schema.schema_type == "fixed_shape" and not self.is_nested
        self._shape = schema.shape or ()
        self._dtype = schema.numpy_dtype if schema.column_type == "ndarray" else None

    def locate(self, found: Whereabouts, order: Positions | None) -> None:
        """Learn what the records say of the samples; `order` has their numbers by position."""
        rows, values = found.rows, found.values
        if order is not None and rows is not None:
            rows = Rows(rows.leaves, rows.leaf[order], rows.row[order])
        if order is not None and values is not None:
            values = values[order]
        self.values = values
        if self.is_array and rows is not None and values is None:
            self._rows = PackedRows(self.column, rows, self._brought)

    def bound_decoded(self, most: int) -> None:
        """Leave no more than so many bytes of decoded blocks behind, beside those that are kept already."""
        self._most_decoded = self.column._packs.decoded_bytes + most

    def empty(self, count: int, memory: ReusedMemory | None = None) -> Values:
        """Room for the values of so many samples, of some memory or else of its own."""
        if not self.is_array:
            return np.empty(count, object)
        shape = (count, *self._shape)
        return np.empty(shape, self._dtype) if memory is None else memory.empty(shape, self._dtype)

    def read(self, positions: Positions, keys: Sequence[SampleKey], out: Values, places: Positions) -> None:
        """Put the values of samples into `out`, in one planned read. Raises as `ColumnReader.get_batch`.

        Args:
            positions: of the samples.
            keys: of the same samples.
            out: room for these and others.
            places: where in it each goes.
        """
        if self.values is not None:
            self.column._alive()
            out[places] = self.values[positions]
        elif self._rows is None or not self._rows.read(positions, out, places):
            self._read_batch(keys, out, places)

    @property
    def can_bring(self) -> bool:
        """Whether `bring` has all of it here, apart from what stands in the records."""
        return self.values is not None or self._rows is not None

    def is_kept(self, size: int) -> bool:
        """Whether so many bytes, once fetched, stay on this machine until they are read."""
        return self._rows is None or self.column._packs.keeps(_ROOM * size)

    def bring(self, positions: Positions, size: int, held: bool = True) -> bool:
        """Have samples here that are going to be read; as `PackedRows.bring`.

        Args:
            positions: of the samples.
            size: bytes of all that are going to be fetched before they are read.
            held: whether by this process.
        """
        return self._rows is None or self._rows.bring(positions, self.is_kept(size), held)

    def drop(self, positions: Positions) -> None:
        """Hold nothing of some samples that were brought."""
        if self._rows is not None:
            self._rows.drop(positions)

    def wait_for_others(self, positions: Positions, patience: float, is_over: Callable[[], bool]) -> bool:
        """Wait for samples that other processes bring; as `PackedRows.wait_for_others`."""
        return self._rows is None or self._rows.wait_for_others(positions, patience, is_over)

    def read_batch(self, keys: Sequence[SampleKey]) -> Values:
        """The values of samples by their keys, in one planned read. Raises as `ColumnReader.get_batch`."""
        out = self.empty(len(keys))
        self._read_batch(keys, out, np.arange(len(keys)))
        return out

    def _read_batch(self, keys: Sequence[SampleKey], out: Values, places: Positions) -> None:
        self._read_values(keys, out, places)
        if self._most_decoded is not None:
            self.column._packs.keep_at_most(self._most_decoded)

    def _read_values(self, keys: Sequence[SampleKey], out: Values, places: Positions) -> None:
        if self.is_nested:
            self._read_nested(keys, out, places)
            return
        wanted = [key[0] for key in keys] if self._of_sample else keys  # type: ignore[index]
        values = self.column.get_batch(wanted)
        if self.is_array:
            out[places] = values
        else:
            _fill(out, places, values)

    def give(self, values: Values, places: Positions) -> Any:
        """A batch of some of the values, which the caller may change.

        Returns:
            an array of shape (samples, *shape), or a list.
        """
        if self.is_array:
            return values.take(places, axis=0)
        return [_fresh(value) for value in values[places]]

    def part(self, values: Values, start: int, stop: int) -> Any:
        """A batch of values that are given out once only: arrays without copying them."""
        return values[start:stop] if self.is_array else list(values[start:stop])

    def _read_nested(self, keys: Sequence[SampleKey], out: Values, places: Positions) -> None:
        subsamples = [list(self.column[key].keys()) for key in keys]  # type: ignore[index]
        pairs = [(key, below) for key, those in zip(keys, subsamples, strict=True) for below in those]
        values = iter(self.column.get_batch(pairs))
        _fill(out, places, [{below: next(values) for below in those} for those in subsamples])


def _fill(out: Values, places: Positions, values: Iterable[Any]) -> None:
    # Assigned one by one: numpy would take a list of equal arrays for one array of more dimensions.
    for place, value in zip(places.tolist(), values, strict=True):
        out[place] = value


def _fresh(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _fresh(inner) for key, inner in value.items()}
    return value
