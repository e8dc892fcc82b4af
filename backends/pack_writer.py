"""Appending blocks to one unsealed pack file, and sealing it."""

from __future__ import annotations

import os
from pathlib import Path

from hangar_cloud.backends.packs import PACK_BYTES, PACK_MAGIC, BlockExtent, encode_trailer, file_pack_id


class PackWriter:
    """One pack file that grows by appending and is then sealed.

    Args:
        path: the file; created where it is absent.
        extents: extents already recorded as durable. What lies behind the last of them was being
            written when a process died, nothing refers to it, and it is cut off.
    """

    def __init__(self, path: Path, extents: list[BlockExtent] | None = None) -> None:
        self.path = path
        self._extents = list(extents or ())
        self._end = self._extents[-1].offset + self._extents[-1].stored if self._extents else len(PACK_MAGIC)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self._file, self._end if self._extents else 0)
        if not self._extents:
            _write_all(self._file, PACK_MAGIC, 0)

    @property
    def full(self) -> bool:
        """True once the pack has reached the size at which packs are sealed (64 MiB)."""
        return self._end >= PACK_BYTES

    @property
    def empty(self) -> bool:
        """True while no block was appended."""
        return not self._extents

    def append(self, blocks: list[bytes]) -> list[BlockExtent]:
        """Write encoded blocks (or runs of blocks) one behind the other and flush them to disk."""
        extents = []
        position = self._end
        for block in blocks:
            extents.append(BlockExtent(position, len(block)))
            position += len(block)
        _write_all(self._file, b"".join(blocks), self._end)
        os.fsync(self._file)
        self._end = position
        self._extents += extents
        return extents

    def seal(self) -> bytes:
        """Write index and trailer, flush, close, and return the 16-byte id of the finished pack."""
        trailer = encode_trailer(self._end, self._extents)
        _write_all(self._file, trailer, self._end)
        os.ftruncate(self._file, self._end + len(trailer))
        os.fsync(self._file)
        self.close()
        return file_pack_id(self.path)

    def close(self) -> None:
        """Close the file; an unsealed pack can be opened again by its extents."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _write_all(file: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        view = view[written:]
        position += written
