"""Reading one flat column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import numpy as np

from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.keys import KeyType, check_key
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.working_set import Found
from hangar_cloud.column import READ_AHEAD, ColumnReader
from hangar_cloud.warm_reads import MOST_SHARED, WarmReads

_READ_BYTES: Final = 32 * 1024 * 1024


class FlatSampleReader(ColumnReader):
    """A column of one commit: a mapping from sample keys to values, read-only.

    Values are fresh numpy arrays (writable, changing one changes nothing stored), str or bytes. What is
    not on this machine is fetched when it is read.
    """

    _may_read_warm = True

    def __getitem__(self, key: KeyType) -> Any:
        """The value of a key.

        Raises:
            KeyError: no such key.
            CorruptDataError: the stored bytes are damaged.
            FileNotFoundError: not on this machine, and the repository is offline.
        """
        self._alive()
        quickly = self._one
        if quickly is not None:
            value = quickly(key)
            if value is not None:
                return value
        warm = self._warm
        if warm is not None:
            value = warm.get(key)
            if value is not None:
                return value
        key = self._row_key(key)
        found = self._find(key)
        if found is None:
            raise self._absent(key)
        value = self._value(key, found)
        if warm is not None:
            self._learned(warm, [key])
        return value

    def get(self, key: KeyType, default: Any = None) -> Any:
        """The value of a key, or `default` where there is no such key."""
        self._alive()
        try:
            found = self._find(check_key(key))
        except InvalidNameError:
            return default
        return default if found is None else self._value(key, found)

    def __contains__(self, key: object) -> bool:
        """True if there is a sample of that key."""
        self._alive()
        try:
            return self._find(check_key(key)) is not None
        except InvalidNameError:
            return False

    def __len__(self) -> int:
        """Number of samples; in a writer, staged ones included."""
        self._alive()
        return self._count()

    def __iter__(self) -> Iterator[KeyType]:
        """Keys in order: numbers by value, then text."""
        return self.keys()

    def keys(self, local: bool = False) -> Iterator[KeyType]:
        """Keys in order; with `local` only those whose value is on this machine."""
        self._alive()
        return (key for key, found in self._samples() if not local or self._is_local(found))

    def values(self, local: bool = False) -> Iterator[Any]:
        """Values in key order; with `local` only those on this machine."""
        self._alive()
        if local or self._warm is None:
            return (value for _, value in self.items(local))
        return self._values_on(self._warm)

    def items(self, local: bool = False) -> Iterator[tuple[KeyType, Any]]:
        """Keys and values in key order; with `local` only those on this machine.

        What has to be fetched is fetched some hundred samples at a time.
        """
        self._alive()
        if local or self._warm is None:
            return self._read_ahead(self._samples(), local)
        return self._read_on(self._warm)

    @property
    def remote_reference_keys(self) -> tuple[KeyType, ...]:
        """Keys of the samples whose value is not on this machine."""
        self._alive()
        return tuple(key for key, found in self._samples() if self._is_remote(found))

    def _read_on(self, warm: WarmReads) -> Iterator[tuple[KeyType, Any]]:
        """Keys and values in key order: those in memory as they come, others some hundred at a time."""
        alive = self._alive
        for keys, values in self._chunks_on(warm):
            for key, value in zip(keys, values, strict=False):
                alive()
                yield key, value

    def _values_on(self, warm: WarmReads) -> Iterator[Any]:
        """The values alone, which takes half the time."""
        alive = self._alive
        for _, values in self._chunks_on(warm):
            for value in values:
                alive()
                yield value

    def _chunks_on(self, warm: WarmReads) -> Iterator[tuple[list[KeyType], Iterable[Any]]]:
        """Keys and values of some rows after the other."""
        rows, schema = self._spots, self._entry.schema
        # Samples that are huge are not read by the hundred.
        most = min(max(_READ_BYTES // (schema.fixed_size or 1), 1), READ_AHEAD)
        with self._ahead_in_order() as ahead:
            for leaf, first, start, end in self._portions(most, ahead):
                keys = cast("list[KeyType]", leaf.keys[start:end])
                items = None if rows is None else self._items_here(rows, leaf, first, start, end)
                if items is None:
                    yield keys, self._read_between(warm, leaf, start, end)
                    continue
                batch = self._as_batch([items])
                # Copies, since a view of an array of many would keep all of it in memory. What has no dimension is cut
                # out as an array, which iterating would not do.
                single = batch if schema.shape else (batch[i, ...] for i in range(len(batch)))
                yield keys, map(np.ndarray.copy, single)

    def _read_between(self, warm: WarmReads, leaf: Leaf, start: int, end: int) -> Iterator[Any]:
        """The values of some rows of a leaf."""
        alive, take = self._alive, warm.take
        keys, i = cast("list[KeyType]", leaf.keys), start
        if (self._entry.schema.fixed_size or 0) <= MOST_SHARED:
            warm.load(leaf, start, end)
        while i < end:
            alive()
            value = take(leaf, i)
            if value is not None:
                yield value
                i += 1
                continue
            stop = next((j for j in range(i + 1, end) if take(leaf, j) is not None), end)
            for _, read in self._read([(keys[j], leaf.row(j)) for j in range(i, stop)]):
                yield read
            i = stop

    def _sizes(self) -> list[tuple[str, object]]:
        return [("Number of Samples", len(self))]

    def _row_key(self, key: Any) -> KeyType:
        return self._check(key)

    def _samples(self) -> Iterator[tuple[KeyType, Found]]:
        return cast("Iterator[tuple[KeyType, Found]]", self._iterate())
