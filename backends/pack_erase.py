"""A pack without some of its samples: their bytes erased, everything else to be found where a table says.

A sample that has blocks of its own is cut out with them. Of a block that several samples share, the bytes of one are
overwritten and the block is encoded anew, so that its other samples are where their records say within it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import xxhash

from hangar_cloud.backends.blocks import decode_blocks, encode_alike, is_bound, most_decoded
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.moves import Move
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.packs import PACK_MAGIC, BlockExtent, encode_trailer, file_pack_id, pack_path, read_index
from hangar_cloud.backends.store.durable_files import disk_errors_told
from hangar_cloud.backends.values import sample_digest

_COPY_BYTES: Final = 8 * 1024 * 1024


class ErasedPack(NamedTuple):
    """What became of a pack.

    Attributes:
        pack: id of the new one; None if nothing is left to be in it.
        moves: of all that was in the old one, in order.
        erased: bytes of samples that were there before and are gone.
    """

    pack: bytes | None
    moves: list[Move]
    erased: int


def erase_samples(source: Path, pack: bytes, doomed: Sequence[PackedSample], target: Path) -> ErasedPack:
    """Write a pack that holds all blocks of another, and nothing of some samples.

    Args:
        source: file of the old pack.
        pack: its id.
        doomed: samples in it; those that were erased before are passed over.
        target: file of the new pack, made or replaced.

    Raises:
        CorruptDataError: the old pack is damaged, or no sample lies where it should; nothing was changed.
        StoreError: the disk is full.
    """
    path = pack_path(pack)
    if file_pack_id(source) != pack:
        raise CorruptDataError(f"{path} is damaged: its bytes do not match its name")
    by_extent: dict[BlockExtent, list[PackedSample]] = {}
    for sample in doomed:
        by_extent.setdefault(BlockExtent(sample.place.offset, sample.place.stored), []).append(sample)
    with source.open("rb") as old, disk_errors_told(target), target.open("w+b") as new:
        index = read_index(old)
        stray = by_extent.keys() - set(index)
        if stray:
            raise CorruptDataError(f"no block of {path} lies at {min(stray).offset}+{min(stray).stored}")
        new.write(PACK_MAGIC)
        writing = _Erasing(path, old, new)
        for extent in index:
            writing.take(extent, by_extent.get(extent, ()))
        new.write(encode_trailer(writing.end, writing.extents))
        new.flush()
        os.fsync(new.fileno())
    name = file_pack_id(target) if writing.extents else None
    return ErasedPack(name, [named(move, name) for move in writing.moves], writing.erased)


def named(move: Move, pack: bytes | None) -> Move:
    """A move into a pack whose name was not known yet."""
    return move if move.to is None or pack is None else move._replace(to=pack_path(pack))


class _Erasing:
    """The new pack while it is written."""

    def __init__(self, path: str, old: BinaryIO, new: BinaryIO) -> None:
        self._path = path
        self._old = old
        self._new = new
        self.moves: list[Move] = []
        self.extents: list[BlockExtent] = []
        self.end = len(PACK_MAGIC)
        self.erased = 0

    def take(self, extent: BlockExtent, doomed: Sequence[PackedSample]) -> None:
        """Copy a block, or run of blocks, but for some samples."""
        data = self._read(extent) if doomed else b""
        gone = [sample for sample in doomed if self._is_in(sample, extent, data)]
        self.erased += sum(sample.place.size for sample in gone)
        if not gone:
            self._copy(extent)
        elif is_bound(data):
            self.moves.append(Move(self._path, extent.offset, extent.stored, None, 0, 0))
        else:
            block = _without(data, gone)
            checksum = xxhash.xxh3_64_intdigest(block)
            self.moves.append(
                Move(self._path, extent.offset, extent.stored, self._path, self.end, len(block), checksum)
            )
            self._new.write(block)
            self._added(len(block))

    def _is_in(self, sample: PackedSample, extent: BlockExtent, data: bytes) -> bool:
        """Whether a block still holds the sample. Raises CorruptDataError where it is damaged."""
        try:
            raw = decode_blocks(data, sample.digest, most_decoded(sample.place))
        except CorruptDataError as error:
            raise CorruptDataError(
                f"{self._path}, bytes {extent.offset} to {extent.offset + extent.stored}: {error}"
            ) from error
        return is_sample(raw, sample)

    def _copy(self, extent: BlockExtent) -> None:
        self._old.seek(extent.offset)
        left = extent.stored
        while left:
            data = self._old.read(min(left, _COPY_BYTES))
            if not data:
                raise CorruptDataError(f"{self._path} ends within the block at byte {extent.offset}")
            self._new.write(data)
            left -= len(data)
        last = self.moves[-1] if self.moves else None
        if last is not None and last.copied and last.offset + last.length == extent.offset:
            size = last.size + extent.stored
            self.moves[-1] = last._replace(length=size, size=size)
        else:
            self.moves.append(Move(self._path, *extent, self._path, self.end, extent.stored))
        self._added(extent.stored)

    def _added(self, size: int) -> None:
        self.extents.append(BlockExtent(self.end, size))
        self.end += size

    def _read(self, extent: BlockExtent) -> bytes:
        self._old.seek(extent.offset)
        return self._old.read(extent.stored)


def is_sample(raw: memoryview, sample: PackedSample) -> bool:
    """Whether decoded blocks hold a sample where its place says."""
    place, digest, prefix = sample
    payload = raw[place.start : place.start + place.size]
    return len(payload) == place.size and sample_digest(prefix, payload) == digest


def _without(block: bytes, gone: Sequence[PackedSample]) -> bytes:
    """A shared block with the bytes of some samples overwritten."""
    raw = bytearray(decode_blocks(block, b"", most_decoded(gone[0].place)))
    for sample in gone:
        start, size = sample.place.start, sample.place.size
        # What was all zeros must not be what it was.
        blank = b"\0" if any(raw[start : start + size]) else b"\xff"
        raw[start : start + size] = blank * size
    return encode_alike(bytes(raw), block)
