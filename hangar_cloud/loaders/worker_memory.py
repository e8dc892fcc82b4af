"""Tensors from a data loader's workers, in memory that both processes have and that is used again for later batches.

Torch makes new shared memory for each tensor that a worker sends: every page of it is cleared by the system, its
descriptor is asked for over a socket, and all is undone when the tensor goes. For batches of some MB that takes several
times as long as reading them. Here a worker has some pieces of memory. What it reads for several batches is read into
one that is free, and where a tensor is in it is sent; any other tensor is copied into one first. A piece is free again
once the worker has let go of what it read, and the receiver of all tensors in it.

As with torch's own sharing, who keeps a batch in the worker sees what the receiver writes into it.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import deque
from multiprocessing import reduction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.reused_memory import LEAST_BYTES, ReusedMemory
from hangar_cloud.loaders.lent_memory import FREE, GIVEN_UP, MOST_READ_INTO, Lender, Name, Piece

_SMALL: Final = 16 * 1024
"""Bytes up to which a tensor is sent by value."""


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
        room = lender.room(nbytes, MOST_READ_INTO * self._fields)
        return super().empty(shape, dtype) if room is None else room.view(dtype).reshape(shape)

    def let_go(self) -> None:
        lender = _own_lender()
        if lender is not None:
            lender.let_go_later()

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerMemory, (self._fields,)


class _Lease:
    """A piece as an array that numpy and torch keep alive as long as a storage of torch's is in it."""

    def __init__(self, piece: Piece, begin: int, size: int) -> None:
        self.__array_interface__ = piece.bytes[begin : begin + size].__array_interface__
        self._piece = piece


_lenders: list[Lender] = []
_received: dict[Name, Piece] = {}
_receiving = threading.RLock()
_went: Final[deque[tuple[list[int], Name, Piece, int]]] = deque()


def _own_lender() -> Lender | None:
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
        _lenders[:] = [Lender()]
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


def _piece_of(name: Name, descriptor: int, handle: Any) -> Piece:
    # A descriptor that was sent has to be fetched, or the worker keeps it.
    came = None if handle is None else handle.detach()
    try:
        with _receiving:
            piece = _received.get(name)
            if piece is None:
                _drop_those_of_ended_workers()
                if came is None:
                    came = os.open(f"/proc/{name[0]}/fd/{descriptor}", os.O_RDWR)
                piece = _received[name] = Piece(came)
                piece.receiver = os.getpid()
            piece.lent += 1
            return piece
    finally:
        _count_those_that_went()
        if came is not None:
            os.close(came)


def _one_went(left: list[int], name: Name, piece: Piece, slot: int, process: int) -> None:
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


def _let_go(name: Name, piece: Piece, slot: int) -> None:
    piece.lent -= 1
    if piece.forked and not piece.lent:
        _received.pop(name, None)
    piece.slots[slot] = GIVEN_UP if piece.forked else FREE
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
