"""Payloads that are in memory, gathered by the thousand: one copy by numpy in the place of a loop over samples.

A *spot* is a place in memory: the number of an arena in its upper bits, and an offset in it below. An arena is a memory
map of a whole pack, or a chunk of memory that blocks are copied into once they are decoded. Numbers are never used
twice, so a spot of an arena that was dropped is known to be stale.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.fork_lock import ForkLock

OFFSET_BITS: Final = 40
OFFSET: Final = (1 << OFFSET_BITS) - 1

Spots = npt.NDArray[np.int64]
BlockName = tuple[bytes, int]


class _Arena:
    """Memory, and what reads samples of a size from anywhere in it."""

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self.memory = memory
        self.used = 0
        self.names: list[BlockName] = []
        self._views: dict[int, npt.NDArray[np.void]] = {}

    def view(self, size: int) -> npt.NDArray[np.void]:
        """Items of `size` bytes, one at each byte."""
        found = self._views.get(size)
        if found is None:
            count = max(len(self.memory) - size + 1, 0)
            found = self._views[size] = np.ndarray((count,), f"V{size}", self.memory.data, 0, (1,))
        return found


class Arenas:
    """Where decoded samples lie in memory. Safe to use from many threads.

    Args:
        limit: bytes of the chunks that blocks are copied into; the oldest are dropped beyond. Memory maps do not
            count: the system takes their pages back when it needs them.

    `memory` is that of each arena by its number.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._arenas: dict[int, _Arena] = {}
        self.memory: dict[int, memoryview] = {}
        self._chunks: OrderedDict[int, _Arena] = OrderedDict()
        self._maps: dict[int, tuple[int, Any]] = {}
        self._last = 0
        self._bytes = 0
        self._lock = ForkLock()

    @property
    def nbytes(self) -> int:
        """Bytes that the chunks hold."""
        return self._bytes

    def holds(self, spot: int) -> bool:
        """Whether a spot is still one."""
        return spot >> OFFSET_BITS in self._arenas

    def place(self, raw: memoryview, name: BlockName | None = None) -> tuple[int, memoryview, list[BlockName]]:
        """Bring some bytes into an arena; what is part of a memory map is in one already.

        Returns:
            their spot, the bytes where they lie there (nothing has to be in memory twice), and the names of blocks
            whose chunks were dropped for them.
        """
        owner = raw.obj
        if isinstance(owner, mmap.mmap) and len(raw):
            number, start = self._map(owner)
            return (number << OFFSET_BITS) + np.frombuffer(raw, np.uint8).ctypes.data - start, raw, []
        size = len(raw)
        with self._lock.lock:
            dropped: list[BlockName] = []
            number, chunk = self._room(size, dropped)
            start, chunk.used = chunk.used, chunk.used + size
            chunk.memory[start : start + size] = np.frombuffer(raw, np.uint8)
            if name is not None:
                chunk.names.append(name)
        return (number << OFFSET_BITS) + start, chunk.memory.data[start : start + size].toreadonly(), dropped

    def gather(self, spots: Spots, size: int) -> npt.NDArray[np.void] | None:
        """Copies of `size` bytes from each spot, in order; None if any spot is none (0, or of a dropped arena)."""
        if not len(spots):
            return np.empty(0, f"V{size}")
        numbers = spots >> OFFSET_BITS
        first = numbers[0]
        if (numbers == first).all():
            arena = self._arenas.get(int(first))
            return None if arena is None else arena.view(size)[spots & OFFSET]
        order = np.argsort(numbers, kind="stable")
        ends = np.flatnonzero(np.diff(numbers[order])) + 1
        result = np.empty(len(spots), f"V{size}")
        for part in np.split(order, ends):
            arena = self._arenas.get(int(numbers[part[0]]))
            if arena is None:
                return None
            result[part] = arena.view(size)[spots[part] & OFFSET]
        return result

    def known(self, spots: Spots) -> npt.NDArray[np.bool_]:
        """Which spots are ones."""
        return np.isin(spots >> OFFSET_BITS, list(self._arenas))

    def drop_map(self, owner: Any) -> None:
        """Let go of a memory map: the file of one that was evicted takes room on the disk until then."""
        with self._lock.lock:
            known = self._maps.pop(id(owner), None)
            if known is not None:
                self._drop(known[0])

    def forget(self) -> None:
        """Drop everything."""
        with self._lock.lock:
            self._arenas.clear()
            self.memory.clear()
            self._chunks.clear()
            self._maps.clear()
            self._bytes = 0

    def _map(self, owner: mmap.mmap) -> tuple[int, int]:
        """Number and address of the arena of a memory map."""
        with self._lock.lock:
            known = self._maps.get(id(owner))
            if known is None:
                number = self._add(_Arena(np.frombuffer(owner, np.uint8)))
                known = self._maps[id(owner)] = number, owner
            return known[0], self._arenas[known[0]].memory.ctypes.data

    def _room(self, size: int, names: list[BlockName]) -> tuple[int, _Arena]:
        """A chunk with room for some bytes; adds the names of blocks that are dropped for it."""
        number = next(reversed(self._chunks), 0)
        chunk = self._chunks.get(number)
        if chunk is None or chunk.used + size > len(chunk.memory):
            # Few and big ones, since a batch is gathered from one after the other. Untouched pages take no memory.
            chunk = _Arena(np.empty(max(size, self.limit // 4), np.uint8))
            number = self._add(chunk)
            self._chunks[number] = chunk
        self._bytes += size
        while self._bytes > self.limit and len(self._chunks) > 1:
            oldest, dropped = self._chunks.popitem(last=False)
            self._bytes -= dropped.used
            names += dropped.names
            self._drop(oldest)
        return number, chunk

    def _add(self, arena: _Arena) -> int:
        self._last += 1
        self._arenas[self._last] = arena
        self.memory[self._last] = arena.memory.data
        return self._last

    def _drop(self, number: int) -> None:
        del self._arenas[number]
        del self.memory[number]
