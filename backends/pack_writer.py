"""Appending blocks to one unsealed pack file, and sealing it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.packs import (
    PACK_BYTES,
    PACK_ID_LENGTH,
    PACK_MAGIC,
    BlockExtent,
    encode_trailer,
    file_pack_id,
)
from hangar_cloud.backends.store.durable_files import disk_errors_told, flush_folder, make_folder, write_at

_WRITE_BYTES: Final = 1024 * 1024
_LONG_PART: Final = 4096
"""Parts of so many bytes on average are written as they are; to join shorter ones costs less than to name each."""
Part = bytes | memoryview
Block = bytes | tuple[Part, ...]
"""An encoded block or a run of blocks; or the parts of it."""


class PackWriter:
    """One pack file that grows by appending and is then sealed.

    Args:
        path: the file. Without recorded extents it is made anew: a file of that name that an earlier
            process left may be another name of a sealed pack, which must not be written to.
        extents: extents already recorded as durable. What lies behind the last of them was being
            written when a process died, nothing refers to it, and it is cut off.

    Raises:
        CorruptDataError: the file is gone, or shorter than what was recorded.
        StoreError: the disk is full, or otherwise cannot be written to; here and in every method.
    """

    def __init__(self, path: Path, extents: list[BlockExtent] | None = None) -> None:
        self.path = path
        self._extents = list(extents or ())
        self._end = self._extents[-1].offset + self._extents[-1].stored if self._extents else len(PACK_MAGIC)
        # Of a pack that is written from its first byte on, so that sealing it need not read it again.
        self._hasher = None if self._extents else blake3(PACK_MAGIC)
        with disk_errors_told(path):
            self._file = _resume(path, self._end) if self._extents else _create(path)

    @property
    def full(self) -> bool:
        """True once the pack has reached the size at which packs are sealed (64 MiB)."""
        return self._end >= PACK_BYTES

    @property
    def end(self) -> int:
        """Where the next block is going to lie."""
        return self._end

    @property
    def empty(self) -> bool:
        """True while no block was appended."""
        return not self._extents

    def holds(self, extents: list[BlockExtent]) -> bool:
        """Whether these are all that was appended, and the file is open still."""
        return self._file >= 0 and self._extents == extents

    def append(self, blocks: Sequence[Block]) -> list[BlockExtent]:
        """Write encoded blocks (or runs of blocks) one behind the other and flush them to disk."""
        extents = self.add(blocks)
        self.flush()
        return extents

    def flush(self) -> None:
        """Have on disk what was added."""
        hasher, self._hasher = self._hasher, None
        with disk_errors_told(self.path):
            os.fsync(self._file)
        self._hasher = hasher

    def add(self, blocks: Sequence[Block]) -> list[BlockExtent]:
        """Write blocks as `append` does; they may be named only after a `flush`."""
        extents = []
        position = self._end
        for block in blocks:
            size = sum(map(len, block)) if isinstance(block, tuple) else len(block)
            extents.append(BlockExtent(position, size))
            position += size
        # Nobody goes on with a pack that a write failed in: it may hold anything behind what counts.
        hasher, self._hasher = self._hasher, None
        written = self._end
        with disk_errors_told(self.path):
            for parts in _portions(blocks):
                start = written
                for part in parts:
                    write_at(self._file, part, written)
                    written += len(part)
                    if hasher is not None:
                        hasher.update(part)
                _begin_to_flush(self._file, start, written - start)
        self._hasher = hasher
        self._end = position
        self._extents += extents
        return extents

    def seal(self) -> bytes:
        """Write index and trailer, flush, close, and return the 16-byte id of the finished pack."""
        trailer = encode_trailer(self._end, self._extents)
        with disk_errors_told(self.path):
            write_at(self._file, trailer, self._end)
            os.ftruncate(self._file, self._end + len(trailer))
            os.fsync(self._file)
        self.close()
        if self._hasher is None:
            return file_pack_id(self.path)
        return self._hasher.update(trailer).digest(length=PACK_ID_LENGTH)

    def close(self) -> None:
        """Close the file; an unsealed pack can be opened again by its extents."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _create(path: Path) -> int:
    make_folder(path.parent)
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        write_at(file, PACK_MAGIC, 0)
        flush_folder(path.parent)
    except BaseException:
        os.close(file)
        raise
    return file


def _resume(path: Path, end: int) -> int:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError as error:
        raise CorruptDataError(f"staging pack {path} is gone") from error
    try:
        size = os.fstat(file).st_size
        if size < end:
            # Growing it would seal zeros in the place of samples.
            raise CorruptDataError(f"staging pack {path} has {size} bytes where {end} were recorded")
        os.ftruncate(file, end)
    except BaseException:
        os.close(file)
        raise
    return file


def _portions(blocks: Sequence[Block]) -> Iterator[list[Part]]:
    """The bytes of all blocks, a moderate amount at a time: small ones joined, long ones as they are."""
    waiting: list[Part] = []
    size = 0
    for block in blocks:
        parts = block if isinstance(block, tuple) else (block,)
        waiting += parts
        size += sum(map(len, parts))
        if size >= _WRITE_BYTES:
            yield _joined(waiting, size)
            waiting, size = [], 0
    if waiting:
        yield _joined(waiting, size)


def _joined(parts: list[Part], size: int) -> list[Part]:
    return parts if size >= len(parts) * _LONG_PART else [b"".join(parts)]


def _begin_to_flush(file: int, position: int, size: int) -> None:
    """Have the disk begin with what was just written, so that the flush at the end has less to wait for."""
    if hasattr(os, "posix_fadvise"):
        # Linux starts to write what is dirty there, and waits for nothing.
        with contextlib.suppress(OSError):
            os.posix_fadvise(file, position, size, os.POSIX_FADV_DONTNEED)
