"""What decoding a record segment may cost, found out before it is decoded (pure).

A Parquet file of a hundred bytes can stand for gigabytes: pages that inflate, dictionaries whose one entry is
repeated, values that are built from the ones before them. Whoever can write to a bucket can put such a file there, so
the footer and the headers of all pages are looked at first. (Not through pyarrow, which ends the process over
some damaged footers as soon as one asks what they say.) The field numbers are those of parquet.thrift.
"""

from __future__ import annotations

from typing import Any, Final

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog.parquet_footer import Struct, read_footer, read_struct

# Nodes have 2,048 rows on average, or 256 children: chance makes none of this length.
MAX_NODE_ROWS: Final = 2**17
MAX_DECODED_BYTES: Final = 64 * 1024 * 1024
MAX_FOOTER_BYTES: Final = 256 * 1024
MAX_FOOTER_ITEMS: Final = 1024
_FIXED_WIDTH: Final = 32
_WIDTH: Final = 16
"""Bytes that a row may take in a column beside what its pages hold: offsets, or numbers told by a few bits."""

_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12
_SCHEMA, _NUM_ROWS, _ROW_GROUPS = (2, _LIST), (3, _I64), (4, _LIST)
_ELEMENT_NAME, _ELEMENT_REPETITION, _ELEMENT_CHILDREN = (4, _BINARY), (3, _I32), 5
_GROUP_COLUMNS, _GROUP_ROWS = (1, _LIST), (3, _I64)
_CHUNK_FILE, _CHUNK_META = 1, (3, _STRUCT)
_META_TYPE, _META_CODEC, _META_VALUES, _META_STORED = (1, _I32), (4, _I32), (5, _I64), (7, _I64)
_META_DATA_PAGE, _META_DICTIONARY_PAGE = (9, _I64), (11, _I64)
_PAGE_TYPE, _PAGE_SIZE, _PAGE_STORED = (1, _I32), (2, _I32), (3, _I32)
_PAGE_ENCODINGS: Final = {5: (2, _I32), 8: (4, _I32)}
_REPEATED: Final = 2
_BYTE_ARRAY: Final = 6
_FIXED_BYTE_ARRAY: Final = 7
_DICTIONARY_PAGE: Final = 2
# Each value says how much of the one before it begins it: what is read grows with the square of what is stored.
_DELTA_BYTE_ARRAY: Final = 7
_CODECS: Final = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}


def check_cost(data: bytes | memoryview, names: set[str]) -> list[str]:
    """Refuse a segment that would take more memory than any node does.

    Args:
        data: the segment.
        names: the columns that would be read.

    Returns:
        those of the columns that are there.

    Raises:
        CorruptDataError: no readable footer, more than one row group, too many rows, too large pages, or nested
            columns.
    """
    if int.from_bytes(data[-8:-4], "little") > MAX_FOOTER_BYTES:
        raise CorruptDataError("a record segment has a footer that is larger than any node's")
    footer = read_footer(data)
    groups, rows = _structs(footer, _ROW_GROUPS), _field(footer, _NUM_ROWS)
    if len(groups) != 1 or not 1 <= rows <= MAX_NODE_ROWS or _field(groups[0], _GROUP_ROWS) != rows:
        raise CorruptDataError(f"a record segment has {len(groups)} row groups and {rows} rows")
    elements, chunks = _structs(footer, _SCHEMA)[1:], _structs(groups[0], _GROUP_COLUMNS)
    if len(elements) != len(chunks):
        raise CorruptDataError("a record segment has nested columns")
    found: list[str] = []
    total = 0
    for element, chunk in zip(elements, chunks, strict=True):
        name = _field(element, _ELEMENT_NAME).decode("utf-8", "replace")
        if name not in names:
            continue
        nested = _ELEMENT_CHILDREN in element or _field(element, _ELEMENT_REPETITION) == _REPEATED
        if nested or name in found or _CHUNK_FILE in chunk:
            raise CorruptDataError(f"a record segment's column {name} is nested, there twice, or elsewhere")
        total += _decoded_size(data, _field(chunk, _CHUNK_META), rows)
        if total > MAX_DECODED_BYTES:
            raise CorruptDataError(f"a record segment of {len(data)} bytes decodes to over {MAX_DECODED_BYTES} bytes")
        found.append(name)
    return found


def _decoded_size(data: bytes | memoryview, meta: Struct, rows: int) -> int:
    """Upper bound of the bytes that a column takes decoded."""
    if _field(meta, _META_VALUES) != rows:
        raise CorruptDataError(f"a record segment's column has {_field(meta, _META_VALUES)} values of {rows}")
    position = _field(meta, _META_DATA_PAGE)
    if _META_DICTIONARY_PAGE[0] in meta and _field(meta, _META_DICTIONARY_PAGE) > 0:
        position = min(position, _field(meta, _META_DICTIONARY_PAGE))
    end = position + _field(meta, _META_STORED)
    if not 4 <= position < end <= len(data):
        raise CorruptDataError("a record segment's column lies outside of it")
    total = rows * (_FIXED_WIDTH if _field(meta, _META_TYPE) == _FIXED_BYTE_ARRAY else _WIDTH)
    while position < end and total <= MAX_DECODED_BYTES:
        header, position = read_struct(data, position)
        stored, size = _field(header, _PAGE_STORED), _field(header, _PAGE_SIZE)
        if stored < 0 or size < 0 or position + stored > end:
            raise CorruptDataError("a record segment's page is cut short")
        for field, encoding in _PAGE_ENCODINGS.items():
            if field in header and _field(_field(header, (field, _STRUCT)), encoding) == _DELTA_BYTE_ARRAY:
                raise CorruptDataError("a record segment has values in the encoding DELTA_BYTE_ARRAY")
        total += size
        is_dictionary = (_field(header, _PAGE_TYPE), _field(meta, _META_TYPE)) == (_DICTIONARY_PAGE, _BYTE_ARRAY)
        if is_dictionary and total <= MAX_DECODED_BYTES:
            total += rows * _longest(data[position : position + stored], size, _field(meta, _META_CODEC))
        position += stored
    return total


def _longest(page: bytes | memoryview, size: int, codec: int) -> int:
    """The length of the longest entry of a dictionary page: any number of rows may have that value."""
    import pyarrow as pa

    try:
        entries = pa.decompress(page, size, _CODECS[codec], asbytes=True) if codec else page
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorruptDataError(f"a record segment's dictionary does not decode: {error!r}") from error
    longest = position = 0
    while position + 4 <= len(entries):
        length = int.from_bytes(entries[position : position + 4], "little")
        longest = max(longest, length)
        position += 4 + length
    return longest


def _field(struct: Struct, field: tuple[int, int]) -> Any:
    """The value of a field that must be there, of its type: readers pass over fields of another."""
    number, kind = field
    found, value = struct.get(number, (0, None))
    if found != kind:
        raise CorruptDataError(f"a Thrift struct of a record segment lacks its field {number}")
    return value


def _structs(struct: Struct, field: tuple[int, int]) -> list[Struct]:
    kind, items = _field(struct, field)
    if kind != _STRUCT:
        raise CorruptDataError(f"field {field[0]} of a record segment's footer is not a list of structs")
    return list(items)
