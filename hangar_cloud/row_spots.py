"""Where the samples of a column of one shape lie in memory, by row: what batches are gathered with.

The rows of a column are numbered in key order. Whole numbers that follow each other become runs, so a batch of keys is
turned into rows by numpy alone; text and pairs are looked up in a dict.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from mmap import mmap
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.arenas import OFFSET, OFFSET_BITS, Spots
from hangar_cloud.backends.blocks import GROUP_BYTES
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.pack_reader import DecodedBlock, PackReader
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_blocks import BlockRows, block_name, block_rows
from hangar_cloud.catalog.schema import ColumnSchema

_ROW_BYTES: Final = 8
_NAME_BYTES: Final = 120
_MOST_LISTED: Final = 4096
_KEY_TYPES: Final = frozenset((int, str))

Numbers = npt.NDArray[np.int64]


class _Runs(NamedTuple):
    """Whole-number keys that follow each other: the first, how many there are, and the row of the first."""

    firsts: Numbers
    lengths: npt.NDArray[np.uint64]
    rows: Numbers


_NO_RUNS: Final = _Runs(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64))


class RowSpots:
    """The spots of a column's rows, as far as they were added. Safe to use from many threads.

    Args:
        packs: has the decoded blocks.
        entry: the column, whose samples are all of one size.
        limit: bytes that this may take. A column of more rows is not kept track of; and keys beyond are forgotten.
    """

    def __init__(self, packs: PackReader, entry: ColumnEntry, limit: int) -> None:
        self._packs = packs
        self._arenas = packs.arenas
        self.sample_size = entry.schema.fixed_size or 0
        self._count = entry.count
        self._limit = limit
        self.useful = self.sample_size > 0 and self._count * _ROW_BYTES <= limit
        # The last one belongs to no row: keys that are not known are looked for there. Pages of zeros take no memory.
        self._spots: Spots = np.zeros(self._count + 1 if self.useful else 1, np.int64)
        self._runs = _NO_RUNS
        self._run_list: tuple[list[int], list[int], list[int]] = [], [], []
        self._named: dict[RowKey, int] = {}
        self.one = self._maker(entry.schema)
        self._leaves: set[int] = set()
        self._lock = ForkLock()

    def find(self, keys: Sequence[Any] | npt.NDArray[Any]) -> Spots:
        """The spots of some keys, 0 where it is not known."""
        if isinstance(keys, np.ndarray):
            return self._spots[self._rows_of_numbers(keys.astype(np.int64, copy=False))]
        kinds = set(map(type, keys))
        if kinds <= {int, np.int64}:
            try:
                return self._spots[self._rows_of_numbers(np.array(keys, np.int64))]
            except OverflowError:
                return np.zeros(len(keys), np.int64)
        if kinds == {str} or (kinds == {tuple} and all(map(_is_pair, keys))):
            get, nowhere = self._named.get, self._count
            return self._spots[[get(key, nowhere) for key in keys]]
        return np.zeros(len(keys), np.int64)

    def _maker(self, schema: ColumnSchema) -> Callable[[Any], npt.NDArray[Any] | None]:
        """What gives a copy of one sample by its key, None where it is not known to be in memory."""
        dtype, shape = schema.numpy_dtype, schema.shape or ()
        count = self.sample_size // dtype.itemsize
        from_bytes, memory_at, spot_of = np.frombuffer, self._arenas.memory, self._spots.item
        flat = len(shape) == 1

        def one(key: Any) -> npt.NDArray[Any] | None:
            kind = type(key)
            if kind is int:
                firsts, lengths, rows = self._run_list
                run = bisect_right(firsts, key) - 1
                if run < 0:
                    return None
                row = key - firsts[run]
                if row >= lengths[run]:
                    return None
                row += rows[run]
            elif kind is str or (kind is tuple and _is_pair(key)):
                row = self._named.get(key, self._count)
            else:
                return None
            spot = spot_of(row)
            memory = memory_at.get(spot >> OFFSET_BITS)
            if memory is None:
                return None
            array = from_bytes(memory, dtype, count, spot & OFFSET)
            return array.copy() if flat else array.reshape(shape).copy()

        return one

    def gather(self, spots: Spots) -> npt.NDArray[np.void] | None:
        """Copies of the samples at some spots, as items of their bytes; None if any is not there."""
        return self._arenas.gather(spots, self.sample_size)

    def known(self, spots: Spots) -> npt.NDArray[np.bool_]:
        """Which samples are there."""
        return self._arenas.known(spots)

    def rows(self, start: int, end: int) -> Spots:
        """The spots of the rows from `start` to before `end`."""
        return self._spots[start:end]

    def add_leaf(self, leaf: Leaf, first: int) -> None:
        """Learn the keys of a leaf whose first row is number `first`."""
        if not self.useful or first in self._leaves:
            return
        with self._lock.lock:
            if self._nbytes > self._limit:
                self._runs, self._run_list, self._named = _NO_RUNS, ([], [], []), {}
                self._leaves.clear()
            self._leaves.add(first)
            if leaf.is_ascending:
                assert leaf.key_numbers is not None
                self._add_runs(leaf.key_numbers[0], first)
                return
            keys = leaf.keys
            numbers = [key for key in keys if type(key) is int]  # they come before text
            if numbers:
                self._add_runs(np.array(numbers, np.int64), first)
            for row, key in enumerate(keys[len(numbers) :], first + len(numbers)):
                self._named[key] = row

    def add_row(self, leaf: Leaf, first: int, row: int) -> None:
        """Learn where a row of a leaf is, if it is in memory and was compared with its digest."""
        if not self.useful or self._arenas.holds(self._spots.item(first + row)):
            return
        name = block_name(leaf, row)
        if name is None:
            self.add_rows(leaf, first, row, row + 1)
            return
        block, places = self._packs.decoded.get(name), leaf.places
        if block is None or places is None or not self._is_worth_a_copy(block):
            return
        start, size = places[4].item(row), places[5].item(row)
        if start in block.proven and size == self.sample_size <= len(block.raw) - start:
            self._spots[first + row] = self._packs.spot(name, block) + start

    def add_rows(self, leaf: Leaf, first: int, start: int, end: int) -> None:
        """Learn of rows of a leaf what `add_row` learns of one."""
        if not self.useful:
            return
        if leaf.is_inline[start:end].any():
            self._add_values(leaf, first)
        for part in block_rows(leaf, start, end):
            block = self._packs.decoded.get((part.pack, part.offset))
            if block is not None:
                self._add_block(leaf, first, part, block)

    def _is_worth_a_copy(self, block: DecodedBlock) -> bool:
        """Whether to bring a block where batches are gathered: a long sample only when it is wanted for a second time.

        Fresh memory for it costs more than all else that is done for one that is read in order, once.
        """
        if self.sample_size <= GROUP_BYTES or block.wanted or isinstance(block.raw.obj, mmap):
            return True
        block.wanted = True
        return False

    def _add_block(self, leaf: Leaf, first: int, rows: BlockRows, block: DecodedBlock) -> None:
        """Learn where rows are that lie in one block."""
        assert leaf.places is not None
        starts, sizes = leaf.places[4][rows.first : rows.end], leaf.places[5][rows.first : rows.end]
        spot = self._packs.spot((rows.pack, rows.offset), block)
        known = (sizes == self.sample_size) & (starts <= len(block.raw) - self.sample_size)
        if not block.proven.issuperset(begins := starts.tolist()):
            known &= np.array([start in block.proven for start in begins])
        self._spots[first + rows.first : first + rows.end][known] = (starts + spot)[known]

    @property
    def _nbytes(self) -> int:
        """Bytes that are taken, estimated."""
        rows = sum(len(runs) for runs in self._runs) * 8 + len(self._named) * _NAME_BYTES
        return rows + self._count * _ROW_BYTES

    def _rows_of_numbers(self, keys: Numbers) -> Numbers:
        firsts, lengths, rows = self._runs
        if not len(firsts):
            return np.full(len(keys), self._count)
        # One run, the common case, needs no search.
        run: Any = 0 if len(firsts) == 1 else firsts.searchsorted(keys, "right") - 1
        offsets: Numbers = keys - firsts[run]
        # What lies before its run is huge as an unsigned number.
        found = offsets.view(np.uint64) < lengths[run]
        offsets += rows[run]
        if not found.all():
            offsets[~found] = self._count
        return offsets

    def _add_runs(self, keys: Numbers, first: int) -> None:
        starts = np.concatenate(([0], np.flatnonzero(np.diff(keys) != 1) + 1))
        new = _Runs(keys[starts], np.diff(np.append(starts, len(keys))).astype(np.uint64), starts + first)
        old = self._runs
        at = int(old.firsts.searchsorted(keys[0]))
        parts: Any = [np.concatenate((one[:at], two, one[at:])) for one, two in zip(old, new, strict=True)]
        firsts, lengths, rows = parts
        behind = lengths[:-1].astype(np.int64)
        joins = (firsts[1:] == firsts[:-1] + behind) & (rows[1:] == rows[:-1] + behind)
        if joins.any():
            heads = np.flatnonzero(np.concatenate(([True], ~joins)))
            firsts, rows, lengths = firsts[heads], rows[heads], np.add.reduceat(lengths, heads)
        self._runs = _Runs(firsts, lengths, rows)
        few = len(firsts) <= _MOST_LISTED
        self._run_list = (firsts.tolist(), lengths.tolist(), rows.tolist()) if few else ([], [], [])

    def _add_values(self, leaf: Leaf, first: int) -> None:
        """Learn where the values are that stand in a leaf: all of it, since that is one copy."""
        size, raw = self.sample_size, leaf.raw_values
        if raw is not None and raw.shape[1] == size:
            rows = np.flatnonzero(leaf.is_inline)
            data = raw[rows].tobytes()
        else:
            values = leaf.values or []
            rows = np.array([i for i, value in enumerate(values) if value is not None and len(value) == size], np.int64)
            data = b"".join([values[row] or b"" for row in rows])
        if len(rows):
            spot, _, _ = self._arenas.place(memoryview(data))
            self._spots[first + rows] = spot + np.arange(len(rows)) * size


def _is_pair(key: tuple[Any, ...]) -> bool:
    """Whether a tuple may be looked up as it is: True and 1.0 would be found as 1."""
    return len(key) == 2 and type(key[0]) in _KEY_TYPES and type(key[1]) in _KEY_TYPES
