"""What a column fetches before it is read: because somebody says so, or since it is read in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from hangar_cloud.alive import Alive
from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import KeyType, RowKey, key_range
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_blocks import block_samples
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.neighbours import blocks_between
from hangar_cloud.prefetching import Part, Prefetch, part_sizes, parts_of
from hangar_cloud.reading import read_ahead_bytes
from hangar_cloud.storage import Storage

_KEYS_AT_ONCE: Final = 1024
# So many reads of the row behind the last one are taken for reading in order.
_STREAK: Final = 3
_LOOK_BYTES: Final = 16 * 1024 * 1024
# All but one part in so many is most of a column.
_REST_SHARE: Final = 4


class FetchingAhead:
    """The part of `ColumnReader` that fetches what is going to be read."""

    _alive: Alive
    _nodes: NodeReader
    _packs: PackReader
    _storage: Storage
    _next_row = -1
    _streak = 0
    _following: Prefetch | None = None
    _rest: Prefetch | None = None

    @property
    def _entry(self) -> ColumnEntry:
        raise NotImplementedError

    def _row_key(self, key: Any) -> RowKey:
        raise NotImplementedError

    def _check(self, key: Any, below: str = "") -> KeyType:
        raise NotImplementedError

    def _packed(self, row: Row) -> PackedSample:
        raise NotImplementedError

    def prefetch(self, keys: Iterable[Any]) -> Prefetch:
        """Begin to fetch samples that will be read soon, and return at once.

        What is on this machine already is not fetched. The rest is fetched in the order of the keys, in few requests at
        a time, into the cache: together with all other prefetches of this process at most some 50 requests are under
        way. A sample that is read meanwhile is waited for, not fetched twice. It ends when the checkout is closed.

        Args:
            keys: as `get_batch` takes them; of a nested column also the keys of samples, for all their subsamples.

        Returns:
            a handle: `wait(timeout=None)` waits until all is here, `done` says whether it is, `cancel()` sends no
            further request. Nobody has to use it.

        Raises:
            ValueError: `keys` is one key, and no sequence of keys.
            KeyError: what cannot be a key. Whatever else is wrong (no such key, no network, damaged bytes) is told when
                the sample is read.
        """
        self._alive()
        require_keys(keys)
        nested = self._entry.schema.column_layout == "nested"
        wanted = [
            self._check(key) if nested and not isinstance(key, (tuple, list)) else self._row_key(key) for key in keys
        ]
        parts = self._parts_for(wanted, self._entry) if self._can_fetch and wanted else None
        return Prefetch(parts, self._packs, self._still_open)

    def _still_open(self) -> bool:
        return self._alive.open

    @lazy_property
    def _can_fetch(self) -> bool:
        """Whether anything of this repository may have to be fetched, when it is asked first: that reads a file."""
        return not (self._storage.offline or self._storage.holds_everything)

    @contextmanager
    def _ahead_in_order(self, hold: bool = False) -> Iterator[Prefetch | None]:
        """Fetch what is to be read in order while the block lasts; None where there is nothing to fetch.

        Whoever reads says how far they are, by `Prefetch.at`, and finds what was fetched in `Prefetch.held` if told so.
        """
        ahead = self._read_ahead_from(0, hold)
        try:
            yield ahead
        finally:
            if ahead is not None:
                ahead.cancel()

    def _read_ahead_from(self, row: int, hold: bool = False) -> Prefetch | None:
        window = read_ahead_bytes()
        while window and not self._packs.keeps(4 * window):
            # What a small cache loses before it is read would be fetched twice.
            window //= 2
        if not window or not self._can_fetch or row >= self._entry.count:
            return None
        parts = self._parts_from(row, self._entry, part_sizes(window))
        return Prefetch(parts, self._packs, self._still_open, window, hold)

    def _follow(self, first: int, end: int) -> None:
        """Rows from `first` to before `end` were read, and were not in memory before: if that is in order, go ahead."""
        self._streak = self._streak + 1 if first == self._next_row else 0
        self._next_row = end
        ahead = self._following
        if self._streak < _STREAK:
            if ahead is not None:
                ahead.cancel()
                self._following = None
        elif ahead is None:
            self._following = self._read_ahead_from(end)
        else:
            ahead.at(end)

    def _fetch_rest(self, fetched: int) -> None:
        """Where so many rows were fetched for random batches, which are most of all: fetch the others too.

        Of small leaves, that no batch met so far, each would cost a wait for its records and one for its samples.
        """
        entry, window = self._entry, read_ahead_bytes()
        if self._rest is not None or fetched * _REST_SHARE < entry.count * (_REST_SHARE - 1):
            return
        if window and self._packs.keeps(4 * window):
            self._rest = Prefetch(self._parts_from(0, entry, part_sizes(window)), self._packs, self._still_open)

    def _parts_for(self, keys: Sequence[RowKey], entry: ColumnEntry) -> Iterator[Part]:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            self._nodes.prefetch_keys(entry.root, entry.schema, some)
            blocks: dict[BlockName, PackedSample] = {}
            leaves: dict[int, Leaf] = {}
            for key in some:
                for leaf, i in self._rows_of(key, entry):
                    row = leaf.row(i)
                    if row.place is not None and row.place[:2] not in blocks:
                        leaves[id(leaf)] = leaf
                        blocks[row.place[:2]] = self._packed(row)
            wanted = [sample.place for sample in self._packs.absent(list(blocks.values()))]
            for name, (leaf, i) in blocks_between(wanted, leaves.values()).items():
                blocks.setdefault(name, self._packed(leaf.row(i)))
            yield from parts_of([blocks[name] for name in sorted(blocks)])

    def _rows_of(self, key: RowKey, entry: ColumnEntry) -> Iterator[tuple[Leaf, int]]:
        """The rows that a key names, as leaves and numbers in them."""
        keys: Iterable[RowKey] = [key]
        if entry.schema.column_layout == "nested" and not isinstance(key, tuple):
            keys = (pair for pair, _ in self._nodes.range(entry.root, entry.schema, *key_range(key)))
        for one in keys:
            leaf = self._nodes.leaf_of(entry.root, entry.schema, one)
            row = None if leaf is None else leaf.position(one)
            if leaf is not None and row is not None:
                yield leaf, row

    def _parts_from(self, row: int, entry: ColumnEntry, sizes: Iterator[int]) -> Iterator[Part]:
        """All that is not here, from a row on; a part for each leaf at least, which brings the leaf too.

        Long samples are looked at some at a time, as everybody else waits meanwhile.
        """
        first, rows = 0, max(_LOOK_BYTES // (entry.schema.fixed_size or 1), 1)
        for ref in self._nodes.leaves(entry.root):
            end = first + ref.count
            if end > row:
                leaf = self._nodes.leaf(ref, entry.schema)
                start = max(row - first, 0)
                while start < len(leaf):
                    stop = min(start + rows, len(leaf))
                    yield from self._parts_of_rows(leaf, start, stop, first, sizes)
                    start = stop
            first = end

    def _parts_of_rows(self, leaf: Leaf, start: int, stop: int, first: int, sizes: Iterator[int]) -> Iterator[Part]:
        """What is not here of some rows of a leaf, before which there are `first` others."""
        absent, done = self._absent_blocks(leaf, start, stop), 0
        for part in parts_of(absent, sizes):
            done += len(part.samples)
            # About where its rows end: where all blocks are absent, and each has as many rows.
            yield part._replace(end=first + start + (stop - start) * done // len(absent))
        if not absent:
            yield Part([], 0, first + stop)

    def _absent_blocks(self, leaf: Leaf, start: int, stop: int) -> list[PackedSample]:
        """A sample of each block that rows of a leaf refer to and that is not on this machine."""
        if all(self._packs.is_whole(pack) for pack in leaf.packs()):
            return []
        return self._packs.absent(block_samples(leaf, self._entry.schema, start, stop))


def require_keys(keys: object) -> None:
    """Raise InvalidArgumentError for what is no sequence of sample keys.

    A text is one of texts, and bytes are one of numbers: their parts would be taken for keys that nobody meant.
    """
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        raise InvalidArgumentError(f"keys must be a sequence of sample keys, such as a list, not {str(keys)[:80]!r}")
