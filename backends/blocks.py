"""Blocks: the checksummed unit in which packs hold sample bytes (pure, no I/O).

A block is a 24-byte header and the encoded bytes. Small samples share a block; a huge sample is a
run of consecutive blocks. `docs/format.md` section "Packs" is the normative text.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import xxhash

from hangar_cloud.backends.codecs import Codec, compress, decompress
from hangar_cloud.backends.errors import CorruptDataError

BLOCK_MAGIC: Final = b"HB"
# magic, codec number, shuffle size, flags, 3 reserved bytes, raw length, encoded length, checksum
_HEADER: Final = struct.Struct("<2sBBB3xIIQ")
HEADER_LENGTH: Final = _HEADER.size
GROUP_BYTES: Final = 16 * 1024
MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024
_BOUND: Final = 1


class Place(NamedTuple):
    """Where a sample's payload is: a hint beside history, never hashed.

    `pack` is 16 bytes; `offset` and `stored` are the extent of the block or run of blocks in the
    pack, headers included; `start` and `size` cut the payload out of the decoded bytes.
    """

    pack: bytes
    offset: int
    stored: int
    start: int
    size: int


def encode_block(raw: bytes | memoryview, codec: Codec, binding: bytes | None = None) -> bytes:
    """One block with its header.

    Args:
        raw: at most 4 MiB of payload bytes.
        codec: how to encode them; kept raw where encoding does not shrink them.
        binding: digest of the one sample that the block belongs to. Its first eight bytes seed the
            checksum, so that another sample's intact block is not taken for this one. Blocks that
            group samples are not bound (their readers compare a digest instead).
    """
    encoded = compress(codec, raw)
    if len(encoded) >= len(raw):
        codec, encoded = Codec(0), bytes(raw)
    flags = 0 if binding is None else _BOUND
    checksum = _checksum(codec.number, codec.shuffle, flags, len(raw), encoded, _seed(binding))
    header = _HEADER.pack(BLOCK_MAGIC, codec.number, codec.shuffle, flags, len(raw), len(encoded), checksum)
    return header + encoded


def encode_sample(payload: bytes | memoryview, codec: Codec, digest: bytes) -> bytes:
    """A sample of its own: one bound block, or a run of them where it exceeds 4 MiB."""
    view = memoryview(payload)
    return b"".join(
        encode_block(view[start : start + MAX_BLOCK_BYTES], codec, digest)
        for start in range(0, max(len(view), 1), MAX_BLOCK_BYTES)
    )


def decode_blocks(data: bytes | memoryview, digest: bytes, expected: int) -> memoryview:
    """Decode the block or run of blocks that fills `data`, with every checksum verified.

    Args:
        data: the extent of a `Place`.
        digest: digest of the sample that is read (bound blocks are checked against it).
        expected: raw bytes that the caller is ready to take; more is refused before any
            allocation.

    Raises:
        CorruptDataError: a header, a checksum or a length is wrong.
    """
    view = memoryview(data)
    parts: list[memoryview] = []
    position = total = 0
    while position < len(view):
        part, position = _decode_one(view, position, digest)
        total += len(part)
        if total > max(expected, GROUP_BYTES * 4):
            raise CorruptDataError(f"blocks hold more than the {expected} bytes that their record declares")
        parts.append(part)
    if not parts:
        raise CorruptDataError("an empty extent holds no block")
    if len(parts) == 1:
        return parts[0]
    return memoryview(b"".join(parts))


def _decode_one(view: memoryview, position: int, digest: bytes) -> tuple[memoryview, int]:
    if len(view) - position < HEADER_LENGTH:
        raise CorruptDataError("a block header is cut short")
    magic, number, shuffle, flags, raw_length, length, checksum = _HEADER.unpack_from(view, position)
    start = position + HEADER_LENGTH
    if magic != BLOCK_MAGIC or view[position + 5 : position + 8] != b"\0\0\0" or raw_length > MAX_BLOCK_BYTES:
        raise CorruptDataError("a block header is damaged")
    if start + length > len(view):
        raise CorruptDataError("a block is cut short")
    encoded = view[start : start + length]
    seed = _seed(digest if flags & _BOUND else None)
    if _checksum(number, shuffle, flags, raw_length, encoded, seed) != checksum:
        raise CorruptDataError("a block fails its checksum")
    return decompress(number, shuffle, encoded, raw_length), start + length


def _seed(binding: bytes | None) -> int:
    return 0 if binding is None else int.from_bytes(binding[:8], "little")


def _checksum(number: int, shuffle: int, flags: int, raw_length: int, encoded: bytes | memoryview, seed: int) -> int:
    described = ((number << 48) | (shuffle << 40) | (flags << 32) | raw_length) ^ seed
    return xxhash.xxh3_64_intdigest(encoded, described)
