"""Blocks: the checksummed unit in which packs hold sample bytes (pure, no I/O).

A block is a 24-byte header and the encoded bytes. Small samples share a block; a huge sample is a
run of consecutive blocks. `docs/format.md` section "Packs" is the normative text.

An extent of a pack may hold an array in the place of blocks (`array_format`). Who reads, checks or erases whole extents
need not know: the functions here do for both.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import xxhash

from hangar_cloud.backends.array_format import check_array, is_array
from hangar_cloud.backends.codecs import RAW, Codec, compress, compress_each, decompress
from hangar_cloud.backends.errors import CorruptDataError

BLOCK_MAGIC: Final = b"HB"
# magic, codec number, shuffle size, flags, 3 reserved bytes, raw length, encoded length, checksum
_HEADER: Final = struct.Struct("<2sBBB3sIIQ")
_RESERVED: Final = b"\0\0\0"
HEADER_LENGTH: Final = _HEADER.size
GROUP_BYTES: Final = 16 * 1024
MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024
_BOUND: Final = 1
_LONE: Final = (BLOCK_MAGIC, RAW, 0, _BOUND, _RESERVED)
_SEED_MASK: Final = 2**64 - 1


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


def most_decoded(place: Place) -> int:
    """The most bytes that the blocks of a place may decode to: the sample, or a block that it shares."""
    return max(place.size, min(place.start + place.size, MAX_BLOCK_BYTES))


def encode_block(raw: bytes | memoryview, codec: Codec, binding: bytes | None = None, number: int = 0) -> bytes:
    """One block with its header.

    Args:
        raw: at most 4 MiB of payload bytes.
        codec: how to encode them; kept raw where encoding does not shrink them.
        binding: digest of the one sample that the block belongs to. Its first eight bytes seed the
            checksum, so that another sample's intact block is not taken for this one. Blocks that
            group samples are not bound (their readers compare a digest instead).
        number: of the block in its sample's run, from 0. It is part of the seed of a bound block, so
            that blocks of one sample are not taken for each other.
    """
    encoded = raw if codec.number == RAW else compress(codec, raw)
    return b"".join(_block_parts(raw, encoded, codec, binding, number))


def shared_blocks(raws: Sequence[bytes | memoryview], codec: Codec) -> list[tuple[bytes, bytes | memoryview]]:
    """Blocks, in parts, of samples that share them: quicker than one by one. What is kept raw is no copy."""
    encoded = compress_each(codec, raws)
    return [_block_parts(raw, data, codec, None, 0) for raw, data in zip(raws, encoded, strict=True)]


def _block_parts(
    raw: bytes | memoryview, encoded: bytes | memoryview, codec: Codec, binding: bytes | None, number: int
) -> tuple[bytes, bytes | memoryview]:
    """The header of a block, and its bytes; those that were given, where they are kept raw."""
    if len(encoded) >= len(raw):
        codec, encoded = Codec(RAW), raw
    flags = 0 if binding is None else _BOUND
    checksum = _checksum(codec.number, codec.shuffle, flags, len(raw), encoded, _seed(binding, number))
    header = _HEADER.pack(BLOCK_MAGIC, codec.number, codec.shuffle, flags, _RESERVED, len(raw), len(encoded), checksum)
    return header, encoded


def unused_block(nbytes: int) -> bytes:
    """A block of so many bytes, header included, that no record names."""
    return encode_block(bytes(nbytes - HEADER_LENGTH), Codec(RAW))


def encode_sample(payload: bytes | memoryview, codec: Codec, digest: bytes) -> bytes:
    """A sample of its own: one bound block, or a run of them where it exceeds 4 MiB."""
    return b"".join(sample_parts(payload, codec, digest))


def sample_parts(payload: bytes | memoryview, codec: Codec, digest: bytes) -> tuple[bytes | memoryview, ...]:
    """What `encode_sample` gives, in parts. What is kept raw is no copy: write it before the payload changes."""
    view = memoryview(payload)
    raws = [view[start : start + MAX_BLOCK_BYTES] for start in range(0, max(len(view), 1), MAX_BLOCK_BYTES)]
    encoded = compress_each(codec, raws)
    return tuple(
        part
        for number, (raw, data) in enumerate(zip(raws, encoded, strict=True))
        for part in _block_parts(raw, data, codec, digest, number)
    )


def is_bound(data: bytes | memoryview) -> bool:
    """Whether a block (or the first of a run) is bound to the one sample that it holds."""
    return bool(_HEADER.unpack_from(data)[3] & _BOUND)


def encode_alike(raw: bytes | memoryview, old: bytes | memoryview) -> bytes:
    """A block (or array) of other raw bytes, encoded as another one is, and not bound."""
    if is_array(old):
        from hangar_cloud.backends.array_blocks import encode_array_alike

        return encode_array_alike(raw, old)
    _, number, shuffle, *_ = _HEADER.unpack_from(old)
    return encode_block(raw, Codec(number, shuffle))


def decode_blocks(data: bytes | memoryview, digest: bytes, expected: int) -> memoryview:
    """Decode the block, run of blocks or array that fills `data`, with every checksum verified.

    Args:
        data: the extent of a `Place`.
        digest: digest of the sample that is read (bound blocks are checked against it).
        expected: raw bytes that the caller is ready to take; a block that would make it more (a
            shared block may hold some more than one sample) is refused before it is decoded.

    Raises:
        CorruptDataError: a header, a checksum or a length is wrong.
    """
    view = memoryview(data)
    if is_array(view):
        from hangar_cloud.backends.array_blocks import decode_array

        return decode_array(view, digest, expected)
    room = max(expected, GROUP_BYTES * 4)
    first, position = _decode_one(view, 0, digest, 0, room)
    if position == len(view):
        return first
    parts = [first]
    while position < len(view):
        if not len(parts[-1]):
            # Only an empty sample has an empty block. A run of them takes far more memory than its bytes.
            raise CorruptDataError("a run of blocks has an empty one")
        room -= len(parts[-1])
        part, position = _decode_one(view, position, digest, len(parts), room)
        parts.append(part)
    return memoryview(b"".join(parts))


def may_be_lone(place: Place) -> bool:
    """Whether a place is as long as one block of its sample alone, kept raw."""
    return place.start == 0 and place.stored == HEADER_LENGTH + place.size


def lone_payload(view: memoryview, position: int, place: Place, digest: bytes) -> memoryview | None:
    """The bytes of a sample that lies by itself in one block, kept raw and bound to it, with the checksum verified.

    Args:
        view: has the extent of the place, at a position in it.
        place: of the sample; one that may be lone.
        digest: of the sample.

    Returns:
        None where `decode_blocks` has to tell what it is, or what is wrong with it.
    """
    stored, size = place.stored, place.size
    magic, number, shuffle, flags, reserved, raw_length, length, checksum = _HEADER.unpack_from(view, position)
    if (magic, number, shuffle, flags, reserved) != _LONE or not raw_length == length == size <= MAX_BLOCK_BYTES:
        return None
    payload = view[position + HEADER_LENGTH : position + stored]
    found = _checksum(number, shuffle, flags, raw_length, payload, _seed(digest, 0))
    return payload if found == checksum else None


def check_blocks(data: bytes | memoryview, digest: bytes) -> None:
    """Verify the checksums of the block, run of blocks or array that fills `data`, without decoding it.

    Args:
        data: the extent of a `Place`.
        digest: of a sample in it; its first 8 bytes are enough.

    Raises:
        CorruptDataError: a header, a checksum or a length is wrong.
    """
    view = memoryview(data)
    if is_array(view):
        check_array(view, digest)
        return
    position = number = 0
    while position < len(view) or not number:
        *_, position = _checked(view, position, digest, number)
        number += 1


def _decode_one(view: memoryview, position: int, digest: bytes, place_in_run: int, room: int) -> tuple[memoryview, int]:
    number, shuffle, encoded, raw_length, end = _checked(view, position, digest, place_in_run, room)
    return decompress(number, shuffle, encoded, raw_length), end


def _checked(
    view: memoryview, position: int, digest: bytes, place_in_run: int, room: int = MAX_BLOCK_BYTES
) -> tuple[int, int, memoryview, int, int]:
    """Codec number, shuffle size, encoded bytes, raw length and end of the intact block at a position."""
    if len(view) - position < HEADER_LENGTH:
        raise CorruptDataError("a block header is cut short" if len(view) else "an empty extent holds no block")
    magic, number, shuffle, flags, reserved, raw_length, length, checksum = _HEADER.unpack_from(view, position)
    start = position + HEADER_LENGTH
    if magic != BLOCK_MAGIC or reserved != _RESERVED or raw_length > MAX_BLOCK_BYTES:
        raise CorruptDataError("a block header is damaged")
    if start + length > len(view):
        raise CorruptDataError("a block is cut short")
    if raw_length > room:
        raise CorruptDataError("blocks hold more bytes than their record declares")
    encoded = view[start : start + length]
    seed = _seed(digest if flags & _BOUND else None, place_in_run)
    if _checksum(number, shuffle, flags, raw_length, encoded, seed) != checksum:
        raise CorruptDataError("a block fails its checksum")
    return number, shuffle, encoded, raw_length, start + length


def _seed(binding: bytes | None, number: int) -> int:
    return 0 if binding is None else (int.from_bytes(binding[:8], "little") + number) & _SEED_MASK


def _checksum(number: int, shuffle: int, flags: int, raw_length: int, encoded: bytes | memoryview, seed: int) -> int:
    described = ((number << 48) | (shuffle << 40) | (flags << 32) | raw_length) ^ seed
    return xxhash.xxh3_64_intdigest(encoded, described)
