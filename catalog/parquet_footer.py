"""One footer over many small Parquet files laid end to end, so that the whole is Parquet too (pure).

Each segment of a records object is a complete Parquet file, which is how we read one by itself. Any
other tool wants one footer at the end of the object. It is made here from the segments' own
footers: their row groups, with the file offsets moved. Footers are Thrift structs in the compact
protocol (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md); the
field numbers are those of parquet.thrift.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from hangar_cloud.backends.errors import CorruptDataError

PARQUET_MAGIC: Final = b"PAR1"
_MAX_SHIFT: Final = 63

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_NUM_ROWS, _ROW_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_FILE_OFFSET, _GROUP_ORDINAL = 1, 5, 7
_CHUNK_FILE_OFFSET, _CHUNK_META = 2, 3
_CHUNK_INDEX_OFFSETS: Final = (4, 6)
_META_OFFSETS: Final = (9, 10, 11, 14)
_META_PAGE_OFFSETS: Final = (9, 11)

# A struct is {field number: (type, value)}; a list is (element type, [values]).
Struct = dict[int, tuple[int, Any]]


def combine_segments(segments: Sequence[bytes], footers: Sequence[Struct] | None = None) -> bytes:
    """A records object: the segments in order, and a footer over all of them if there are several.

    All segments must have the same Parquet schema. `footers` are those of the segments, should they be known; they are
    used up.
    """
    if len(segments) == 1:
        return segments[0]
    combined: Struct = {}
    groups: list[Any] = []
    rows = offset = 0
    for segment, footer in zip(segments, footers or map(read_footer, segments), strict=True):
        for group in footer[_ROW_GROUPS][1][1]:
            _move_group(group, offset)
            if _GROUP_ORDINAL in group:
                group[_GROUP_ORDINAL] = (_I16, len(groups))
            groups.append(group)
        rows += footer[_NUM_ROWS][1]
        offset += len(segment)
        combined = combined or footer
    combined[_NUM_ROWS] = (_I64, rows)
    combined[_ROW_GROUPS] = (_LIST, (_STRUCT, groups))
    encoded = bytearray()
    _write_struct(encoded, combined)
    return b"".join([*segments, encoded, len(encoded).to_bytes(4, "little"), PARQUET_MAGIC])


def segment_starts(data: bytes | memoryview) -> list[int]:
    """Where each segment of a records object begins, from its footer.

    Raises:
        CorruptDataError: it has none, or one that says nothing of where the data is.
    """
    starts = []
    try:
        for group in read_footer(data)[_ROW_GROUPS][1][1]:
            metas = [chunk[_CHUNK_META][1] for chunk in group[_GROUP_COLUMNS][1][1]]
            pages = [meta[field][1] for meta in metas for field in _META_PAGE_OFFSETS if field in meta]
            starts.append(min(pages) - len(PARQUET_MAGIC))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CorruptDataError("a records object has a footer that does not say where its segments are") from error
    if not starts:
        raise CorruptDataError("a records object has a footer over nothing")
    return starts


def read_footer(parquet: bytes | memoryview) -> Struct:
    """The footer of a Parquet file as a generic Thrift struct.

    Raises:
        CorruptDataError: these bytes do not end in a Parquet footer.
    """
    length = int.from_bytes(parquet[-8:-4], "little")
    if bytes(parquet[-4:]) != PARQUET_MAGIC or length + 12 > len(parquet):
        raise CorruptDataError("a record segment does not end in a Parquet footer")
    return read_struct(parquet, len(parquet) - 8 - length)[0]


def read_struct(data: bytes | memoryview, position: int) -> tuple[Struct, int]:
    """The Thrift struct that begins at a position, and the position behind it.

    Raises:
        CorruptDataError: there is none, or one that has a field twice.
    """
    try:
        return _read_struct(data, position)
    except (IndexError, RecursionError, struct.error) as error:
        raise CorruptDataError("a Thrift struct of a record segment is damaged") from error


def _move_group(group: Struct, distance: int) -> None:
    _move(group, _GROUP_FILE_OFFSET, distance)
    for chunk in group[_GROUP_COLUMNS][1][1]:
        # file_offset is 0 where a writer leaves it unused, and must stay so.
        if chunk.get(_CHUNK_FILE_OFFSET, (_I64, 0))[1]:
            _move(chunk, _CHUNK_FILE_OFFSET, distance)
        for field in _CHUNK_INDEX_OFFSETS:
            _move(chunk, field, distance)
        for field in _META_OFFSETS:
            _move(chunk[_CHUNK_META][1], field, distance)


def _move(struct_: Struct, field: int, distance: int) -> None:
    if field in struct_:
        kind, value = struct_[field]
        struct_[field] = (kind, value + distance)


def _read_struct(data: bytes | memoryview, position: int) -> tuple[Struct, int]:
    # Every leaf that is read comes through here, some three hundred bytes of it: numbers of one byte, nearly all there
    # are, are told on the spot, which takes half the time that a call for each takes.
    fields: Struct = {}
    number = 0
    while True:
        head = data[position]
        position += 1
        if not head:
            return fields, position
        delta, kind = head >> 4, head & 15
        if delta:
            number += delta
        else:
            number, position = _read_zigzag(data, position)
        if number in fields:
            raise CorruptDataError(f"a Thrift struct of a record segment has field {number} twice")
        if _I16 <= kind <= _I64:
            byte = data[position]
            if byte < 128:
                position += 1
                fields[number] = (kind, (byte >> 1) ^ -(byte & 1))
                continue
        value, position = _read_value(data, position, kind)
        fields[number] = (kind, value)


def _read_value(data: bytes | memoryview, position: int, kind: int) -> tuple[Any, int]:
    if kind == _STRUCT:
        return _read_struct(data, position)
    if _I16 <= kind <= _I64:
        return _read_zigzag(data, position)
    if kind == _BINARY:
        length, position = _read_varint(data, position)
        return bytes(data[position : position + length]), position + length
    if kind in (_LIST, _SET):
        return _read_list(data, position)
    if kind in (_TRUE, _FALSE):
        return None, position
    if kind == _BYTE:
        return data[position], position + 1
    if kind == _DOUBLE:
        return struct.unpack("<d", bytes(data[position : position + 8]))[0], position + 8
    raise CorruptDataError(f"a Parquet footer holds a Thrift value of unknown type {kind}")


def _read_list(data: bytes | memoryview, position: int) -> tuple[tuple[int, list[Any]], int]:
    head = data[position]
    size, element, position = head >> 4, head & 15, position + 1
    if size == 15:
        size, position = _read_varint(data, position)
    if size > len(data) - position:
        raise CorruptDataError("a Thrift list of a record segment is longer than what holds it")
    # A bool is a byte in a list, where in a struct its type says all.
    kind = _BYTE if element in (_TRUE, _FALSE) else element
    items = []
    for _ in range(size):
        item, position = _read_value(data, position, kind)
        items.append(item)
    return (element, items), position


def _read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > _MAX_SHIFT:
            raise CorruptDataError("a Thrift number of a record segment is longer than any is")


def _read_zigzag(data: bytes | memoryview, position: int) -> tuple[int, int]:
    value, position = _read_varint(data, position)
    return (value >> 1) ^ -(value & 1), position


def _write_struct(out: bytearray, fields: Struct) -> None:
    previous = 0
    for number in sorted(fields):
        kind, value = fields[number]
        delta = number - previous
        if delta <= 15:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            _write_zigzag(out, number)
        previous = number
        _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind == _BYTE:
        out.append(value)
    elif kind in (_I16, _I32, _I64):
        _write_zigzag(out, value)
    elif kind == _DOUBLE:
        out += struct.pack("<d", value)
    elif kind == _BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind in (_LIST, _SET):
        element, items = value
        if len(items) < 15:
            out.append(len(items) << 4 | element)
        else:
            out.append(0xF0 | element)
            _write_varint(out, len(items))
        for item in items:
            if element in (_TRUE, _FALSE):
                out.append(item)
            else:
                _write_value(out, element, item)
    elif kind == _STRUCT:
        _write_struct(out, value)


def _write_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _write_zigzag(out: bytearray, value: int) -> None:
    _write_varint(out, (value << 1) ^ (value >> 63))
