"""Rows of bytes that all have one length, in one buffer (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt


class ByteRows(Sequence[bytes]):
    """A sequence of bytes, each of the same length: what is done to all of them needs no look at each.

    Args:
        data: the rows, one behind the other. Rows that are handed out are copies.
        width: bytes of each, at least 1.
    """

    __slots__ = ("data", "width")

    def __init__(self, data: bytes | memoryview, width: int) -> None:
        self.data = data
        self.width = width

    def __len__(self) -> int:
        return len(self.data) // self.width

    @overload
    def __getitem__(self, i: int) -> bytes: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[bytes]: ...
    def __getitem__(self, i: int | slice) -> Any:
        width = self.width
        if isinstance(i, slice):
            start, stop, step = i.indices(len(self))
            if step != 1:
                return [self[n] for n in range(start, stop, step)]
            return ByteRows(self.data[start * width : max(stop, start) * width], width)
        row = range(len(self))[i]
        return bytes(self.data[row * width : (row + 1) * width])

    def __iter__(self) -> Iterator[bytes]:
        # One copy of all of them, and then slices of that, take less than two objects for each.
        data, width = bytes(self.data), self.width
        return (data[i : i + width] for i in range(0, len(data), width))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def matrix(self) -> npt.NDArray[np.uint8]:
        """The rows as a read-only array, uint8 (rows, width)."""
        return np.frombuffer(self.data, np.uint8).reshape(-1, self.width)

    def views(self) -> Iterator[memoryview]:
        """The rows without a copy: what they show changes with the buffer."""
        data, width = memoryview(self.data), self.width
        return (data[i : i + width] for i in range(0, len(data), width))

    def take(self, rows: Any) -> ByteRows:
        """Some rows, in another order; `rows` are their numbers, or a mask."""
        return ByteRows(self.matrix[rows].tobytes(), self.width)

    @staticmethod
    def of(matrix: npt.NDArray[np.uint8]) -> ByteRows:
        """The rows of an array, uint8 (rows, width)."""
        return ByteRows(matrix.tobytes(), matrix.shape[1])

    @staticmethod
    def joined(parts: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
        """The rows of several sequences; in one buffer where all of them are, and have one width."""
        even = [part for part in parts if isinstance(part, ByteRows)]
        if len(even) == len(parts) and len({part.width for part in even}) == 1:
            return ByteRows(b"".join(part.data for part in even), even[0].width)
        return [row for part in parts for row in part]


def even_rows(rows: Sequence[bytes]) -> ByteRows | None:
    """The same rows in one buffer; None where they are empty, or not all of one length."""
    if isinstance(rows, ByteRows):
        return rows
    widths = set(map(len, rows))
    return ByteRows(b"".join(rows), widths.pop()) if len(widths) == 1 and 0 not in widths else None
