"""Entries of a store's log of moves as Parquet bytes and back (no I/O).

`docs/format.md` section "Moves" is the normative text; `backends/moves.py` says what moves are for.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import xxhash

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.moves import Move, moves_path
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.catalog.records import records_path
from hangar_cloud.catalog.segment_cost import MAX_NODE_ROWS
from hangar_cloud.catalog.segment_file import read_segment, write_segment

MAX_MOVES: Final = MAX_NODE_ROWS
"""In one entry."""

_ID_LENGTH: Final = 16
_RECORDS: Final = 1
_NAME: Final = re.compile(r"(?:packs/[0-9a-f]{2}|records)/([0-9a-f]{32})\.(?:pack|parquet)", re.ASCII)
# kind, object, offset, length, whether `to` is set, to, at, size, whether `checksum` is set, checksum
_PACKED: Final = struct.Struct("<B16sqqB16sqqBQ")
_NOWHERE: Final = bytes(_ID_LENGTH)

_Row = tuple[int, bytes, int, int, bytes | None, int | None, int | None, int | None]


def encode_moves(moves: Iterable[Move], seq: int) -> bytes:
    """The bytes of entry number `seq`: at least 1 and at most `MAX_MOVES` moves, in any order."""
    import pyarrow as pa

    rows = sorted((_row(move) for move in moves), key=lambda row: row[:3])
    types = _types()
    columns = [list(column) for column in zip(*rows, strict=True)]
    columns.append(_checks(rows, seq))
    return write_segment(pa.table({n: pa.array(c, types[n]) for n, c in zip(types, columns, strict=True)}))


def decode_moves(data: bytes, seq: int) -> list[Move]:
    """The moves in the bytes of entry number `seq`.

    Raises:
        CorruptDataError: it is damaged, or another entry; it would take more memory than any entry may; or it
            contradicts itself.
    """
    try:
        rows = _read_rows(data, seq)
        for before, row in pairwise(rows):
            if row[:2] < before[:2] or (row[:2] == before[:2] and row[2] < before[2] + before[3]):
                raise CorruptDataError("it moves some bytes twice, or out of order")
        return [_move(row) for row in rows]
    except CorruptDataError as error:
        raise CorruptDataError(
            f"{moves_path(seq)} is damaged: {error}. It says where bytes of older objects are now: bring it back from "
            "a copy of the repository"
        ) from error


def _read_rows(data: bytes, seq: int) -> list[_Row]:
    types = _types()
    table = read_segment(data, types)
    if list(types) != table.column_names:
        raise CorruptDataError("it lacks columns")
    *columns, checks = (table.column(name).to_pylist() for name in types)
    rows: list[_Row] = list(zip(*columns, strict=True))
    if any(None in row[:4] or min(row[2], row[3] - 1) < 0 or row[2] + row[3] >= 2**63 for row in rows):
        raise CorruptDataError("it has moves from nowhere")
    for _, _, _, length, to, at, size, checksum in rows:
        if (at is None, size is None) != (to is None, to is None) or (to is None and checksum is not None):
            raise CorruptDataError("it has moves without an end")
        if at is not None and size is not None and (at < 0 or size < 1 or (checksum is None and size != length)):
            raise CorruptDataError("it has moves to impossible places")
    if any(row[0] not in (0, _RECORDS) for row in rows):
        raise CorruptDataError("it moves objects of an unknown kind")
    if checks != _checks(rows, seq):
        raise CorruptDataError("it fails its checksum")
    return rows


def _row(move: Move) -> _Row:
    kind = int(move.path.startswith("records/"))
    if move.to is None:
        return kind, _identity(move.path), move.offset, move.length, None, None, None, None
    return kind, _identity(move.path), move.offset, move.length, _identity(move.to), move.at, move.size, move.checksum


def _move(row: _Row) -> Move:
    kind, origin, offset, length, to, at, size, checksum = row
    name = records_path if kind == _RECORDS else pack_path
    return Move(name(origin), offset, length, None if to is None else name(to), at or 0, size or 0, checksum)


def _identity(path: str) -> bytes:
    match = _NAME.fullmatch(path)
    if match is None:
        raise ValueError(f"{path} is neither a pack nor a records object, and only these are moved")
    return bytes.fromhex(match[1])


def _checks(rows: Sequence[_Row], seq: int) -> list[int]:
    """A chain of checksums over the rows: each covers all before it, the number of rows, and that of the entry."""
    found = []
    last = xxhash.xxh3_64_intdigest(struct.pack("<QQ", seq, len(rows)))
    for kind, origin, offset, length, to, at, size, checksum in rows:
        packed = _PACKED.pack(
            kind,
            origin,
            offset,
            length,
            to is not None,
            to or _NOWHERE,
            at or 0,
            size or 0,
            checksum is not None,
            checksum or 0,
        )
        last = xxhash.xxh3_64_intdigest(packed, last)
        found.append(last)
    return found


def _types() -> dict[str, Any]:
    import pyarrow as pa

    number, identity = pa.int64(), pa.binary(_ID_LENGTH)
    return {
        "kind": number,
        "object": identity,
        "offset": number,
        "length": number,
        "to": identity,
        "at": number,
        "size": number,
        "rewritten": pa.uint64(),
        "check": pa.uint64(),
    }
