"""The records of columns as a loader needs them: read once, leaf by leaf, and let go of when it is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Event
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.records import NodeRef
from hangar_cloud.column import ColumnReader
from hangar_cloud.errors import HangarError
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.progress import item_progress

VALUE_OVERHEAD: Final = 64
_MOST_INLINE_BYTES: Final = 64 * 1024 * 1024
_LEAVES_AT_ONCE: Final = 64
"""So few that they are still in memory when they are come to."""
_MOST_BEGUN: Final = 192 * 1024
"""Rows of so many are still in memory too, even of long texts, when the last column is come to."""
_COLUMNS_AT_ONCE: Final = 8


class Spots(NamedTuple):
    """Of each sample of a column: its pack (numbered as they are met, -1 for inline), offset, start, and size."""

    pack: Positions
    offset: Positions
    start: Positions
    size: Positions


class Records(NamedTuple):
    """All rows of a column, in the order of their keys.

    Attributes:
        leaves: where the rows stand.
        counts: number of rows in each leaf.
        keys: of the rows.
        spots: where their bytes lie.
        values: the values themselves, where all of them stand in the records and are of one shape.
    """

    leaves: list[NodeRef]
    counts: list[int]
    keys: list[Any]
    spots: Spots
    values: npt.NDArray[Any] | None


class RecordsOnce:
    """Records that are looked at twice and read once: for the keys of the samples, and then for where they lie."""

    def __init__(self) -> None:
        self._read: dict[int, Records] = {}

    def of(self, column: ColumnReader) -> Records:
        """The records of a column, which are kept. Raises as reading records does."""
        found = self._read.get(id(column))
        if found is None:
            found = self._read[id(column)] = _read(column)
        return found

    def take(self, column: ColumnReader) -> Records:
        """The same, no longer kept."""
        found = self.of(column)
        del self._read[id(column)]
        return found

    def clear(self) -> None:
        """Keep nothing."""
        self._read.clear()


def leaves_of(column: ColumnReader) -> Iterator[Leaf]:
    """The leaves of a column, fetched many at a time where they are not here; a terminal is shown how far it is.

    Raises:
        as reading records does.
    """
    nodes, entry = column._nodes, column._entry
    refs, leaves = list(nodes.leaves(entry.root)), column._leaves()
    with item_progress(f"reading the records of {column.column!r}", "rows", entry.count) as progress:
        for start in range(0, len(refs), _LEAVES_AT_ONCE):
            if not column._storage.holds_everything:
                nodes.prefetch(refs[start : start + _LEAVES_AT_ONCE], entry.schema)
            for leaf in islice(leaves, _LEAVES_AT_ONCE):
                yield leaf
                progress(len(leaf))


def begin(columns: Iterable[ColumnReader]) -> None:
    """Have what is read first of the records of several columns here: asked for at once, and not one by one.

    Leaves are in memory then, if all of them fit. What cannot be read is told by who reads it; where one column's
    cannot, no further one is begun with.
    """
    far = {
        (id(column._nodes), column._entry.root.digest, column._entry.schema): column
        for column in columns
        if column._entry.root is not None and not column._storage.holds_everything
    }
    if len(far) < 2:
        return
    with_leaves = sum(column._entry.count for column in far.values()) <= _MOST_BEGUN
    failed = Event()

    def begin_one(column: ColumnReader) -> None:
        try:
            if not failed.is_set():
                _begin(column, with_leaves)
        except HangarError:
            failed.set()

    with ThreadPoolExecutor(_COLUMNS_AT_ONCE, "hangar-records") as pool:
        list(pool.map(begin_one, far.values()))


def _begin(column: ColumnReader, with_leaves: bool) -> None:
    nodes, entry = column._nodes, column._entry
    refs = list(islice(nodes.leaves(entry.root), _LEAVES_AT_ONCE))
    if with_leaves:
        nodes.prefetch(refs, entry.schema)


def _read(column: ColumnReader) -> Records:
    names: dict[bytes, int] = {}
    counts: list[int] = []
    keys: list[Any] = []
    spots: list[Spots] = []
    inline = _InlineValues(column)
    for leaf in leaves_of(column):
        counts.append(len(leaf))
        keys += leaf.keys
        spots.append(_spots_of(leaf, column, names))
        inline.add(leaf)
    leaves = list(column._nodes.leaves(column._entry.root))
    return Records(leaves, counts, keys, _joined(spots), inline.joined())


class _InlineValues:
    """The values of a column of fixed shape, if all stand in its records and they are not too many to keep."""

    def __init__(self, column: ColumnReader) -> None:
        self._schema = column._entry.schema
        self._size = self._schema.fixed_size
        few = self._size is not None and column._entry.count * self._size <= _MOST_INLINE_BYTES
        self._parts: list[npt.NDArray[Any]] | None = [] if few else None

    def add(self, leaf: Leaf) -> None:
        if self._parts is None:
            return
        raw = leaf.raw_values if leaf.is_inline.all() else None
        if raw is None or raw.shape[1] != self._size:
            self._parts = None
        else:
            self._parts.append(raw)

    def joined(self) -> npt.NDArray[Any] | None:
        if not self._parts:
            return None
        joined = np.concatenate(self._parts)
        return joined.reshape(-1).view(self._schema.numpy_dtype).reshape(len(joined), *(self._schema.shape or ()))


def _joined(parts: list[Spots]) -> Spots:
    empty = np.empty(0, np.int64)
    return Spots(*(np.concatenate([empty, *[part[i] for part in parts]]) for i in range(4)))


def _spots_of(leaf: Leaf, column: ColumnReader, names: dict[bytes, int]) -> Spots:
    count, packed, size = len(leaf), leaf.packed, column._entry.schema.fixed_size
    inline = np.full(count, -1, np.int64)
    if packed is None:
        sizes = _inline_sizes(leaf.values) if size is None else np.full(count, size, np.int64)
        return Spots(inline, inline, inline, sizes)
    _, packs, offset, _, start, size_of = packed
    offsets, sizes = np.array(offset, np.int64), np.array(size_of, np.int64)
    if leaf.values is not None:
        sizes = np.where(offsets < 0, _inline_sizes(leaf.values), sizes)
    return Spots(np.where(offsets < 0, -1, _pack_numbers(packs, names)), offsets, np.array(start, np.int64), sizes)


def _pack_numbers(packs: bytes, names: dict[bytes, int]) -> Positions:
    """A number for the pack of each row. Rows that follow each other mostly lie in one."""
    halves = np.frombuffer(packs, np.uint64).reshape(-1, 2)
    changed = np.flatnonzero(np.any(halves[1:] != halves[:-1], axis=1)) + 1
    begins = np.append(np.zeros(1, np.int64), changed)
    numbers = [names.setdefault(packs[i * 16 : i * 16 + 16], len(names)) for i in begins.tolist()]
    return np.repeat(np.array(numbers, np.int64), np.diff(np.append(begins, len(halves))))


def _inline_sizes(values: list[bytes | None] | None) -> Positions:
    return np.array([VALUE_OVERHEAD + len(value or b"") for value in values or ()], np.int64)
