"""Memory that large answers are received into.

It is used again, as fresh memory costs more than to receive bytes into it; and it is placed so that bytes which begin a
page of a file are the first ones of a page of memory: then they can be written there past the system's memory for
files as they are (`backends/direct_writes.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Final

import numpy as np

from hangar_cloud.backends.reused_memory import LEAST_BYTES, ReusedMemory

PAGE: Final = 4096
_MOST_FREE: Final = 32 * 1024 * 1024

_memory: Final = ReusedMemory(_MOST_FREE)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_memory.hold_no_more)


def rooms_for(offset: int, lengths: Sequence[int]) -> list[memoryview] | None:
    """Memory for bytes of an object that begin at an offset, in pieces; None for few, which are not worth it.

    Each comes back by itself when nobody has any view of it.
    """
    if sum(lengths) < LEAST_BYTES:
        return None
    ends = accumulate(lengths, initial=offset)
    return [_room_for(begin, length) for begin, length in zip(ends, lengths, strict=False)]


def held_for(nbytes: int) -> AbstractContextManager[None]:
    """Have so much more of this memory used again during the block: for who receives that much time and again."""
    return _memory.held_for(nbytes)


def _room_for(offset: int, length: int) -> memoryview:
    room = _memory.empty((length + PAGE,), np.uint8)
    begin = (offset - room.ctypes.data) % PAGE
    return room.data[begin : begin + length]
