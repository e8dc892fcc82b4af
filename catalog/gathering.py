"""Gathering extents of many objects into few new ones, byte for byte, and the moves that say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import xxhash
from blake3 import blake3

from hangar_cloud.backends.moves import Move
from hangar_cloud.backends.pack_writer import PackWriter
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store.durable_files import disk_errors_told
from hangar_cloud.catalog.moves_file import MAX_MOVES
from hangar_cloud.catalog.parquet_footer import combine_segments, read_footer
from hangar_cloud.catalog.record_writer import OBJECT_BYTES, OBJECT_ID_LENGTH
from hangar_cloud.catalog.records import records_path

_SEGMENTS_AT_MOST: Final = 4096
_MOVES_AT_MOST: Final = MAX_MOVES // 4
ENTRY_BYTES: Final = 512 * 1024 * 1024
"""So much is gathered in files before it is stored."""

_WAITING_BYTES: Final = 2 * OBJECT_BYTES
_SCHEMA: Final = 2


class Piece(NamedTuple):
    """Bytes, and the place that they were in.

    `instead_of` is the length of other bytes that these stand in for, since a purge; None if they are the same bytes.
    """

    path: str
    offset: int
    data: bytes
    instead_of: int | None = None

    def move(self, to: str, at: int) -> Move:
        """The move of these bytes to another place."""
        size = len(self.data)
        if self.instead_of is None:
            return Move(self.path, self.offset, size, to, at, size)
        return Move(self.path, self.offset, self.instead_of, to, at, size, xxhash.xxh3_64_intdigest(self.data))


class Gathered(NamedTuple):
    """A new object in a file, and what was moved into it."""

    path: str
    file: Path
    size: int
    moves: list[Move]


class Gatherer:
    """Makes new packs and records objects.

    Args:
        folder: an existing folder for their files; they stay until the caller removes them.

    Memory: at most 64 MiB of record segments.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pack: PackWriter | None = None
        self._in_pack: list[Move] = []
        self._segments: dict[str, list[Piece]] = {}
        self._sizes: dict[str, int] = {}
        self._count = 0
        self._done: list[Gathered] = []

    def add_blocks(self, pieces: Sequence[Piece]) -> None:
        """Take extents of packs. Raises StoreError if the disk is full."""
        if self._pack is None:
            self._pack = PackWriter(self._new_file())
        for piece, extent in zip(pieces, self._pack.append([piece.data for piece in pieces]), strict=True):
            _join(self._in_pack, piece.move("", extent.offset))
        if self._pack.full or len(self._in_pack) >= _MOVES_AT_MOST:
            self._end_pack()

    def add_segments(self, pieces: Sequence[Piece]) -> None:
        """Take segments of records objects. Raises StoreError if the disk is full."""
        for piece in pieces:
            schema = parquet_schema(piece.data)
            size = self._sizes.get(schema, 0) + len(piece.data)
            if schema in self._segments and (size > OBJECT_BYTES or len(self._segments[schema]) >= _SEGMENTS_AT_MOST):
                self._end_records(schema)
            self._segments.setdefault(schema, []).append(piece)
            self._sizes[schema] = self._sizes.get(schema, 0) + len(piece.data)
        while sum(self._sizes.values()) > _WAITING_BYTES:
            self._end_records(max(self._sizes, key=lambda name: self._sizes[name]))

    def finish(self) -> None:
        """End all objects that were begun."""
        self._end_pack()
        for schema in list(self._segments):
            self._end_records(schema)

    def take(self) -> list[Gathered]:
        """The objects that were finished since this was called last."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Close what is open, without finishing it."""
        if self._pack is not None:
            self._pack.close()

    def _end_pack(self) -> None:
        if self._pack is None:
            return
        file = self._pack.path
        name = pack_path(self._pack.seal())
        self._pack = None
        moves, self._in_pack = self._in_pack, []
        self._done.append(Gathered(name, file, file.stat().st_size, [move._replace(to=name) for move in moves]))

    def _end_records(self, schema: str) -> None:
        pieces = self._segments.pop(schema)
        del self._sizes[schema]
        data = combine_segments([piece.data for piece in pieces])
        name = records_path(blake3(data).digest(length=OBJECT_ID_LENGTH))
        file = self._new_file()
        with disk_errors_told(file):
            file.write_bytes(data)
        moves: list[Move] = []
        position = 0
        for piece in pieces:
            _join(moves, piece.move(name, position))
            position += len(piece.data)
        self._done.append(Gathered(name, file, len(data), moves))

    def _new_file(self) -> Path:
        self._count += 1
        return self._folder / f"{self._count}.gathered"


def parquet_schema(segment: bytes) -> str:
    """What must be equal for segments to share an object: their Parquet schema. Raises CorruptDataError."""
    return repr(read_footer(segment)[_SCHEMA])


def all_moves(gathered: Sequence[Gathered]) -> list[Move]:
    """The moves into some new objects."""
    return list(chain.from_iterable(one.moves for one in gathered))


def is_enough(gathered: Sequence[Gathered]) -> bool:
    """Whether it is time to store some new objects, and to record their moves."""
    return sum(one.size for one in gathered) > ENTRY_BYTES or len(all_moves(gathered)) > _MOVES_AT_MOST


def in_entries(gathered: Sequence[Gathered]) -> Iterator[list[Gathered]]:
    """New objects in groups whose moves fit into one entry of a log each."""
    group: list[Gathered] = []
    for one in gathered:
        if group and len(all_moves([*group, one])) > MAX_MOVES:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _join(moves: list[Move], new: Move) -> None:
    """Add a move, as part of the last one where both ranges go on from its."""
    last = moves[-1] if moves else None
    if (
        last is not None
        and (last.path, last.offset + last.length, last.at + last.size) == (new.path, new.offset, new.at)
        and (last.to, last.copied, new.copied) == (new.to, True, True)
    ):
        moves[-1] = last._replace(length=last.length + new.length, size=last.size + new.size)
    else:
        moves.append(new)
