"""The samples of a loader by position: read in planned reads, and kept in memory where all of them fit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Final

import numpy as np

from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.blocks import GROUP_BYTES
from hangar_cloud.backends.packs import MOST_UNUSED
from hangar_cloud.backends.reused_memory import ReusedMemory
from hangar_cloud.brought_blocks import BroughtBlocks
from hangar_cloud.errors import HangarError
from hangar_cloud.loaders.fields import Field, Values
from hangar_cloud.loaders.order import block_edges
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.records import Spots
from hangar_cloud.loaders.selection import SampleKey, Selection
from hangar_cloud.loaders.stretches import addresses
from hangar_cloud.loaders.strips import strip_edges
from hangar_cloud.loaders.whereabouts import byte_order, find, picked

LEAST_BLOCK: Final = 1024 * 1024
MOST_BLOCK: Final = 2 * 1024 * 1024
# Of large samples a block has so many, up to its most bytes, and some that lie beside each other are fetched by one
# request. Smaller ones would wait longer for their first byte than they receive, and cost a server up to twice as much
# for each byte.
_BLOCK_SAMPLES: Final = 64
_STRIP_BLOCKS: Final = 4
MOST_STRIP: Final = _STRIP_BLOCKS * MOST_BLOCK
# Blocks of samples of many sizes may be longer than they should, each by a sample.
_MOST_TOGETHER: Final = MOST_STRIP + MOST_BLOCK
# Other columns follow the one that blocks are cut by: they would make windows too large.
_MOST_OF_ALL: Final = 0.9
_READ_BYTES: Final = 8 * 1024 * 1024


class SampleSource:
    """The samples of a selection. Position 0 is the sample whose bytes lie first.

    Args:
        selection: columns and keys.
        keep_bytes: if all samples take no more than this, they stay in memory once read.
        brought_bytes: what is fetched before it is read is held in memory up to so many bytes.
        reused_bytes: memory of batches that nobody has any more is held up to so many bytes.

    `count` is their number, `key_order` the positions in the order of the selection's keys (None: 0, 1, 2 …), `has_all`
    whether all are in memory, `shares_in_vain` whether processes that should have brought some to this machine did not.
    """

    def __init__(self, selection: Selection, keep_bytes: int, brought_bytes: int = 0, reused_bytes: int = 0) -> None:
        self._selection = selection
        self.shares_in_vain = False
        self.count = len(selection.keys)
        self._brought: BroughtBlocks[BlockName] = BroughtBlocks(brought_bytes)
        self._reused_bytes = reused_bytes
        self._memory, self._renewed = ReusedMemory(reused_bytes), True
        self.fields = {
            name: Field(column, selection.by_subsample, self._brought) for name, column in selection.columns.items()
        }
        self._lay_out()
        if not self.can_bring:
            # Portions are large then, and other blocks are decoded beside them.
            self._brought.room = brought_bytes * 2 // 5
        self.keeps = self.bytes_of(None) <= keep_bytes
        self._make_room()

    def _lay_out(self) -> None:
        """Samples lie as those of the column with the most bytes do; other columns follow it."""
        found = {name: find(field.column, self._selection) for name, field in self.fields.items()}
        sizes = sum((where.spots.size for where in found.values()), np.zeros(self.count, np.int64))
        biggest = max(found.values(), key=lambda where: int(where.spots.size.sum()))
        order = byte_order(biggest.spots)
        for name, field in self.fields.items():
            field.locate(found[name], order)
        self._order = order
        self.keys: list[SampleKey] = self._selection.keys
        self.key_order: Positions | None = None
        if order is not None:
            self.keys = [self._selection.keys[i] for i in order.tolist()]
            self.key_order = np.empty(self.count, np.int64)
            self.key_order[order] = np.arange(self.count)
            sizes = sizes[order]
        equal = self.count == 0 or bool((sizes == sizes[0]).all())
        self._sizes: Positions | int = int(sizes[:1].sum()) if equal else sizes
        self._lined_up = self._by_stretches(biggest.spots if order is None else picked(biggest.spots, order))

    def _by_stretches(self, spots: Spots) -> tuple[Positions, Positions] | None:
        """The edges of blocks that end where stretches of packs do, and their lanes; None if samples do not lie so."""
        is_most = spots.size.sum() >= _MOST_OF_ALL * self.bytes_of(None)
        # Of larger ones few begin where a stretch does.
        is_fit = self.block_bytes == MOST_BLOCK and self.sample_bytes <= 2 * MOST_UNUSED
        found = addresses(spots) if is_most and is_fit else None
        if found is None:
            return None
        lanes = found // MOST_BLOCK
        firsts = np.flatnonzero(np.diff(lanes, prepend=-1))
        return np.append(firsts, self.count), lanes[firsts]

    def _make_room(self) -> None:
        # Made at once and not when it is needed, which threads of several iterators may do together. What is not
        # written to takes no memory.
        self._kept = {name: field.empty(self.count) for name, field in self.fields.items()} if self.keeps else {}
        self._have = np.zeros(self.count, np.bool_)
        self.has_all = self.count == 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_have", "has_all")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_room()

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample in memory, on average."""
        return self.bytes_of(None) // max(self.count, 1)

    @property
    def block_bytes(self) -> int:
        """About as many bytes of neighbouring samples make a block: 1 MiB, and up to 2 MiB of large samples."""
        return min(max(_BLOCK_SAMPLES * self.sample_bytes, LEAST_BLOCK), MOST_BLOCK)

    @property
    def strip_blocks(self) -> int:
        """So many blocks that lie beside each other are best fetched together, at most."""
        if self.sample_bytes < GROUP_BYTES:
            return 1
        return max(1, min(_STRIP_BLOCKS, MOST_STRIP // max(self.block_bytes, self.sample_bytes)))

    @property
    def strip_bytes(self) -> int:
        """Bytes of what is fetched by one request, about."""
        return max(MOST_STRIP, self.sample_bytes)

    def can_bring_at_once(self, size: int, beside: int) -> bool:
        """Whether so many bytes can be brought before they are read: to memory, beside others, or onto this machine."""
        return size + beside <= self.brought_room or all(field.is_kept(size) for field in self.fields.values())

    @property
    def brought_room(self) -> int:
        """So many bytes of what is brought are held."""
        return self._brought.room

    @property
    def brought_bytes(self) -> int:
        """Bytes of what was brought and is not read yet."""
        return self._brought.nbytes

    def can_share(self, machines: int) -> bool:
        """Whether what one process fetches is here for others of this machine: all of its part of an epoch."""
        fields = self.fields.values()
        # Its strips are not quite what it gets.
        size = self.bytes_of(None) if machines == 1 else self.bytes_of(None) * 5 // (4 * machines)
        comes = all(field.is_kept(size) and not field.column._storage.offline for field in fields)
        return comes and self.can_bring and not self.shares_in_vain

    @property
    def can_bring(self) -> bool:
        """Whether samples are here wholly once they were brought."""
        return all(field.can_bring for field in self.fields.values())

    def edges(self) -> tuple[Positions, Positions | None]:
        """Where blocks of neighbouring samples begin, and the number of samples; and the blocks' lanes, where they have
        any: see `Strips`."""
        return self._lined_up or (block_edges(self._sizes, self.count, self.block_bytes), None)

    def edges_of_strips(self) -> Positions:
        """Where strips as long as they are at most begin, and the number of samples."""
        edges, lanes = self.edges()
        return edges[strip_edges(len(edges) - 1, self.strip_blocks, lanes)]

    def parts_in_order(self, order: Positions | None) -> Positions | None:
        """Where in an order parts of it end that are best fetched by one request each.

        Args:
            order: of the positions; as they lie if None.

        Returns:
            None if there are no such parts: samples are small, or do not come as they lie for some MiB each time.
        """
        if self.sample_bytes < GROUP_BYTES:
            return None
        if order is None:
            return self.edges_of_strips()[1:]
        runs = 1 + np.count_nonzero(np.diff(order) != 1)
        if runs * LEAST_BLOCK > self.bytes_of(None):
            return None
        sizes = self._sizes if isinstance(self._sizes, (int, np.integer)) else self._sizes[order]
        return block_edges(sizes, self.count, MOST_STRIP)[1:]

    def bytes_of(self, positions: Positions | None) -> int:
        """Bytes in memory of some samples, or of all."""
        if isinstance(self._sizes, (int, np.integer)):
            return int(self._sizes) * (self.count if positions is None else len(positions))
        return int(self._sizes.sum() if positions is None else self._sizes[positions].sum())

    def fingerprint(self) -> str:
        """What tells these samples, and how they lie, from others: the same for the same commit, columns and keys."""
        told = blake2b(digest_size=16)
        for name, field in self.fields.items():
            entry = field.column._entry
            root = b"" if entry.root is None else entry.root.digest
            told.update(repr((name, root, entry.schema.fingerprint)).encode())
        if not self._selection.whole:
            told.update(repr(self._selection.keys).encode())
        told.update(b"" if self._order is None else self._order.tobytes())
        return told.hexdigest()

    def batch(self, values: dict[str, Values], places: Positions) -> dict[str, Any]:
        """Some of the values of `read`, by field, as `Field.give` gives them. Raises ClosedError after `close()`."""
        for field in self.fields.values():
            field.column._alive()
        return {name: field.give(values[name], places) for name, field in self.fields.items()}

    def kept(self, positions: Positions) -> dict[str, Any]:
        """A batch of samples once ``has_all`` says that all samples are in memory."""
        return self.batch(self._kept, positions)

    def read_batch(self, positions: Positions) -> dict[str, Any]:
        """A batch that is read now. Raises as `ColumnReader.get_batch`."""
        keys = [self.keys[i] for i in positions.tolist()]
        batch: dict[str, Any] = {}
        for name, field in self.fields.items():
            values = field.read_batch(keys)
            batch[name] = values if field.is_array else list(values)
        return batch

    def part(self, values: dict[str, Values], start: int, stop: int) -> dict[str, Any]:
        """A batch of values of `read` that lie side by side and are given out once. Raises as `batch`."""
        for field in self.fields.values():
            field.column._alive()
        return {name: field.part(values[name], start, stop) for name, field in self.fields.items()}

    def read(self, positions: Positions, pool: Executor | None) -> tuple[dict[str, Values], Positions | None]:
        """The values of some samples, and for each position where among them it is; None if in the same order.

        Args:
            positions: in any order.
            pool: reads several parts at once in it; None reads them one after the other.

        Raises:
            as `ColumnReader.get_batch`.
        """
        if not self.keeps:
            order = np.argsort(positions, kind="stable")
            values = {name: field.empty(len(positions), self._memory) for name, field in self.fields.items()}
            self._fill(values, order, positions[order], pool)
            return values, None
        missing = np.sort(positions[~self._have[positions]])
        self._fill(self._kept, missing, missing, pool)
        self._have[missing] = True
        # Another thread may have seen the last ones come.
        self.has_all = self.has_all or bool(self._have.all())
        return self._kept, positions

    def bring(self, positions: Positions, size: int, held: bool = True) -> bool:
        """Have samples here that are going to be read; False if that is no use.

        Args:
            positions: of neighbours, in order.
            size: bytes of all that are brought before some of them are read.
            held: whether by this process; else they are brought onto this machine alone.
        """
        if self.keeps and held:
            with suppress(HangarError):  # told where it is read
                self.read(positions, None)
            return True
        return all(field.bring(positions, size, held) for field in self.fields.values())

    def wait_for_others(self, positions: Positions, patience: float, is_over: Callable[[], bool]) -> bool:
        """Wait for samples that other processes bring onto this machine; False if none came for some seconds."""
        if self.keeps:
            positions = positions[~self._have[positions]]
        # There are none in a last batch of fewer samples than ranks, either.
        if not len(positions):
            return True
        return all(field.wait_for_others(positions, patience, is_over) for field in self.fields.values())

    def drop(self, positions: Positions) -> None:
        """Hold nothing of some samples that were brought."""
        if len(positions):
            for field in self.fields.values():
                field.drop(positions)

    def strips(self, positions: Positions) -> list[Positions]:
        """Samples in any order as neighbours, in order, of some MiB at most, which are best fetched together."""
        if self._is_strip(positions):
            return [positions]
        positions = np.sort(positions)
        found: list[Positions] = []
        # Where an epoch is gone on with amid a window its samples are scattered.
        some: list[Positions] = []
        nbytes = 0
        for run in np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1):
            nbytes += self.bytes_of(run)
            if some and nbytes > _MOST_TOGETHER:
                found += self._cut(np.concatenate(some))
                some, nbytes = [], self.bytes_of(run)
            some.append(run)
        return found + self._cut(np.concatenate(some)) if some else found

    def _is_strip(self, positions: Positions) -> bool:
        return bool((np.diff(positions) == 1).all()) and 0 < self.bytes_of(positions) <= _MOST_TOGETHER

    def _cut(self, positions: Positions) -> list[Positions]:
        return [positions[a:b] for a, b in pairwise(self._cuts(positions, _MOST_TOGETHER))]

    def read_into(self, memory: ReusedMemory) -> None:
        """Have samples that are read put into memory of this kind."""
        self._memory, self._renewed = memory, False

    def let_go(self) -> None:
        """Hold nothing for an epoch that has ended."""
        self._brought.clear()
        self._memory.let_go()
        if self._renewed:
            # What comes back later is not held either.
            self._memory = ReusedMemory(self._reused_bytes)

    def _fill(self, values: dict[str, Values], places: Positions, positions: Positions, pool: Executor | None) -> None:
        """Read samples, by neighbours of some MiB, into places of their own. The positions are in order."""
        if not len(positions):
            return
        cuts = self._cuts(positions, _READ_BYTES)
        parts = [(places[a:b], positions[a:b]) for a, b in pairwise(cuts)]
        if pool is None or len(parts) < 2:
            for part in parts:
                self._fill_part(values, *part)
            return
        futures: list[Future[None]] = [pool.submit(self._fill_part, values, *part) for part in parts]
        try:
            for future in futures:
                future.result()
        finally:
            # Those that were cancelled when the pool was shut down never end.
            wait([future for future in futures if not future.cancel()])

    def _cuts(self, positions: Positions, nbytes: int) -> list[int]:
        if isinstance(self._sizes, (int, np.integer)):
            step = max(1, nbytes // max(int(self._sizes), 1))
            return [*range(0, len(positions), step), len(positions)]
        return block_edges(self._sizes[positions], len(positions), nbytes).tolist()  # type: ignore[no-any-return]

    def _fill_part(self, values: dict[str, Values], places: Positions, positions: Positions) -> None:
        keys = [self.keys[i] for i in positions.tolist()]
        for name, field in self.fields.items():
            field.read(positions, keys, values[name], places)
