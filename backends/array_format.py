"""The array extent: a complete TileDB array in one part of a pack, with a table of its tiles (pure, no I/O).

    lead     fixed size: what the head is checked against
    head     shape, tile, names and metadata files of TileDB, and the table of tiles
    data     TileDB's file of the one attribute: the filtered tiles, one behind the other

The table is what makes a box cheap: it says where each tile is, and what its checksum is, so that tiles are fetched,
kept and verified one by one. `docs/format.md` section "Array extents" is the normative text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from hangar_cloud.backends.array_files import check_fragment, check_schema, tile_end
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError

ARRAY_MAGIC: Final = b"HT"
ARRAY_GROUP_BYTES: Final = 1024 * 1024
"""At most so many raw bytes are in an array that several samples share."""
WIDTHS: Final = (1, 2, 4, 8, 16, 32)
"""Bytes of an element that arrays take. TileDB sees unsigned integers, so that every bit of any dtype comes back."""

_VERSION: Final = 1
_BOUND: Final = 1
_MAX_RANK: Final = 31
_MAX_FILE: Final = 1 << 30
_SEED_MASK: Final = 2**64 - 1
# magic, version, width, flags, 3 reserved bytes, samples, length of the head, raw length, length of the data, checksum
# of the head; then the checksum of all this
_LEAD: Final = struct.Struct("<2sBBB3xIIQQQ")
LEAD_LENGTH: Final = _LEAD.size + 8
_NUMBERS: Final = struct.Struct("<QQ")
_SCHEMA_NAME: Final = re.compile(rb"__[0-9]{1,20}_[0-9]{1,20}_[0-9a-f]{32}")
_FRAGMENT_NAME: Final = re.compile(rb"__[0-9]{1,20}_[0-9]{1,20}_[0-9a-f]{32}_[0-9]{1,5}")


class ArrayLead(NamedTuple):
    """The beginning of an array extent. Lengths are in bytes; `width` is that of one element."""

    width: int
    bound: bool
    samples: int
    head_length: int
    raw_length: int
    data_length: int
    head_checksum: int

    @property
    def data_at(self) -> int:
        """Where in the extent the data begins."""
        return LEAD_LENGTH + self.head_length


class ArrayFiles(NamedTuple):
    """What TileDB keeps of an array beside the data: names and contents of two files."""

    schema_name: str
    schema: bytes
    fragment_name: str
    fragment: bytes


class ArrayHead(NamedTuple):
    """What an array extent says of itself.

    `shape` and `tile` are those of one sample, in elements; `owners` has the first 8 bytes of each sample's digest, or
    zeros where that is not known; `starts` has where each tile begins in the data, and where the last one ends;
    `checksums` has one for each tile. Tiles are in row-major order, sample after sample.
    """

    lead: ArrayLead
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    owners: bytes
    files: ArrayFiles
    starts: npt.NDArray[np.uint64]
    checksums: npt.NDArray[np.uint64]

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.checksums)

    @property
    def tile_bytes(self) -> int:
        """Raw bytes of one tile; those at the edges are padded to it."""
        return prod(self.tile) * self.lead.width

    def owns(self, sample: int, digest: bytes) -> bool:
        """Whether a sample, by its number in the array, is the one of a digest."""
        return 0 <= sample < self.lead.samples and self.owners[sample * 8 : sample * 8 + 8] == digest[:8]

    def span(self, number: int) -> tuple[int, int]:
        """Where a tile begins in the data, and its length."""
        start, end = int(self.starts[number]), int(self.starts[number + 1])
        return start, end - start


def is_array(data: bytes | memoryview) -> bool:
    """Whether an extent holds an array, and not blocks."""
    return bytes(data[:2]) == ARRAY_MAGIC


def encode_extent(
    width: int,
    shape: Sequence[int],
    tile: Sequence[int],
    files: ArrayFiles,
    data: bytes,
    digests: Sequence[bytes],
) -> bytes:
    """An array extent.

    Args:
        width: bytes of one element.
        shape, tile: of one sample, in elements.
        files: what TileDB keeps beside the data.
        data: its filtered tiles.
        digests: of the samples in the array, 8 bytes or more of each. If it is one, the array is bound to it.
    """
    samples = len(digests)
    seed = _seed(digests[0] if samples == 1 else b"")
    raw_length = samples * prod(shape) * width
    lengths = tile_lengths(data)
    ends = np.cumsum(lengths, dtype=np.uint64)
    view = memoryview(data)
    starts = [0, *ends.tolist()]
    sums = [_tile_sum(view[a:b], seed, i) for i, (a, b) in enumerate(pairwise(starts))]
    table = np.empty((len(lengths), 2), "<u8")
    table[:, 0], table[:, 1] = lengths, sums
    numbers = b"".join(_NUMBERS.pack(n, t) for n, t in zip(shape, tile, strict=True))
    texts = (files.schema_name.encode(), files.fragment_name.encode(), files.schema, files.fragment)
    sized = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    owners = b"".join(digest[:8] for digest in digests)
    head = bytes([len(shape)]) + numbers + owners + sized + table.tobytes()
    flags = _BOUND if samples == 1 else 0
    lead = _LEAD.pack(
        ARRAY_MAGIC, _VERSION, width, flags, samples, len(head), raw_length, len(data), _head_sum(head, seed)
    )
    return b"".join((lead, _lead_sum(lead, seed).to_bytes(8, "little"), head, data))


def read_lead(data: bytes | memoryview, digest: bytes) -> ArrayLead:
    """The lead of an array extent.

    Args:
        data: the first `LEAD_LENGTH` bytes, or more.
        digest: of the sample that is read; its first 8 bytes are enough.

    Raises:
        CorruptDataError: these are not its bytes, or those of another sample's array.
        UnsupportedFormatError: a later version wrote it.
    """
    if len(data) < LEAD_LENGTH:
        raise CorruptDataError("the lead of an array is cut short")
    magic, version, width, flags, samples, head_length, raw_length, data_length, checksum = _LEAD.unpack_from(data)
    if magic != ARRAY_MAGIC:
        raise CorruptDataError("this is no array")
    if version != _VERSION:
        raise UnsupportedFormatError(
            f"an array of version {version} is not known to this version of hangar-cloud; upgrade it to read this"
        )
    lead = ArrayLead(width, bool(flags & _BOUND), samples, head_length, raw_length, data_length, checksum)
    stored = int.from_bytes(data[_LEAD.size : LEAD_LENGTH], "little")
    if _lead_sum(bytes(data[: _LEAD.size]), _seed(digest if lead.bound else b"")) != stored:
        raise CorruptDataError("the lead of an array fails its checksum")
    if flags not in (0, _BOUND) or bytes(data[5:8]) != b"\0\0\0" or width not in WIDTHS or lead.bound != (samples == 1):
        raise CorruptDataError("the lead of an array is damaged")
    return lead


def read_head(lead: ArrayLead, data: bytes | memoryview, digest: bytes) -> ArrayHead:
    """The head of an array extent.

    Args:
        lead: what comes before it.
        data: its bytes.
        digest: as in `read_lead`.

    Raises:
        CorruptDataError: they are not, or describe no array.
    """
    if len(data) != lead.head_length or _head_sum(data, _seed(digest if lead.bound else b"")) != lead.head_checksum:
        raise CorruptDataError("the head of an array fails its checksum")
    try:
        return _parsed(lead, memoryview(data))
    except (struct.error, IndexError, ValueError) as error:
        raise CorruptDataError(f"the head of an array is damaged: {error}") from error


def check_tile(head: ArrayHead, number: int, data: bytes | memoryview, digest: bytes) -> None:
    """Raises CorruptDataError if these are not the bytes of a tile, or would decode to more than a tile."""
    seed = _seed(digest if head.lead.bound else b"")
    if len(data) != head.span(number)[1] or _tile_sum(data, seed, number) != int(head.checksums[number]):
        raise CorruptDataError(f"tile {number} of an array fails its checksum")
    end, raw = tile_end(memoryview(data), 0)
    if end != len(data) or raw != head.tile_bytes:
        raise CorruptDataError(f"tile {number} of an array holds {raw} bytes where a tile has {head.tile_bytes}")


def check_array(data: bytes | memoryview, digest: bytes) -> ArrayHead:
    """The head of a whole array extent, every checksum of which was verified; nothing is decoded.

    Raises:
        CorruptDataError: a checksum or a length is wrong.
    """
    view = memoryview(data)
    lead = read_lead(view, digest)
    if len(view) != lead.data_at + lead.data_length:
        raise CorruptDataError("an array is cut short")
    head = read_head(lead, view[LEAD_LENGTH : lead.data_at], digest)
    for number in range(head.tiles):
        start, length = head.span(number)
        check_tile(head, number, view[lead.data_at + start : lead.data_at + start + length], digest)
    return head


def tiles_in_box(head: ArrayHead, sample: int, lows: Sequence[int], highs: Sequence[int]) -> npt.NDArray[np.int64]:
    """Numbers of the tiles that a box touches.

    Args:
        head: of the array.
        sample: number of the sample in it.
        lows, highs: first element of the box and the one behind the last, in each dimension; none is empty.

    Returns:
        of shape (tiles,), ascending.
    """
    numbers = np.full(1, sample, np.int64)
    for size, tile, low, high in zip(head.shape, head.tile, lows, highs, strict=True):
        touched = np.arange(low // tile, -(-high // tile), dtype=np.int64)
        numbers = (numbers[:, None] * -(-size // tile) + touched).reshape(-1)
    return numbers


def tile_lengths(data: bytes) -> npt.NDArray[np.uint64]:
    """Lengths of the filtered tiles in a data file of TileDB, in bytes; each begins with the number of its chunks."""
    view = memoryview(data)
    lengths, position = [], 0
    while position < len(view):
        end, _ = tile_end(view, position)
        lengths.append(end - position)
        position = end
    return np.array(lengths, np.uint64)


def _parsed(lead: ArrayLead, view: memoryview) -> ArrayHead:
    rank = view[0]
    position = 1 + rank * _NUMBERS.size + lead.samples * 8
    owners = bytes(view[position - lead.samples * 8 : position])
    sides = [_NUMBERS.unpack_from(view, 1 + i * _NUMBERS.size) for i in range(rank)]
    shape, tile = tuple(n for n, _ in sides), tuple(t for _, t in sides)
    texts = []
    for _ in range(4):
        length = int.from_bytes(view[position : position + 4], "little")
        texts.append(bytes(view[position + 4 : position + 4 + length]))
        position += 4 + length
    # Looked at before anything of that size is made: no tile is larger than its sample, nor that than was declared.
    if not 1 <= rank <= _MAX_RANK or len(owners) != lead.samples * 8 or any(not 1 <= t <= n for n, t in sides):
        raise CorruptDataError("the head of an array gives a shape or tile that cannot be")
    if lead.samples * prod(shape) * lead.width != lead.raw_length:
        raise CorruptDataError("the shape of an array does not fit its length")
    table = np.frombuffer(view[position:], "<u8").reshape(-1, 2)
    if len(table) != lead.samples * prod(-(-n // t) for n, t in sides):
        raise CorruptDataError("the table of an array has not one row for each tile")
    if not _SCHEMA_NAME.fullmatch(texts[0]) or not _FRAGMENT_NAME.fullmatch(texts[1]):
        raise CorruptDataError("the head of an array names files that cannot be")
    check_schema(texts[2])
    check_fragment(texts[3], len(table))
    if (table[:, 0] > np.uint64(lead.data_length)).any() or lead.data_length > _MAX_FILE * 1024:
        raise CorruptDataError("a tile of an array lies outside of it")
    starts = np.concatenate([np.zeros(1, np.uint64), np.cumsum(table[:, 0], dtype=np.uint64)])
    if int(starts[-1]) != lead.data_length:
        raise CorruptDataError("the tiles of an array do not fill it")
    files = ArrayFiles(texts[0].decode(), texts[2], texts[1].decode(), texts[3])
    return ArrayHead(lead, shape, tile, owners, files, starts, table[:, 1])


def _seed(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")


def _lead_sum(lead: bytes, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(lead, seed)


def _head_sum(head: bytes | memoryview, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(head, seed)


def _tile_sum(data: Any, seed: int, number: int) -> int:
    # Seeded with its number too, so that tiles of one array are not taken for each other.
    return xxhash.xxh3_64_intdigest(data, (seed + number) & _SEED_MASK)
