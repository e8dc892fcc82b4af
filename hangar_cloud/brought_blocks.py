"""Bytes that were fetched for samples which are read soon, in memory until then."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from hangar_cloud.backends.fork_lock import ForkLock

NameT = TypeVar("NameT", bound=Hashable)


class BroughtBlocks(Generic[NameT]):
    """The blocks of samples that are read once each: whoever takes one has it alone. Safe to use from many threads.

    What finds no room is read from where it was kept, as everything is in another process.

    Args:
        room: bytes of blocks to hold at most.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._blocks: dict[NameT, memoryview] = {}
        self._bytes = 0
        self._lock = ForkLock()

    def keep(self, blocks: Mapping[NameT, memoryview]) -> None:
        """Hold decoded blocks, as far as there is room."""
        with self._lock.lock:
            for name, raw in blocks.items():
                if name not in self._blocks and self._bytes + raw.nbytes <= self._room:
                    self._blocks[name] = raw
                    self._bytes += raw.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that are held."""
        return self._bytes

    @property
    def has_room(self) -> bool:
        """Whether there is room for anything more."""
        return self._bytes < self._room

    def take(self, names: Iterable[NameT]) -> dict[NameT, memoryview]:
        """Those of some blocks that are held; they are not any more."""
        with self._lock.lock:
            found = {name: raw for name in names if (raw := self._blocks.pop(name, None)) is not None}
            self._bytes -= sum(raw.nbytes for raw in found.values())
        return found

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock.lock:
            self._blocks.clear()
            self._bytes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return BroughtBlocks, (self._room,)
