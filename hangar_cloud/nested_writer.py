"""Writing one nested column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from hangar_cloud.catalog.errors import InvalidNameError, InvalidSampleError
from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.catalog.schema import ColumnSchema, Payload
from hangar_cloud.catalog.working_set import Found
from hangar_cloud.column_writer import MISSING, ColumnWriter
from hangar_cloud.errors import SampleNotFoundError
from hangar_cloud.given_keys import checked_key, fresh_key, keys_of_batch, numbers_after, pairs_of
from hangar_cloud.in_turn import in_turn, steps_in_turn
from hangar_cloud.nested_reader import FlatSubsampleReader, NestedSampleReader, Pair
from hangar_cloud.value_batch import ValueBatch

Subsamples = Mapping[KeyType, Any] | Iterable[tuple[KeyType, Any]]
Rows = list[tuple[RowKey, Payload]]


class NestedSampleWriter(ColumnWriter, NestedSampleReader):
    """A nested column that is being written: a mutable mapping from sample keys to subsample accessors.

    A write is durable once it returns outside a ``with`` block, or once the block ends.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        """Merge a mapping of subsamples into a sample; or store one value under (sample, subsample).

        Both make the sample where there is none. Subsamples that are not named stay as they are, and an empty
        mapping changes nothing.

        Raises:
            ValueError: a key or a value is not suitable; nothing was written.
        """
        self._alive()
        schema = self._entry.schema
        if not isinstance(key, tuple):
            self._write(self._checked_sample(key, value, schema), schema)
            return
        pair = self._checked_pair(key)
        self._write([(pair, schema.encode(value, self._where(pair)))], schema)

    def update(
        self,
        other: Mapping[KeyType, Subsamples] | Iterable[tuple[KeyType, Subsamples]] | None = None,
        **kwargs: Subsamples,
    ) -> None:
        """Merge subsamples into many samples, from a mapping, pairs or keywords; all are checked before any is written.

        Args:
            other: for each sample key a mapping (or pairs) from subsample keys to values.
            **kwargs: the same, for sample keys that are text.
        """
        self._alive()
        schema = self._entry.schema
        checked: Rows = []
        for sample, subsamples in pairs_of(other, kwargs, f"column {self._name!r}"):
            checked += self._checked_sample(sample, subsamples, schema)
        self._write(checked, schema)

    def update_batch(self, keys: Iterable[Pair], values: Iterable[Any]) -> None:
        """Store many values under pairs of keys, in place of what was there.

        Args:
            keys: pairs (sample, subsample), as many as there are values, each once. Samples are made where there are
                none.
            values: for an ndarray column one array of shape ``(N, *shape)`` and the column's dtype; for every column a
                sequence of values.

        Raises:
            ValueError: a key or a value is not suitable; says which, and nothing was written.
            OSError: the disk is full, or the like; what was stored before of the values is staged, and the rest is not.
        """
        self._alive()
        where = f"column {self._name!r}"
        batch = ValueBatch(values, self._entry.schema, f"{where}: update_batch()")
        self._write_batch(keys_of_batch(keys, len(batch), where, self._checked_pair), batch)

    @in_turn
    def __delitem__(self, key: Any) -> None:
        """Remove a sample with all its subsamples, or one subsample. Raises KeyError where there is none.

        A sample disappears with its last subsample.
        """
        self._alive()
        if not isinstance(key, tuple):
            sample = self._existing(key)
            self._write([(pair, None) for pair, _ in self._below(sample)])
            return
        pair = self._row_key(key)
        if self._find(pair) is None:
            raise self._absent(pair)
        self._write([(pair, None)])

    @in_turn
    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Remove a sample and return its subsamples as a dict, or one subsample and return its value.

        With `default` given, that is returned where there is none.
        """
        self._alive()
        if default is not MISSING and key not in self:
            return default
        value = self[key] if isinstance(key, tuple) else self[key].data
        del self[key]
        return value

    def _sample(self, sample: KeyType) -> FlatSubsampleWriter:
        return FlatSubsampleWriter(self, sample)

    def _samples(self) -> Iterator[KeyType]:
        return steps_in_turn(self._turn, self._column.samples())

    @in_turn
    def _count_below(self, sample: KeyType) -> int:
        return self._column.count_below(sample)

    def _below(self, sample: KeyType) -> Iterator[tuple[Pair, Found]]:
        return self._current(cast("Iterator[tuple[Pair, Found]]", self._column.below(sample)))

    def _checked_pair(self, key: Any) -> Pair:
        if not isinstance(key, (tuple, list)) or len(key) != 2:
            raise InvalidNameError(
                f"column {self._name!r} is nested: its values have keys (sample, subsample); {key!r} is not suitable"
            )
        sample = checked_key(key[0], f"column {self._name!r}")
        return sample, checked_key(key[1], f"column {self._name!r}, sample {sample!r}, subsample")

    def _checked_sample(self, key: Any, subsamples: Any, schema: ColumnSchema) -> Rows:
        """The rows that a mapping of subsamples makes; nothing is written yet."""
        sample = checked_key(key, f"column {self._name!r}")
        where = f"column {self._name!r}, sample {sample!r}"
        if not isinstance(subsamples, Iterable) or isinstance(subsamples, (str, bytes, np.ndarray)):
            raise InvalidSampleError(
                f"{where}: the column is nested, a sample is a mapping from subsample keys to values, not "
                f"{type(subsamples).__name__}; to store one value, use column[sample, subsample] = value"
            )
        checked: Rows = []
        for sub, value in pairs_of(subsamples, {}, where):
            pair = (sample, checked_key(sub, f"{where}, subsample"))
            checked.append((pair, schema.encode(value, self._where(pair))))
        return checked


class FlatSubsampleWriter(FlatSubsampleReader):
    """One sample of a nested column that is being written: a mutable mapping from subsample keys to values.

    After the sample was removed, or lost its last subsample, every use raises KeyError until the sample is
    back.
    """

    _parent: NestedSampleWriter

    def __setitem__(self, key: KeyType, value: Any) -> None:
        """Store a value under a subsample key, in place of what was there.

        Raises:
            ValueError: the key or the value is not suitable; nothing was written.
            KeyError: the sample is gone.
        """
        self._check()
        self._parent[self._name, key] = value

    def update(self, other: Subsamples | None = None, **kwargs: Any) -> None:
        """Store many values, from a mapping, pairs or keywords; all are checked before any is written."""
        self._check()
        where = f"column {self._parent.column!r}, sample {self._name!r}"
        self._parent[self._name] = list(pairs_of(other, kwargs, where))

    def extend(self, values: Iterable[Any]) -> list[int]:
        """Store many values under new whole numbers as subsample keys, and return these keys.

        The numbers follow the greatest that the sample has.

        Args:
            values: for an ndarray column one array of shape ``(N, *shape)``; for every column a sequence of values.

        Raises:
            ValueError: a value is not suitable; says which, and nothing was written.
            KeyError: the sample is gone.
        """
        self._check()
        batch, where = self._batch(values, "extend")
        with self._parent._turn.lock:
            below = (key[1] for key, _ in self._parent._below(self._name))
            greatest = max((key for key in below if isinstance(key, int)), default=-1)
            keys = numbers_after(greatest, len(batch), where)
            self._parent._write_batch([(self._name, key) for key in keys], batch)
        return keys

    def update_batch(self, keys: Iterable[KeyType], values: Iterable[Any]) -> None:
        """Store many values under subsample keys of your own, as many as there are values; otherwise as `extend`."""
        self._check()
        batch, where = self._batch(values, "update_batch")
        checked = keys_of_batch(keys, len(batch), where, lambda key: checked_key(key, f"{where}, subsample"))
        self._parent._write_batch([(self._name, key) for key in checked], batch)

    def _batch(self, values: Any, what: str) -> tuple[ValueBatch, str]:
        where = f"column {self._parent.column!r}, sample {self._name!r}"
        return ValueBatch(values, self._parent._entry.schema, f"{where}: {what}()"), where

    def append(self, value: Any) -> KeyType:
        """Store a value under a fresh subsample key, and return the key.

        Fresh keys sort in the order in which they were made, and do not collide between writers.
        """
        key = fresh_key()
        self[key] = value
        return key

    def __delitem__(self, key: KeyType) -> None:
        """Remove a subsample. Raises KeyError where there is none. With the last, the sample is gone."""
        self._check()
        del self._parent[self._name, key]

    def pop(self, key: KeyType, default: Any = MISSING) -> Any:
        """Remove a subsample and return its value, or `default` if given and there is none."""
        self._check()
        return self._parent.pop((self._name, key), default)

    def _check(self) -> None:
        """Raises KeyError if the sample is gone, PermissionError after `close()`."""
        super()._check()
        if self._parent._count_below(self._name) == 0:
            raise SampleNotFoundError(f"column {self._parent.column!r} has no sample {self._name!r} any more")
