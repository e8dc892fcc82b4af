"""Blocks that were fetched for samples which are read soon, in memory until then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.fork_lock import ForkLock


class BroughtBlocks:
    """The blocks of samples that are read once each: whoever takes one has it alone. Safe to use from many threads.

    What finds no room is read from where it was kept, as everything is in another process.

    Args:
        room: bytes of blocks to hold at most.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._blocks: dict[BlockName, memoryview] = {}
        self._bytes = 0
        self._lock = ForkLock()

    def keep(self, blocks: Mapping[BlockName, memoryview]) -> None:
        """Hold decoded blocks, as far as there is room."""
        with self._lock:
            for name, raw in blocks.items():
                if name not in self._blocks and self._bytes + raw.nbytes <= self._room:
                    self._blocks[name] = raw
                    self._bytes += raw.nbytes

    def take(self, names: Iterable[BlockName]) -> dict[BlockName, memoryview]:
        """Those of some blocks that are held; they are not any more."""
        with self._lock:
            found = {name: raw for name in names if (raw := self._blocks.pop(name, None)) is not None}
            self._bytes -= sum(raw.nbytes for raw in found.values())
        return found

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._blocks.clear()
            self._bytes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return BroughtBlocks, (self._room,)
