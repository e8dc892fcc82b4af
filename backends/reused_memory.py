"""Memory for arrays that are given away and, once nobody has them any more, used again.

Fresh memory is cleared by the system page by page, and in a virtual machine often asked of the host first: for batches
of large samples that takes longer than to copy them.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

LEAST_BYTES: Final = 1024 * 1024
_NUMPYS_HUGE: Final = 4 * 1024 * 1024
# No piece is taken for an array of less than this share of it.
_SHARE: Final = 2


def fresh_memory(nbytes: int) -> npt.NDArray[np.uint8]:
    """Memory that was not used before, with whatever stands in it.

    numpy asks the system for huge pages from 4 MiB on. Those are of memory that was not touched before, which a virtual
    machine may first have to ask of its host: that took ten times as long as small pages that other programs had left.
    """
    if nbytes >= _NUMPYS_HUGE and hasattr(mmap, "MAP_PRIVATE"):
        with suppress(OSError):
            # Not shared with a forked child, as anonymous maps of Python are by default.
            return np.frombuffer(mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    return np.empty(nbytes, np.uint8)


class ReusedMemory:
    """Pieces of memory that are free again. Safe to use from many threads.

    Args:
        most: free pieces are held up to so many bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._more: list[int] = []
        self._free: deque[npt.NDArray[np.uint8]] = deque()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """An array that nobody else has, with whatever stands in it; its memory comes back when all its views went."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if nbytes < LEAST_BYTES or np.dtype(dtype).hasobject:
            return np.empty(shape, dtype)
        piece = self._taken(nbytes)
        if piece is None:
            piece = fresh_memory(nbytes)
        # All views of it keep this array alive: numpy looks through to what owns the memory, but not through this view.
        whole = np.frombuffer(piece.data[:nbytes], dtype)
        weakref.finalize(whole, self._give_back, piece).atexit = False
        return whole.reshape(shape)

    @contextmanager
    def held_for(self, nbytes: int) -> Iterator[None]:
        """Hold so many bytes more of free pieces during the block, which takes and gives back as much all the time."""
        self._more.append(nbytes)
        try:
            yield
        finally:
            with suppress(ValueError):  # of a process that this one was forked from
                self._more.remove(nbytes)
            self._drop_free()

    def hold_no_more(self) -> None:
        """Hold free pieces as if nobody were amid a block of `held_for`: in a forked child nobody is."""
        self._more.clear()

    def let_go(self) -> None:
        """Give the memory of what nobody has back to the system."""
        self._free.clear()

    def _taken(self, nbytes: int) -> npt.NDArray[np.uint8] | None:
        for _ in range(len(self._free)):
            try:
                piece = self._free.popleft()
            except IndexError:  # another thread took the last one
                return None
            if nbytes <= len(piece) <= nbytes * _SHARE:
                return piece
            self._free.append(piece)
        return None

    def _give_back(self, piece: npt.NDArray[np.uint8]) -> None:
        # Without a lock: this may be called by the garbage collector, in the midst of anything.
        self._free.append(piece)
        self._drop_free()

    def _drop_free(self) -> None:
        while self._free_bytes() > self._most + sum(self._more):
            try:
                self._free.popleft()
            except IndexError:
                return

    def _free_bytes(self) -> int:
        while True:
            try:
                return sum(map(len, self._free))
            except RuntimeError:  # it changed meanwhile
                continue

    def __reduce__(self) -> tuple[Any, ...]:
        return ReusedMemory, (self._most,)
