"""Tensors from a data loader's workers, in memory that both processes have and that is used again for later batches.

Torch makes new shared memory for each tensor that a worker sends: every page of it is cleared by the system, its
descriptor is asked for over a socket, and all is undone when the tensor goes. For batches of some MB that takes several
times as long as reading them. Here a worker has some pieces of memory. What it reads for several batches is read into
one that is free, and where a tensor is in it is sent; any other tensor is copied into one first. A piece is free again
once the worker has let go of what it read, and the receiver of all tensors in it.

As with torch's own sharing, who keeps a batch in the worker sees what the receiver writes into it.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from multiprocessing import parent_process, reduction, util
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.reused_memory import LEAST_BYTES, ReusedMemory

_HEADER: Final = max(4096, mmap.PAGESIZE)
_SLOTS: Final = 1000
"""Tensors that are lent of a piece at the same time, at most."""
_MOST_READ_INTO: Final = 6
"""Pieces that batches are read into, for each field: who keeps a few batches of each keeps the memory of no more."""
_IDLE_SECONDS: Final = 5.0
"""For so long a worker keeps memory that it does not use: the next epoch may begin at once."""
_WASTE: Final = 4
"""A piece is not taken for what takes less than this part of it."""
_SMALL: Final = 16 * 1024
"""Bytes up to which a tensor is sent by value."""
_MOST_PIECES: Final = 256
_FREE: Final = 0
_LENT: Final = 1
_GIVEN_UP: Final = 2

Bytes = npt.NDArray[np.uint8]
Name = tuple[int, int, int]
"""Of a piece: the worker's process, what tells this worker from others of that number, and the piece's own number."""


class _Piece:
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
        self.forked = bool((self.slots == _GIVEN_UP).any())

    @property
    def receiver(self) -> int:
        return int(self._receiver[0])

    @receiver.setter
    def receiver(self, process: int) -> None:
        self._receiver[0] = process

    @property
    def is_used(self) -> bool:
        """Whether anybody may look at its bytes."""
        return self.held or bool((self.slots == _LENT).any())

    @property
    def is_given_up(self) -> bool:
        """Whether others than the receiver may look at them, of whom nobody is told."""
        return self.forked or bool((self.slots == _GIVEN_UP).any())


class _Lender:
    """The pieces of a worker."""

    def __init__(self) -> None:
        self.process = os.getpid()
        parent = parent_process()
        self._parent = -1 if parent is None else parent.pid
        self._worker = secrets.randbits(62)
        self._pieces: dict[int, tuple[_Piece, int]] = {}
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
                number = self._free(raw.nbytes, self._pieces.keys() - self._read_into)
            if number is None:
                return None
            piece, descriptor = self._pieces[number]
            slot = int((piece.slots == _FREE).argmax())
            piece.slots[slot] = _LENT
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
            if piece.held and 0 <= begin <= len(piece.bytes) - raw.nbytes and (piece.slots == _FREE).any():
                return number, begin
        return None, None

    def _drop_given_up(self) -> None:
        for number, (piece, descriptor) in list(self._pieces.items()):
            if piece.is_given_up and not piece.is_used:
                os.close(descriptor)
                del self._pieces[number]
        self._read_into &= self._pieces.keys()

    def _free(self, size: int, among: Iterable[int]) -> int | None:
        fitting = [
            (len(piece.bytes), number)
            for number in among
            if size <= len((piece := self._pieces[number][0]).bytes) <= _WASTE * size
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
            piece = _Piece(descriptor)
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


def _not_held(piece: _Piece) -> None:
    # Without a lock: this may be called by the garbage collector, in the midst of anything.
    piece.held = False


class WorkerMemory(ReusedMemory):
    """Memory for arrays of which tensors are sent as they are; ordinary memory where there is none."""

    def __init__(self, fields: int = 1) -> None:
        super().__init__(0)
        self._fields = fields

    def empty(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        lender = _own_lender()
        if lender is None or nbytes < LEAST_BYTES or np.dtype(dtype).hasobject:
            return super().empty(shape, dtype)
        room = lender.room(nbytes, _MOST_READ_INTO * self._fields)
        return super().empty(shape, dtype) if room is None else room.view(dtype).reshape(shape)

    def let_go(self) -> None:
        lender = _own_lender()
        if lender is not None:
            lender.let_go_later()

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerMemory, (self._fields,)


class _Lease:
    """A piece as an array that numpy and torch keep alive as long as a storage of torch's is in it."""

    def __init__(self, piece: _Piece, begin: int, size: int) -> None:
        self.__array_interface__ = piece.bytes[begin : begin + size].__array_interface__
        self._piece = piece


_lenders: list[_Lender] = []
_received: dict[Name, _Piece] = {}
_receiving = threading.RLock()
_went: Final[deque[tuple[list[int], Name, _Piece, int]]] = deque()


def _own_lender() -> _Lender | None:
    """The lender of this process. Further processes that a worker starts have a copy of its pieces, and use none."""
    return _lenders[0] if _lenders and _lenders[0].process == os.getpid() else None


