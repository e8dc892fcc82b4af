"""Bytes that were fetched for samples which are read soon, in memory until then."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from hangar_cloud.backends.fork_lock import ForkLock

NameT = TypeVar("NameT", bound=Hashable)


class _Together:
    """Blocks that are views of the same memory, which goes when nobody has any of them."""

    __slots__ = ("left", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self.left = 0
        self.nbytes = nbytes


class BroughtBlocks(Generic[NameT]):
    """The blocks of samples that are read once each: whoever takes one has it alone. Safe to use from many threads.

    What finds no room is read from where it was kept, as everything is in another process.

    Args:
        room: bytes of memory to hold at most; may be changed. It counts with all that lies in it, wanted or not, until
            the last block in it is taken.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._blocks: dict[NameT, tuple[memoryview, _Together]] = {}
        self._bytes = self._promised = 0
        self._lock = ForkLock()

    @contextmanager
    def promised(self, nbytes: int) -> Iterator[bool]:
        """Whether there is room for so many more bytes, which during the block nobody else is promised."""
        with self._lock.lock:
            fits = self._bytes + self._promised + nbytes <= self.room
            promised = nbytes if fits else 0
            self._promised += promised
        try:
            yield fits
        finally:
            with self._lock.lock:
                self._promised -= promised

    def keep(self, blocks: Mapping[NameT, memoryview]) -> None:
        """Hold decoded blocks, if there is room for all of them."""
        with self._lock.lock:
            new = {name: raw for name, raw in blocks.items() if name not in self._blocks}
            owners = {id(raw.obj): raw.obj for raw in new.values()}
            alike = {number: _Together(memoryview(owner).nbytes) for number, owner in owners.items()}
            nbytes = sum(together.nbytes for together in alike.values())
            if self._bytes + nbytes > self.room:
                return
            self._bytes += nbytes
            for name, raw in new.items():
                together = alike[id(raw.obj)]
                together.left += 1
                self._blocks[name] = raw, together

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that are held."""
        return self._bytes

    def take(self, names: Iterable[NameT]) -> dict[NameT, memoryview]:
        """Those of some blocks that are held; they are not any more."""
        found: dict[NameT, memoryview] = {}
        with self._lock.lock:
            for name in names:
                raw, together = self._blocks.pop(name, (None, None))
                if raw is not None and together is not None:
                    found[name] = raw
                    together.left -= 1
                    self._bytes -= 0 if together.left else together.nbytes
        return found

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock.lock:
            self._blocks.clear()
            self._bytes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return BroughtBlocks, (self.room,)
