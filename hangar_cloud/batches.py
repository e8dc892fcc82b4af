"""Reading many samples of a column at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.backends.values import SampleValue
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.working_set import Found
from hangar_cloud.errors import InvalidArgumentError, SampleNotFoundError
from hangar_cloud.fetching_ahead import FetchingAhead, require_keys
from hangar_cloud.long_batches import long_batches
from hangar_cloud.prefetching import Prefetch
from hangar_cloud.reading import read_ahead_bytes, read_memory_bytes
from hangar_cloud.row_spots import RowSpots
from hangar_cloud.warm_reads import MOST_SHARED, WarmReads

BATCH_SIZE: Final = 256
_BATCHES_AHEAD: Final = 2
_MOST_LEAVES: Final = 128
Keys = Sequence[Any] | npt.NDArray[Any]
# Copied into the result one by one from here on; shorter ones are joined first, which costs less than a call for each.
_LONG_SAMPLE: Final = 4096


class BatchReading(FetchingAhead):
    """The part of `ColumnReader` that reads batches."""

    _name: str
    _may_read_warm = False

    def _where(self, key: RowKey) -> str:
        raise NotImplementedError

    def _iterate(self) -> Iterator[tuple[RowKey, Found]]:
        raise NotImplementedError

    def _leaves(self) -> Iterator[Leaf]:
        raise NotImplementedError

    def _read_all(self, keys: Sequence[RowKey]) -> list[SampleValue]:
        raise NotImplementedError

    def _payloads(self, keys: Sequence[RowKey], founds: Sequence[Found]) -> list[bytes | memoryview]:
        raise NotImplementedError

    def _find_all(self, keys: Sequence[RowKey]) -> list[Found]:
        raise NotImplementedError

    def get_batch(self, keys: Iterable[Any], *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any] | list[Any]:
        """The values of many keys, in the order asked; a key may be asked more than once.

        What is not in memory is read together, and fetched in few requests.

        Args:
            keys: sample keys, such as a list, a range or an integer array; of a nested column pairs (sample,
                subsample).
            out: an array to write the values into, of the shape and dtype of the result and C-contiguous; only for
                columns of a fixed shape. It is left as it was where some value cannot be read.

        Returns:
            for a fixed-shape ndarray column one array of shape ``(len(keys), *shape)``: `out` if given, else a fresh
            one that may be changed. For others a list.

        Raises:
            KeyError: some key does not exist; it is named.
            ValueError: `out` cannot take the values, or `keys` is one key.
            CorruptDataError: the stored bytes of some sample are damaged.
            FileNotFoundError: some value is not on this machine, and the repository is offline.
        """
        self._alive()
        wanted = _listed(keys)
        schema = self._entry.schema
        if out is not None:
            self._check_out(out, len(wanted))
        if schema.schema_type != "fixed_shape":
            return self._values_of(wanted)
        items = self._items_of(wanted)
        if out is not None:
            out.reshape(-1).view(np.uint8)[:] = items.view(np.uint8)
            return out
        return self._as_batch([items])

    def iter_batches(
        self, batch_size: int = BATCH_SIZE, *, keys: Iterable[Any] | None = None, drop_last: bool = False
    ) -> Iterator[tuple[list[Any], npt.NDArray[Any] | list[Any]]]:
        """Batches of the column, one after the other.

        Args:
            batch_size: samples in a batch; the last one may have fewer.
            keys: which samples, and in which order, as `get_batch` takes them; all in key order by default. Of a
                generator no more is taken than the next batch needs, and two batches more where samples may have to be
                fetched.
            drop_last: leave out a last batch of fewer samples.

        Returns:
            pairs of the keys of a batch and its values as `get_batch` gives them: an array of shape ``(batch, *shape)``
            or a list. Keys of a nested column are pairs (sample, subsample).

        Raises:
            ValueError: `batch_size` is not a whole number from 1 on, or `keys` is one key. Otherwise, at the batch, as
                `get_batch`.
        """
        self._alive()
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise InvalidArgumentError(f"batch_size must be a whole number from 1 on, not {batch_size!r}")
        whole = None if drop_last else 1
        if keys is None:
            return self._batches_in_order(int(batch_size), whole or int(batch_size))
        require_keys(keys)
        return self._batches_of(iter(keys), int(batch_size), whole or int(batch_size))

    def _batches_in_order(self, size: int, least: int) -> Iterator[tuple[list[Any], Any]]:
        rows = self._spots
        if rows is None:
            yield from self._batches_of((key for key, _ in self._iterate()), size, least)
            return
        if rows.sample_size > MOST_SHARED:
            yield from long_batches(self, size, least)
            return
        keys: list[Any] = []
        parts: list[npt.NDArray[np.void]] = []
        with self._ahead_in_order() as ahead:
            for leaf, first, start, stop in self._portions(size, ahead):
                at = start
                while at < stop:
                    end = min(at + size - len(keys), stop)
                    parts.append(self._items_between(rows, leaf, first, at, end))
                    keys += leaf.keys[at:end]
                    at = end
                    if len(keys) == size:
                        yield keys, self._as_batch(parts)
                        keys, parts = [], []
        if len(keys) >= least:
            yield keys, self._as_batch(parts)

    def _portions(self, most: int, ahead: Prefetch | None) -> Iterator[tuple[Leaf, int, int, int]]:
        """The rows in key order, at most so many at once: their leaf, the rows before it, and where in it they are."""
        for leaf, first in self._numbered_leaves():
            for start in range(0, len(leaf), most):
                self._alive()
                if ahead is not None:
                    ahead.at(first + start)
                yield leaf, first, start, min(start + most, len(leaf))

    def _items_between(self, rows: RowSpots, leaf: Leaf, first: int, start: int, end: int) -> npt.NDArray[np.void]:
        """The payloads of rows of a leaf, as `_items_of` gives those of keys."""
        items = self._items_here(rows, leaf, first, start, end)
        return self._read_items(leaf.keys[start:end]) if items is None else items

    def _items_here(self, rows: RowSpots, leaf: Leaf, first: int, start: int, end: int) -> npt.NDArray[np.void] | None:
        """The same where they can be gathered from memory, after what is not there was brought there; else None."""
        spots = rows.rows(first + start, first + end)
        items = rows.gather(spots)
        if items is None and rows.sample_size <= MOST_SHARED:
            assert self._warm is not None
            self._warm.load(leaf, start, end)
            rows.add_rows(leaf, first, start, end)
            items = rows.gather(spots)
        return items

    def _as_batch(self, parts: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[Any]:
        items = parts[0] if len(parts) == 1 else np.concatenate(parts)
        schema = self._entry.schema
        return items.view(schema.numpy_dtype).reshape(len(items), *(schema.shape or ()))

    def _numbered_leaves(self) -> Iterator[tuple[Leaf, int]]:
        """The leaves in key order, and how many rows come before each."""
        first = 0
        for leaf in self._leaves():
            yield leaf, first
            first += len(leaf)

    def _batches_of(self, keys: Iterator[Any], size: int, least: int) -> Iterator[tuple[list[Any], Any]]:
        coming: deque[tuple[list[Any], Prefetch | None]] = deque()
        try:
            while True:
                most = 1 + (_BATCHES_AHEAD if self._can_fetch and read_ahead_bytes() else 0)
                while len(coming) < most and (batch := list(islice(keys, size))):
                    coming.append((batch, self._fetched_early(batch) if most > 1 else None))
                if not coming or len(coming[0][0]) < least:
                    return
                batch, _ = coming.popleft()
                yield batch, self.get_batch(batch)
        finally:
            for _, fetching in coming:
                if fetching is not None:
                    fetching.cancel()

    def _fetched_early(self, keys: Sequence[Any]) -> Prefetch | None:
        with suppress(SampleNotFoundError):  # told when it is the turn of these keys
            return self.prefetch(keys)
        return None

    @lazy_property
    def _warm(self) -> WarmReads | None:
        """The short way to values that are in memory; None where what is staged comes first."""
        return WarmReads(self._nodes, self._packs, self._entry) if self._may_read_warm else None

    @lazy_property
    def _spots(self) -> RowSpots | None:
        """Where rows are in memory; None where that is not kept track of."""
        if self._warm is None or self._entry.schema.schema_type != "fixed_shape":
            return None
        # Half of it: at 10^7 rows the places of rows alone would take as much again as their decoded leaves.
        spots = RowSpots(self._packs, self._entry, read_memory_bytes() // 2)
        return spots if spots.useful else None

    @lazy_property
    def _one(self) -> Callable[[Any], Any] | None:
        """What gives one sample that is known to be in memory; None where that is not kept track of."""
        return None if self._spots is None else self._spots.one

    def _items_of(self, keys: Keys) -> npt.NDArray[np.void]:
        """The payloads of some keys, each an item, in a fresh array."""
        rows = self._spots
        if rows is None:
            return self._read_items([self._row_key(key) for key in keys])
        self._packs.let_go()
        spots = rows.find(keys)
        items = rows.gather(spots)
        if items is not None:
            return items
        missing = [self._row_key(keys[i]) for i in np.flatnonzero(~rows.known(spots)).tolist()]
        self._load(rows, missing)
        spots = rows.find(keys)
        items = rows.gather(spots)
        if items is not None:
            return items
        known = rows.known(spots)
        here = rows.gather(spots[known])
        if here is None:  # dropped meanwhile
            known[:] = False
        read = self._read_items([self._row_key(keys[i]) for i in np.flatnonzero(~known).tolist()])
        if not known.any():
            return read
        items = np.empty(len(keys), read.dtype)
        items[known], items[~known] = here, read
        return items

    def _load(self, rows: RowSpots, keys: Sequence[RowKey]) -> None:
        """Have samples in memory where they can be gathered. What cannot be read is left to be told of later."""
        warm, entry = self._warm, self._entry
        assert warm is not None
        places = [place for key in keys if (place := warm.locate(key)) is not None]
        if len(places) == len(keys):
            reach = self._load_places(warm, rows, places)
            self._follow_places(places, len(keys), reach)
            return
        reach = 0
        # Of a column of millions a batch touches more leaves than are kept in memory.
        for some in self._nodes.by_leaves(entry.root, keys, _MOST_LEAVES):
            self._find_all(some)
            for key in some:
                warm.learn(key)
            found = [place for key in some if (place := warm.locate(key)) is not None]
            reach = max(reach, self._load_places(warm, rows, found))
        ends = [place for key in (keys[0], keys[-1]) if (place := warm.locate(key)) is not None]
        self._follow_places(ends, len(keys), reach)

    def _load_places(self, warm: WarmReads, rows: RowSpots, places: Sequence[tuple[Leaf, int, int]]) -> int:
        """Have rows in memory; returns the one behind the last that is there now, since some beside them may be."""
        reach = 0
        if rows.sample_size <= MOST_SHARED:
            for leaf, first, start, end in warm.load_rows(places, self._can_fetch):
                rows.add_rows(leaf, first, start, end)
                reach = max(reach, first + end)
            self._fetch_rest(warm.rows_fetched)
        for leaf, first, row in places:
            rows.add_leaf(leaf, first)
            rows.add_row(leaf, first, row)
        return reach

    def _read_items(self, keys: Sequence[RowKey]) -> npt.NDArray[np.void]:
        size = self._entry.schema.fixed_size or 0
        payloads = self._payloads_of(keys)
        for key, data in zip(keys, payloads, strict=True):
            if len(data) != size:
                raise CorruptDataError(f"{self._where(key)}: {len(data)} bytes are not one sample")
        return self._joined(payloads)

    def _joined(self, payloads: Sequence[bytes | memoryview]) -> npt.NDArray[np.void]:
        """Payloads, each of one sample, as items of a fresh array."""
        size, count = self._entry.schema.fixed_size or 0, len(payloads)
        if size < _LONG_SAMPLE:
            return np.frombuffer(bytearray().join(payloads), f"V{size}") if count else np.empty(0, f"V{size}")
        items = np.empty(count, f"V{size}")
        rows = items.view(np.uint8).reshape(count, size)
        for row, data in zip(rows, payloads, strict=True):
            row[:] = np.frombuffer(data, np.uint8)
        return items

    def _payloads_of(self, keys: Sequence[RowKey]) -> list[bytes | memoryview]:
        warm = self._warm
        payloads = [None if warm is None else warm.payload(key) for key in keys]
        missing = [i for i, payload in enumerate(payloads) if payload is None]
        wanted = [keys[i] for i in missing]
        for i, payload in zip(missing, self._payloads(wanted, self._find_all(wanted)), strict=True):
            payloads[i] = payload
        return cast("list[bytes | memoryview]", payloads)

    def _learned(self, warm: WarmReads, keys: Sequence[RowKey]) -> None:
        """Remember where keys are that were just read, for next time; and fetch ahead if they were read in order."""
        rows, reach = self._spots, 0
        for key in keys:
            warm.learn(key)
            place = None if rows is None else warm.locate(key)
            if rows is not None and place is not None:
                leaf, first, row = place
                rows.add_leaf(leaf, first)
                compared = warm.prove_around(leaf, row)
                if compared is None:
                    rows.add_row(leaf, first, row)
                else:
                    rows.add_rows(leaf, first, *compared)
                    reach = max(reach, first + compared[1])
        ends = [place for key in (*keys[:1], *keys[-1:]) if (place := warm.locate(key)) is not None]
        self._follow_places(ends, len(keys), reach)

    def _follow_places(self, places: Sequence[tuple[Leaf, int, int]], count: int, reach: int) -> None:
        """So many rows are being read, from the first to the last of some places: follow them if none lies between.

        The next ones that are not in memory are those from `reach` on, if that is further.
        """
        if places:
            (_, low_leaf, low_row), (_, high_leaf, high_row) = places[0], places[-1]
            low, high = low_leaf + low_row, high_leaf + high_row
            if high - low == count - 1:
                self._follow(low, max(high + 1, reach))

    def _values_of(self, keys: Keys) -> list[Any]:
        wanted = [self._row_key(key) for key in keys]
        warm = self._warm
        if warm is None:
            return self._read_all(wanted)
        values = [warm.checked(key) for key in wanted]
        missing = [i for i, value in enumerate(values) if value is None]
        for i, value in zip(missing, self._read_all([wanted[i] for i in missing]), strict=True):
            values[i] = value
        self._learned(warm, [wanted[i] for i in missing])
        return values

    def _check_out(self, out: Any, count: int) -> None:
        schema = self._entry.schema
        what = f"column {self._name!r}: out"
        if schema.schema_type != "fixed_shape":
            raise InvalidArgumentError(f"{what} is for columns of a fixed shape; the values of this one come as a list")
        shape = (count, *(schema.shape or ()))
        if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != schema.numpy_dtype:
            given = f"{out.shape} of {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
            raise InvalidArgumentError(f"{what} must be an array of shape {shape} of {schema.numpy_dtype}, not {given}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise InvalidArgumentError(f"{what} must be C-contiguous and writable")


def _listed(keys: Iterable[Any]) -> Keys:
    """Keys that can be counted; arrays of whole numbers stay what they are."""
    if isinstance(keys, list):
        return keys
    require_keys(keys)
    if not isinstance(keys, np.ndarray):
        return list(keys)
    # As a list, what is masked is None, which no key is.
    plain = keys.ndim == 1 and keys.dtype.kind == "i" and not isinstance(keys, np.ma.MaskedArray)
    return keys if plain else list(keys.tolist()) if keys.ndim else [keys.item()]
