"""Looking at the files that TileDB keeps beside the data, before TileDB does (pure).

TileDB makes room for what its files say that they hold. A file of a repository may come from anybody, and with one that
lies that is gigabytes. So their frame is checked here: that each record has the length, stored and raw, that it says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from hangar_cloud.backends.errors import CorruptDataError

# What TileDB puts before each of its records: version, stored length, raw length, type, size of a cell, encryption,
# length of the description of the filters.
_RECORD: Final = struct.Struct("<IQQBQBI")
_CHUNK: Final = struct.Struct("<III")
_LENGTH: Final = struct.Struct("<Q")
_MAX_SCHEMA: Final = 64 * 1024


def tile_end(view: memoryview, position: int) -> tuple[int, int]:
    """Where the filtered tile that begins here ends, and how many raw bytes it says it has.

    Raises:
        CorruptDataError: it is cut short.
    """
    try:
        count = int.from_bytes(view[position : position + 8], "little")
        position += 8
        raw = 0
        for _ in range(count):
            original, filtered, metadata = _CHUNK.unpack_from(view, position)
            position += _CHUNK.size + filtered + metadata
            raw += original
            if position > len(view):
                break
    except struct.error as error:
        raise CorruptDataError("a tile of an array is cut short") from error
    if position > len(view):
        raise CorruptDataError("a tile of an array is cut short")
    return position, raw


def check_schema(schema: bytes) -> None:
    """Raises CorruptDataError if this is not one record of TileDB of a moderate size."""
    if [start for start, _ in _records(schema, len(schema), _MAX_SCHEMA)] != [0]:
        raise CorruptDataError("the schema of an array is damaged")


def check_fragment(fragment: bytes, tiles: int) -> None:
    """Raises CorruptDataError if this is not what TileDB knows of a fragment of so many tiles.

    That is records, one behind the other; a footer, whose last numbers say where each of them begins; and the footer's
    length.
    """
    if len(fragment) < _LENGTH.size:
        raise CorruptDataError("what is known of the tiles of an array is cut short")
    (length,) = _LENGTH.unpack_from(fragment, len(fragment) - _LENGTH.size)
    end = len(fragment) - _LENGTH.size - length
    # The longest record has four numbers for each tile and dimension at most.
    starts = [start for start, _ in _records(fragment, end, _MAX_SCHEMA + 32 * 32 * tiles)]
    numbers = fragment[max(end, len(fragment) - _LENGTH.size * (len(starts) + 1)) : -_LENGTH.size]
    if not starts or numbers != b"".join(map(_LENGTH.pack, starts)):
        raise CorruptDataError("what is known of the tiles of an array is damaged")


def _records(data: bytes, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Where each record begins and ends, of those that fill a file up to `end`."""
    view = memoryview(data)
    position = 0
    while position < end:
        try:
            _, stored, raw, _, cell, _, described = _RECORD.unpack_from(view, position)
        except struct.error as error:
            raise CorruptDataError("a record of an array is cut short") from error
        start = position + _RECORD.size + described
        stop, found = tile_end(view, start)
        if (stop - start, found, cell) != (stored, raw, 1) or raw > most:
            raise CorruptDataError("a record of an array is damaged")
        yield position, stop
        position = stop
    if position != end:
        raise CorruptDataError("the records of an array do not fill their file")
