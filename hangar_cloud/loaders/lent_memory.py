"""Pieces of memory of a data loader's worker, and what of them is lent to other processes."""

from __future__ import annotations

import mmap
import os
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from multiprocessing import parent_process, reduction, util
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_HEADER: Final = max(4096, mmap.PAGESIZE)
_SLOTS: Final = 1000
"""Tensors that are lent of a piece at the same time, at most."""
MOST_READ_INTO: Final = 6
"""Pieces that batches are read into, for each field: who keeps a few batches of each keeps the memory of no more."""
_IDLE_SECONDS: Final = 5.0
"""For so long a worker keeps memory that it does not use: the next epoch may begin at once."""
_WASTE: Final = 4
"""What is copied is not put into a piece that is larger by more than this."""
_MOST_PIECES: Final = 256
FREE: Final = 0
LENT: Final = 1
GIVEN_UP: Final = 2
"""What a slot is: of no tensor, of one that a receiver has or is sent, or of one that a forked process may have."""

Bytes = npt.NDArray[np.uint8]
Name = tuple[int, int, int]
"""Of a piece: the worker's process, what tells this worker from others of that number, and the piece's own number."""


class Piece:
    """Memory that worker and receiver have: who received it, what became of the tensors in it, and their bytes.

    The worker writes the state of a slot while it is free, the receiver while it is lent; so it never has two writers
    at a time. `held` says that the worker uses the memory itself, `lent` counts the tensors that the receiver has, and
    `forked` says that another process may have what this one lets go of.
    """

    def __init__(self, descriptor: int) -> None:
        self.map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        whole = np.frombuffer(self.map, np.uint8)
        self._receiver = whole[:8].view(np.int64)
        self.slots = whole[8 : 8 + 4 * _SLOTS].view(np.int32)
        self.bytes: Bytes = whole[_HEADER:]
        self.held = False
        self.lent = 0
        # It may be opened anew after all of its tensors went, of which a forked process has some.
        self.forked = bool((self.slots == GIVEN_UP).any())

    @property
    def receiver(self) -> int:
        return int(self._receiver[0])

    @receiver.setter
    def receiver(self, process: int) -> None:
        self._receiver[0] = process

    @property
    def is_used(self) -> bool:
        """Whether anybody may look at its bytes."""
        return self.held or bool((self.slots == LENT).any())

    @property
    def is_given_up(self) -> bool:
        """Whether others than the receiver may look at them, of whom nobody is told."""
        return self.forked or bool((self.slots == GIVEN_UP).any())


class Lender:
    """The pieces of a worker."""

    def __init__(self) -> None:
        self.process = os.getpid()
        parent = parent_process()
        self._parent = -1 if parent is None else parent.pid
        self._worker = secrets.randbits(62)
        self._pieces: dict[int, tuple[Piece, int]] = {}
        self._read_into: set[int] = set()
        self._made = 0
        self._used_at = 0.0
        self._waiting = False
        self._lock = threading.Lock()
        # What is free has no other use once the worker ends, and the receiver still has it.
        util.Finalize(None, self.let_go, exitpriority=1)

    def room(self, size: int, most: int) -> Bytes | None:
        """Memory to read into, which tensors are lent from as they are; None where `most` pieces of it are in use."""
        with self._lock:
            self._drop_given_up()
            used = [number for number in self._read_into if self._pieces[number][0].is_used]
            found = None if len(used) >= most else self._free(size, self._read_into)
            if found is None:
                return None
            self._used_at = time.monotonic()
            self._read_into.add(found)
            piece, _ = self._pieces[found]
            piece.held = True
        # All views of it keep this array alive: numpy looks through to what owns the memory, but not through this view.
        whole = np.frombuffer(piece.bytes.data[:size], np.uint8)
        weakref.finalize(whole, _not_held, piece).atexit = False
        return whole

    def lend(self, raw: Bytes) -> tuple[Name, int, Any, int, int] | None:
        """Lend bytes: where they are if that is in a piece, else copied into a free one.

        Returns:
            its name, its descriptor here, and what gives the receiver one, None if the parent process has the piece;
            where in the piece the bytes begin, and the slot that is theirs; or None where no more memory can be had.
        """
        with self._lock:
            number, begin = self._place_of(raw)
            if number is None:
                self._drop_given_up()
                number = self._free(raw.nbytes, self._pieces.keys() - self._read_into, _WASTE * raw.nbytes)
            if number is None:
                return None
            piece, descriptor = self._pieces[number]
            slot = int((piece.slots == FREE).argmax())
            piece.slots[slot] = LENT
        if begin is None:
            begin = 0
            piece.bytes[: raw.nbytes] = raw
        known = piece.receiver == self._parent
        handle = None if known else reduction.DupFd(descriptor)
        return (self.process, self._worker, number), descriptor, handle, begin, slot

    def _place_of(self, raw: Bytes) -> tuple[int | None, int | None]:
        """The piece that bytes lie in, and where; neither if it is none, or has no free slot."""
        address = raw.ctypes.data
        for number in self._read_into:
            piece, _ = self._pieces[number]
            begin = address - piece.bytes.ctypes.data
            if piece.held and 0 <= begin <= len(piece.bytes) - raw.nbytes and (piece.slots == FREE).any():
                return number, begin
        return None, None

    def _drop_given_up(self) -> None:
        for number, (piece, descriptor) in list(self._pieces.items()):
            if piece.is_given_up and not piece.is_used:
                os.close(descriptor)
                del self._pieces[number]
        self._read_into &= self._pieces.keys()

    def _free(self, size: int, among: Iterable[int], most: int = sys.maxsize) -> int | None:
        fitting = [
            (len(piece.bytes), number)
            for number in among
            if size <= len((piece := self._pieces[number][0]).bytes) <= most
            and not (piece.is_used or piece.is_given_up)
        ]
        return min(fitting)[1] if fitting else self._make(size)

    def _make(self, size: int) -> int | None:
        if len(self._pieces) >= _MOST_PIECES:
            return None
        try:
            descriptor = os.memfd_create("hangar-batch")
        except OSError:
            return None
        try:
            # What is not written to takes no memory, and a batch that is a little larger still fits.
            os.truncate(descriptor, _HEADER + (1 << (size - 1).bit_length()))
            piece = Piece(descriptor)
        except OSError:
            os.close(descriptor)
            return None
        self._made += 1
        self._pieces[self._made] = piece, descriptor
        return self._made

    def let_go(self) -> None:
        """Give the memory of what nobody uses back to the system."""
        with self._lock:
            for piece, _ in self._pieces.values():
                if not piece.is_used and not piece.is_given_up:
                    piece.map.madvise(mmap.MADV_REMOVE, _HEADER, len(piece.bytes))

    def let_go_later(self) -> None:
        """The same in some seconds, if nothing is read until then."""
        with self._lock:
            begins, self._waiting = not self._waiting, True
        if begins:
            timer = threading.Timer(_IDLE_SECONDS, self._let_go_if_idle)
            timer.daemon = True
            timer.start()

    def _let_go_if_idle(self) -> None:
        with self._lock:
            self._waiting = False
            is_idle = time.monotonic() - self._used_at >= _IDLE_SECONDS
        if is_idle:
            self.let_go()

    def spoil(self) -> None:
        """What is read into has another process too that is forked now: nothing else is ever read into it."""
        for piece, _ in list(self._pieces.values()):
            piece.forked = piece.forked or piece.held


def _not_held(piece: Piece) -> None:
    # Without a lock: this may be called by the garbage collector, in the midst of anything.
    piece.held = False
