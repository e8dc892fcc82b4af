"""Memory that large answers are received into.

It is used again, as fresh memory costs more than to receive bytes into it; and it is placed so that bytes which begin a
page of a file are the first ones of a page of memory: then they can be written there past the system's memory for
files as they are (`backends/direct_writes.py`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hangar_cloud.backends.reused_memory import LEAST_BYTES, ReusedMemory

PAGE: Final = 4096
_MOST_FREE: Final = 32 * 1024 * 1024

_memory: Final = ReusedMemory(_MOST_FREE)


def room_for(offset: int, length: int) -> memoryview | None:
    """Memory for bytes of an object that begin at an offset; None for few, which are not worth it.

    It comes back by itself when nobody has any view of it.
    """
    if length < LEAST_BYTES:
        return None
    room = _memory.empty((length + PAGE,), np.uint8)
    begin = (offset - room.ctypes.data) % PAGE
    return room.data[begin : begin + length]
