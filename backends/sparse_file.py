"""Which parts of a sparse file were ever written, asked of the file system by the run and not by the extent."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

_SEEK_DATA: Final = getattr(os, "SEEK_DATA", None)
_SEEK_HOLE: Final = getattr(os, "SEEK_HOLE", None)
# Of what was kept, so many bytes at its start are never all zero: those of a hole are.
HOLE_BYTES: Final = 64


class OpenFile(Protocol):
    """A descriptor that stays open as long as somebody has it."""

    number: int


class DataMap:
    """What of a sparse file may hold data, as of when it is asked; for one thread, and for as long as a batch takes.

    What another process writes meanwhile may be told as a hole, so this is a hint: whoever trusts it fetches something
    again, and never takes a hole for data.

    Args:
        file: the sparse file, open for reading.
    """

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._size = os.fstat(file.number).st_size
        self._hole = (0, 0)
        self._data = (0, 0)

    def may_hold(self, offset: int, length: int) -> bool:
        """Whether all of some bytes lie in the file, and not all of them in a hole."""
        end = offset + length
        if offset < 0 or end > self._size:
            return False
        if self._data[0] <= offset < self._data[1]:
            return True
        if not (self._hole[0] <= offset and end <= self._hole[1]):
            self._look(offset)
        return not (self._hole[0] <= offset and end <= self._hole[1])

    def seems_to_hold(self, offset: int, length: int) -> bool:
        """The same, by a look at the first bytes too: file systems know holes by the page at best."""
        return self.may_hold(offset, length) and any(os.pread(self._file.number, min(length, HOLE_BYTES), offset))

    def seem_to_hold(self, spans: Sequence[tuple[int, int]]) -> list[bool]:
        """The same of each of some spans (offset, length)."""
        first = min((offset for offset, _ in spans), default=0)
        end = max((offset + length for offset, length in spans), default=0)
        # Neighbours that nobody wrote yet are told by one look.
        if first >= 0 and self._is_hole(first, min(end, self._size)):
            return [False] * len(spans)
        return [self.seems_to_hold(offset, length) for offset, length in spans]

    def _is_hole(self, first: int, end: int) -> bool:
        if first < end and not self._hole[0] <= first < self._hole[1]:
            self._look(first)
        return first >= end or self._hole[0] <= first <= end <= self._hole[1]

    def _look(self, offset: int) -> None:
        """Find the hole or the run of data that begins at, or goes on from, a byte."""
        if _SEEK_DATA is None or _SEEK_HOLE is None:
            self._data = (0, self._size)
            return
        try:
            data = os.lseek(self._file.number, offset, _SEEK_DATA)
            if data > offset:
                self._hole = (offset, data)
            else:
                self._data = (offset, os.lseek(self._file.number, offset, _SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # there is no data from there on
                self._hole = (offset, self._size)
            else:
                self._data = (0, self._size)


class PartsHere(NamedTuple):
    """What is known of an object of which parts are here.

    Whether a purge put anything in the place of some of its extents; and where its file of parts holds data, None
    where there is no such file.
    """

    rewritten: bool
    data: DataMap | None
