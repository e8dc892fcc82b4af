"""Writes of fetched bytes past the system's memory for files, where nobody is going to read them from there soon.

They would drive out of it what is in use. And in a virtual machine that gets its memory from the host when it is first
touched, a new page of that memory takes ten times as long as copying into one that was used shortly before.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from hangar_cloud.backends.store.durable_files import write_at
from hangar_cloud.backends.store.reception import PAGE

if TYPE_CHECKING:
    from typing_extensions import Self

# So many bytes are written by one call. What does not lie in memory as in the file goes through one of so many pieces;
# what finds none goes the usual way.
_PIECE: Final = 2 * 1024 * 1024
_AT_ONCE: Final = 4
# A disk that takes longer for a piece, on average over some of them, is left to the system for a while, which lets
# nobody wait for it. Now and then any disk stops for a tenth of a second, and with it all that is under way, a dozen or
# so; and twelve at once take 18 ms each where one takes 1.3.
_SLOW_SECONDS: Final = 0.01
_PAUSE_SECONDS: Final = 20.0
_WEIGHT: Final = 0.04
_LEAST: Final = 256 * 1024
_CAN: Final = hasattr(os, "O_DIRECT")
_REFUSALS: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


class _Pieces:
    """Memory that begins where a page does, and how many writes are under way. A forked child has its own."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._free: deque[mmap.mmap | None] = deque([None] * _AT_ONCE)
        self.under_way: defaultdict[int, deque[None]] = defaultdict(deque)
        """As many as there are writes under way, by device."""

    def take(self) -> mmap.mmap | None:
        """A piece that nobody else has until it is given back; None if all are in use, or there is no memory."""
        try:
            piece = self._free.pop()
        except IndexError:
            return None
        if piece is None:
            try:
                # Not shared with a forked child, as anonymous maps of Python are by default.
                piece = mmap.mmap(-1, _PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            except OSError:
                self._free.append(None)
        return piece

    def give_back(self, piece: mmap.mmap) -> None:
        """Let others take it."""
        self._free.append(piece)


_pieces: Final = _Pieces()
# Until when devices are left alone that refuse such writes, or were slow at them.
_unfit: Final[dict[int, float]] = {}
_average: Final[dict[int, float]] = {}


class WritesPastMemory:
    """Writes to a file past the system's memory for files. A context manager.

    Args:
        path: of the file.
        file: the same file, open for writing.
    """

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file
        self._device = os.fstat(file).st_dev
        self._opened: list[int | None] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for direct in self._opened:
            if direct is not None:
                os.close(direct)

    def write(self, offset: int, data: bytes | memoryview) -> bool:
        """Write bytes; False if nothing was written, as that is no use here.

        The pages that they share with others at either end are written the usual way. The last bytes are written first:
        who is killed in between leaves nothing of which the first bytes, by which it is known, are there and others are
        not.

        Args:
            offset: where in the file they go.
            data: some hundred kB at least, for it to be of use.

        Raises:
            OSError: after it, a part of them may be written.
        """
        first, last = -(-offset // PAGE) * PAGE, (offset + len(data)) // PAGE * PAGE
        if not _CAN or last - first < _LEAST or time.monotonic() < _unfit.get(self._device, 0):
            return False
        view = memoryview(data)
        with _piece_for(view, first - offset) as (is_there, piece):
            direct = self._direct() if is_there else None
            if direct is None:
                return False
            write_at(self._file, view[last - offset :], last)
            rest = _write_pages(direct, self._device, piece, view, first - offset, last - offset, offset)
        write_at(self._file, view[:rest], offset)
        return True

    def _direct(self) -> int | None:
        """The file, opened for such writes when it is first needed; None if that cannot be."""
        if not self._opened:
            self._opened.append(_opened_past_memory(self._path, self._file))
        return self._opened[0]


@contextmanager
def _piece_for(data: memoryview, start: int) -> Iterator[tuple[bool, mmap.mmap | None]]:
    """Whether these can be written, and the piece for it: None where they begin a page in memory as in the file."""
    is_placed = (np.frombuffer(data, np.uint8).ctypes.data + start) % PAGE == 0
    piece = None if is_placed else _pieces.take()
    try:
        yield is_placed or piece is not None, piece
    finally:
        if piece is not None:
            _pieces.give_back(piece)


def _opened_past_memory(path: Path, file: int) -> int | None:
    """The same file once more; None if its device refuses, or it was evicted, as another process may do at any time."""
    opened = os.fstat(file)
    try:
        direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _unfit[opened.st_dev] = math.inf
        return None
    if os.path.samestat(os.fstat(direct), opened):
        return direct
    os.close(direct)
    return None


def _write_pages(
    direct: int, device: int, piece: mmap.mmap | None, data: memoryview, start: int, stop: int, offset: int
) -> int:
    """Write whole pages of some bytes, the last ones first: by way of a piece, or from where they are.

    Returns:
        the end of what is left to be written otherwise, at least `start`.
    """
    source = np.frombuffer(data, np.uint8)
    while start < stop:
        begin = max(stop - _PIECE, start)
        some = stop - begin
        pages = source.data[begin:stop]
        if piece is not None:
            memory = np.frombuffer(piece, np.uint8)
            memory[:some] = source[begin:stop]
            pages = memory.data[:some]
        written, seconds = _timed_write(direct, device, pages, offset + begin)
        if written < some:
            _leave_alone(device)
            return stop
        stop = begin
        if _is_slow(device, seconds):
            _leave_alone(device)
            return stop
    return stop


def _timed_write(direct: int, device: int, pages: memoryview, offset: int) -> tuple[int, float]:
    """How much was written, none where the system refuses, and the seconds it took: its share of them, where others
    were written to the device when it began or ended."""
    under_way = _pieces.under_way[device]
    under_way.append(None)
    began, count = time.monotonic(), len(under_way)
    try:
        written = os.pwrite(direct, pages, offset)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        written = 0
    finally:
        count = max(count, len(under_way))
        under_way.pop()
    return written, (time.monotonic() - began) / count


def _is_slow(device: int, seconds: float) -> bool:
    average = _average.get(device, 0.0)
    # However long one takes, it takes several of them to say so.
    average += (min(seconds, 2 * _SLOW_SECONDS) - average) * _WEIGHT
    _average[device] = average
    return average > _SLOW_SECONDS


def _leave_alone(device: int) -> None:
    _unfit[device] = time.monotonic() + _PAUSE_SECONDS
    _average.pop(device, None)
