"""Writes of fetched bytes past the system's memory for files, where nobody is going to read them from there soon.

They would drive out of it what is in use. And in a virtual machine that gets its memory from the host when it is first
touched, a new page of that memory takes ten times as long as copying into one that was used shortly before.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from hangar_cloud.backends.store.durable_files import write_at

_PAGE: Final = 4096
# So many bytes are written by one call, and so many calls are under way at once; what finds no place goes the usual
# way.
_PIECE: Final = 2 * 1024 * 1024
_AT_ONCE: Final = 4
# A disk that takes longer for a piece is left to the system, which lets nobody wait for it.
_SLOW_SECONDS: Final = 0.05
_LEAST: Final = 256 * 1024
_CAN: Final = hasattr(os, "O_DIRECT")
_REFUSALS: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


class _Pieces:
    """Memory that begins where a page does. A forked child has its own."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._free: deque[mmap.mmap | None] = deque([None] * _AT_ONCE)

    def take(self) -> mmap.mmap | None:
        """A piece that nobody else has until it is given back; None if all are in use."""
        try:
            piece = self._free.pop()
        except IndexError:
            return None
        if piece is None:
            # Not shared with a forked child, as anonymous maps of Python are by default.
            piece = mmap.mmap(-1, _PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return piece

    def give_back(self, piece: mmap.mmap) -> None:
        """Let others take it."""
        self._free.append(piece)


_pieces: Final = _Pieces()
# Devices that refuse such writes, or are slow at them.
_unfit: Final[set[int]] = set()


def write_past_memory(path: Path, file: int, offset: int, data: bytes | memoryview) -> bool:
    """Write bytes past the system's memory for files; False if nothing was written, as that is no use here.

    The pages that they share with others at either end are written the usual way.

    Args:
        path: of the file.
        file: the same file, open for writing.
        offset: where in it they go.
        data: some hundred kB at least, for it to be of use.

    Raises:
        OSError: after it, a part of them may be written.
    """
    first, last = -(-offset // _PAGE) * _PAGE, (offset + len(data)) // _PAGE * _PAGE
    device = os.fstat(file).st_dev
    if not _CAN or last - first < _LEAST or device in _unfit:
        return False
    piece = _pieces.take()
    if piece is None:
        return False
    try:
        with _opened_past_memory(path) as direct:
            if direct is None:
                _unfit.add(device)
                return False
            done, fit = _write_pages(direct, piece, data, first - offset, last - offset, offset)
    finally:
        _pieces.give_back(piece)
    if not fit:
        _unfit.add(device)
    view = memoryview(data)
    write_at(file, view[done:], offset + done)
    # Last, since who reads meanwhile knows by the first bytes whether anything is here.
    write_at(file, view[: first - offset], offset)
    return True


@contextmanager
def _opened_past_memory(path: Path) -> Iterator[int | None]:
    try:
        direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        yield None
        return
    try:
        yield direct
    finally:
        os.close(direct)


def _write_pages(
    direct: int, piece: mmap.mmap, data: bytes | memoryview, start: int, stop: int, offset: int
) -> tuple[int, bool]:
    """Write whole pages of some bytes.

    Returns:
        where in them it ended, before `stop` if the system took less; and whether to do so again.
    """
    memory, source = np.frombuffer(piece, np.uint8), np.frombuffer(data, np.uint8)
    while start < stop:
        some = min(_PIECE, stop - start)
        memory[:some] = source[start : start + some]
        began = time.monotonic()
        try:
            written = os.pwrite(direct, memory.data[:some], offset + start)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            return start, False
        start += written
        if written < some or time.monotonic() - began > _SLOW_SECONDS:
            return start, False
    return start, True
