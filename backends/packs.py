"""The pack file: magic, blocks, an index of the blocks, a trailer (pure format, no policy).

`docs/format.md` section "Packs" is the normative text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash
from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError

PACK_MAGIC: Final = b"HCPACK1\n"
PACK_ID_LENGTH: Final = 16
PACK_BYTES: Final = 64 * 1024 * 1024
STRETCH: Final = 8 * 1024 * 1024
"""Blocks lie within a stretch of so many bytes from a multiple of it on, where that leaves little room unused."""
MOST_UNUSED: Final = 128 * 1024
"""Less than so many bytes are left unused for that."""
_ENTRY: Final = struct.Struct("<QQ")
# index offset, number of entries, checksum of the index, magic
_TRAILER: Final = struct.Struct("<QQQ8s")
_STAGED_MARK: Final = b"staging\0"
NO_PACK: Final = bytes(PACK_ID_LENGTH)
"""Stands in a record for the pack of a sample that stood in the record itself and was purged."""


def unused_before(position: int, size: int, least: int) -> int:
    """How many bytes to leave unused at the end of a pack before a block, so that it lies within one stretch.

    Some stores keep large objects in pieces of some MiB. For a request that ends where a piece does they read no other.

    Args:
        position: the end of the pack.
        size: of the block.
        least: what can be left unused, if anything is.
    """
    left = -position % STRETCH
    return left if size <= STRETCH and least <= left < min(size, MOST_UNUSED) else 0


class BlockExtent(NamedTuple):
    """One entry of a pack's index: a block, or a big sample's run of blocks."""

    offset: int
    stored: int


def pack_path(pack: bytes) -> str:
    """The object name of a sealed pack, `packs/<first two hex digits>/<id>.pack`."""
    name = pack.hex()
    return f"packs/{name[:2]}/{name}.pack"


def staged_pack(number: int) -> bytes:
    """The stand-in id of a pack that is still being written in a staging area."""
    return _STAGED_MARK + number.to_bytes(8, "big")


def staged_pack_number(pack: bytes) -> int | None:
    """The number inside a stand-in id, None for a sealed pack's id."""
    return int.from_bytes(pack[8:], "big") if pack[:8] == _STAGED_MARK else None


def encode_trailer(index_offset: int, extents: Iterable[BlockExtent]) -> bytes:
    """The index and trailer that close a pack whose blocks end at `index_offset`."""
    index = b"".join(_ENTRY.pack(*extent) for extent in extents)
    checksum = xxhash.xxh3_64_intdigest(index, index_offset)
    return index + _TRAILER.pack(index_offset, len(index) // _ENTRY.size, checksum, PACK_MAGIC)


def read_index(file: BinaryIO) -> list[BlockExtent]:
    """The index of a whole pack. Raises as `read_index_array`."""
    return [BlockExtent(offset, stored) for offset, stored in read_index_array(file).tolist()]


def read_index_array(file: BinaryIO) -> npt.NDArray[np.uint64]:
    """The index of a whole pack: offsets and lengths of its extents, of shape (extents, 2).

    Raises:
        CorruptDataError: it is not a pack, or its index is damaged.
    """
    size = file.seek(0, 2)
    if size < len(PACK_MAGIC) + _TRAILER.size:
        raise CorruptDataError(f"{size} bytes are too few for a pack")
    file.seek(size - _TRAILER.size)
    index_offset, count, checksum, magic = _TRAILER.unpack(file.read(_TRAILER.size))
    if magic != PACK_MAGIC or index_offset + count * _ENTRY.size + _TRAILER.size != size:
        raise CorruptDataError("the pack's trailer is damaged")
    file.seek(index_offset)
    index = file.read(count * _ENTRY.size)
    if xxhash.xxh3_64_intdigest(index, index_offset) != checksum:
        raise CorruptDataError("the pack's index fails its checksum")
    return np.frombuffer(index, "<u8").reshape(-1, 2)


def file_pack_id(path: Path) -> bytes:
    """The id of a pack: the first 16 bytes of BLAKE3 over the whole file."""
    hasher = blake3()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.digest(length=PACK_ID_LENGTH)
