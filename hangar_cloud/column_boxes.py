"""Reading boxes of the arrays of a column."""

from __future__ import annotations

from typing import Any

import numpy as np

from hangar_cloud.alive import Alive
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.values import SampleValue
from hangar_cloud.boxes import box_of
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.working_set import Found
from hangar_cloud.errors import InvalidArgumentError, SampleNotFoundError


class BoxReading:
    """The part of `ColumnReader` that reads boxes."""

    _alive: Alive
    _packs: PackReader

    @property
    def _entry(self) -> ColumnEntry:
        raise NotImplementedError

    def _row_key(self, key: Any) -> RowKey:
        raise NotImplementedError

    def _where(self, key: RowKey) -> str:
        raise NotImplementedError

    def _find(self, key: RowKey) -> Found | None:
        raise NotImplementedError

    def _absent(self, key: RowKey) -> SampleNotFoundError:
        raise NotImplementedError

    def _value(self, key: RowKey, found: Found) -> SampleValue:
        raise NotImplementedError

    def _packed(self, row: Row) -> PackedSample:
        raise NotImplementedError

    def read_slice(self, key: Any, index: Any) -> Any:
        """A box of one array: what ``column[key][index]`` is, without reading the rest where that can be helped.

        Of an array in tiles (backend "t0") only the tiles that the box touches are read, and fetched; they are kept as
        everything is that was fetched. Of others the whole sample is read.

        Args:
            key: sample key; of a nested column a pair (sample, subsample).
            index: integers, slices (with any step) and ``...``, as in ``np.s_[10:26, :64, 0]``; dimensions that are not
                named are taken whole.

        Returns:
            a fresh array of the column's dtype, or a numpy scalar where an integer stands for each dimension.

        Raises:
            KeyError: no such key.
            IndexError: the index is out of bounds, or no box: lists, masks and ``None`` are not taken.
            ValueError: the column holds no arrays.
            CorruptDataError: the stored bytes are damaged.
            FileNotFoundError: not on this machine, and the repository is offline.
        """
        self._alive()
        row_key = self._row_key(key)
        if self._entry.schema.column_type != "ndarray":
            raise InvalidArgumentError(
                f"{self._where(row_key)}: read_slice reads boxes of arrays, and the column holds "
                f"{self._entry.schema.column_type}"
            )
        found = self._find(row_key)
        if found is None:
            raise self._absent(row_key)
        return self._box(row_key, found, index)

    def _box(self, key: RowKey, found: Found, index: Any) -> Any:
        schema = self._entry.schema
        shape = schema.shape or () if found.shape is None else found.shape
        box = box_of(index, shape, self._where(key))
        if 0 in box.shape:
            return np.empty(box.shape, schema.numpy_dtype)[box.rest]
        if isinstance(found, Row) and found.place is not None:
            elements = self._packs.read_box(self._packed(found), shape, box.lows, box.highs)
            if elements is not None:
                whole = np.ascontiguousarray(elements).reshape(-1).view(schema.numpy_dtype).reshape(box.shape)
                return _fresh(whole[box.rest])
        around = tuple(slice(low, high) for low, high in zip(box.lows, box.highs, strict=True))
        return _fresh(self._value(key, found)[around][box.rest])  # type: ignore[call-overload,index]


def _fresh(value: Any) -> Any:
    """An array that keeps nothing larger alive, and nothing stored can be changed through; scalars as they are."""
    return value.copy() if isinstance(value, np.ndarray) else value