def send_by_pieces(fields: int) -> WorkerMemory | None:
    """Have the tensors that this process, a worker of a data loader, sends to others put into pieces of memory.

    Args:
        fields: how many a batch has.

    Returns:
        memory of which tensors are sent as they are; None where the system has none of this kind, and nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return None
    import torch

    if _own_lender() is None:
        _lenders[:] = [_Lender()]
        reduction.ForkingPickler.register(torch.Tensor, _reduced)
    return WorkerMemory(fields)


def _reduced(tensor: Any) -> Any:
    """What a tensor is pickled as, for another process."""
    import torch
    from torch.multiprocessing import reductions

    as_torch_does: Any = reductions.reduce_tensor
    lender = _own_lender()
    order = None if lender is None else _order_in_memory(tensor)
    if lender is None or order is None:
        return as_torch_does(tensor)
    laid = tensor.permute(order)
    raw = laid.reshape(-1).view(torch.uint8).numpy()
    back = sorted(range(len(order)), key=order.__getitem__)
    told = laid.dtype, tuple(laid.shape), back
    if raw.nbytes <= _SMALL:
        return _by_value, (bytearray(raw), *told)
    lent = lender.lend(raw)
    return as_torch_does(tensor) if lent is None else (_by_piece, (*lent, raw.nbytes, *told))


def _order_in_memory(tensor: Any) -> list[int] | None:
    """Its dimensions, the outermost first; None for tensors that are not plain memory, or that share theirs already."""
    import torch

    plain = type(tensor) is torch.Tensor and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or not tensor.numel() or tensor.is_shared() or tensor.is_quantized:
        return None
    if tensor.requires_grad or tensor.is_conj() or tensor.is_neg():
        return None
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda dimension: -strides[dimension])
    return order if tensor.permute(order).is_contiguous() else None


def _by_value(raw: bytearray, dtype: Any, shape: tuple[int, ...], back: list[int]) -> Any:
    import torch

    return torch.frombuffer(raw, dtype=dtype).reshape(shape).permute(back)


def _by_piece(
    name: Name,
    descriptor: int,
    handle: Any,
    begin: int,
    slot: int,
    size: int,
    dtype: Any,
    shape: tuple[int, ...],
    back: list[int],
) -> Any:
    """The tensor in a piece. Raises OSError where the worker has ended before its first tensor in it was received."""
    import torch

    piece = _piece_of(name, descriptor, handle)
    lease = _Lease(piece, begin, size)
    tensor = torch.from_numpy(np.asarray(lease)).view(dtype).reshape(shape).permute(back)
    # Torch moves a tensor that is sent on into memory of its own, and lets go of the lease; numpy's views of the tensor
    # stay where they were, and keep its storage.
    holders = [lease, tensor.untyped_storage()]
    left = [len(holders)]
    for holder in holders:
        ended = weakref.finalize(holder, _one_went, left, name, piece, slot, os.getpid())
        ended.atexit = False
    return tensor


def _piece_of(name: Name, descriptor: int, handle: Any) -> _Piece:
    # A descriptor that was sent has to be fetched, or the worker keeps it.
    came = None if handle is None else handle.detach()
    try:
        with _receiving:
            piece = _received.get(name)
            if piece is None:
                _drop_those_of_ended_workers()
                if came is None:
                    came = os.open(f"/proc/{name[0]}/fd/{descriptor}", os.O_RDWR)
                piece = _received[name] = _Piece(came)
                piece.receiver = os.getpid()
            piece.lent += 1
            return piece
    finally:
        _count_those_that_went()
        if came is not None:
            os.close(came)


def _one_went(left: list[int], name: Name, piece: _Piece, slot: int, process: int) -> None:
    """Note that one of those went that keep a tensor's memory."""
    if os.getpid() == process:
        _went.append((left, name, piece, slot))
        _count_those_that_went()


def _count_those_that_went() -> None:
    """Give slots back whose tensors are gone.

    The collector may call this in the midst of anything, so that nothing is waited for: who has the lock sees to it.
    """
    while _went and _receiving.acquire(blocking=False):
        try:
            while _went:
                left, name, piece, slot = _went.popleft()
                left[0] -= 1
                if not left[0]:
                    _let_go(name, piece, slot)
        finally:
            _receiving.release()


def _let_go(name: Name, piece: _Piece, slot: int) -> None:
    piece.lent -= 1
    if piece.forked and not piece.lent:
        _received.pop(name, None)
    piece.slots[slot] = _GIVEN_UP if piece.forked else _FREE
    if not _runs(name[0]):
        _drop_those_of_ended_workers()


def _drop_those_of_ended_workers() -> None:
    # Lists, as the collector may let go of further pieces at any place here.
    names = list(_received)
    ended = {process for process in {name[0] for name in names} if not _runs(process)}
    for name in names:
        piece = _received.get(name)
        if piece is not None and name[0] in ended and not piece.lent:
            _received.pop(name, None)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _before_fork() -> None:
    """What the new process has too may not be written to again, even when this one has let go of it."""
    _receiving.acquire()
    for piece in list(_received.values()):
        piece.forked = piece.forked or piece.lent > 0
    lender = _own_lender()
    if lender is not None:
        lender.spoil()


def _after_fork_in_parent() -> None:
    _receiving.release()
    _count_those_that_went()


def _after_fork_in_child() -> None:
    global _receiving  # noqa: PLW0603  # the copy of it may be held by a thread that is not here
    _receiving = threading.RLock()
    _received.clear()
    _went.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
