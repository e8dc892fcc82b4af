"""The journal of a staging area: single writes, each durable by one append, until the database takes them over.

A transaction of the database costs some 2 ms of CPU, an append some 50 us and the same wait for the disk.

    file    ::= magic (8 bytes) generation (u64) checksum (u64) record*
    record  ::= magic (4 bytes) length (u32) checksum (u64) head-length (u32) head identity value identity value …
    head    ::= JSON [column, [[key, key text, subkey, subkey text, shape, size of identity, size of value], …]]

Numbers are little-endian, checksums XXH3-64; that of a record also depends on the generation and on where it lies. A
deletion has a null in the place of the size of its identity. The database's settings say which generation comes next: a
journal of an earlier one was taken over already.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any, Final

import xxhash

from hangar_cloud.backends.store.durable_files import flush_folder, read_regular, write_at
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.staged_rows import key_of

NAME: Final = "staging.duckdb.journal"
"""Of the file; beside the database, and named like it, as what copies one copies both."""
MOST_VALUE_BYTES: Final = 64 * 1024
"""Values up to so long are written to a journal."""
_MAGIC: Final = b"hangarj1"
_RECORD_MAGIC: Final = b"\xf5jr\n"
_FILE_HEAD: Final = struct.Struct("<8sQQ")
_RECORD_HEAD: Final = struct.Struct("<4sIQ")
_LENGTH: Final = struct.Struct("<I")
_MOST_EVENTS: Final = 4096
_MOST_BYTES: Final = 8 * 1024 * 1024
_AHEAD_BYTES: Final = 64 * 1024
_MOST_READ: Final = 64 * 1024 * 1024

Cells = list[Any]
"""A row of the table `samples`."""


class StagingJournal:
    """One writer's journal.

    Args:
        folder: of the staging area.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: int | None = None
        self._process = os.getpid()
        self._length = 0
        self._reserved = 0
        self._failed = False
        self.generation = 0
        self.events: list[list[Cells]] = []
        """What is in it, in order."""
        self.in_use = False
        """Whether there is anything that the database should take over first."""

    @property
    def is_full(self) -> bool:
        """Whether it should be taken over before more is appended: it is long, or an append failed."""
        return self._failed or len(self.events) >= _MOST_EVENTS or self._length >= _MOST_BYTES

    @property
    def is_mine(self) -> bool:
        """False in a forked child, whose parent goes on with it."""
        return self._process == os.getpid()

    def exists(self) -> bool:
        """Whether there is a file."""
        return os.path.lexists(self._path)

    def append(self, generation: int, event: list[Cells]) -> None:
        """Add rows of one column; durable on return.

        Args:
            generation: of this journal; counts at its first record.
            event: rows of the table `samples`, of one column, none of them in a pack.

        Raises:
            StagingError: the disk is full or refuses; the rows are not staged.
        """
        try:
            fresh = self._file is None
            if fresh:
                self._start(generation)
            record = encode_record(event, self.generation, self._length)
            assert self._file is not None
            write_at(self._file, record, self._length)
            self._reserve(len(record))
            _flush(self._file)
            if fresh:
                flush_folder(self._path.parent)
        except BaseException as error:
            self._give_up()
            if not isinstance(error, OSError):
                raise
            raise StagingError(
                f"the journal {self._path} of the staging area could not be written: {error.strerror or error}. What "
                "was staged before is kept. Check the disk and its free space, and do it again"
            ) from error
        self._length += len(record)
        self.events.append(event)

    def load(self, generation: int) -> None:
        """Take what another process left; nothing if that is of another generation, and was taken over already.

        Raises:
            StagingError: it is damaged elsewhere than at its end, its head included.
        """
        try:
            if not stat.S_ISREG(self._path.lstat().st_mode):
                raise StagingError(f"{self._path} is no file; move it away")
            data = read_regular(self._path, _MOST_READ)
        except OSError as error:
            raise StagingError(f"the journal {self._path} cannot be read: {error.strerror or error}") from error
        found = _generation_of(data)
        if found is not None and found > generation:
            raise StagingError(
                f"the journal {self._path} is of a later time than the database beside it, which was put back or lost. "
                "Move the journal away to go on without what it holds"
            )
        if found is None:
            # A process that died before the head was whole wrote no record behind it.
            _require_end(data, generation, 0, self._path)
        self.events = decode_events(data, generation, self._path) if found == generation else []
        self.generation = generation
        self.in_use = True

    def discard(self) -> None:
        """Forget and delete it, after all that is in it was taken over."""
        self.close()
        self.events, self._length, self._reserved, self._failed, self.in_use = [], 0, 0, False, False
        with contextlib.suppress(OSError):  # it is of an earlier generation now, and counts for nothing
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, and leave it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _start(self, generation: int) -> None:
        self._path.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._file = os.open(self._path, flags, 0o666)
        self.in_use = True
        self.generation = generation
        write_at(self._file, file_head(generation), 0)
        self._length = _FILE_HEAD.size

    def _reserve(self, size: int) -> None:
        """Have zeros behind a small record: a file that need not grow is flushed in less than half the time."""
        end = self._length + size
        if self._file is not None and end > self._reserved and size <= _AHEAD_BYTES // 8:
            write_at(self._file, bytes(_AHEAD_BYTES), end)
            self._reserved = end + _AHEAD_BYTES

    def _give_up(self) -> None:
        """Cut off what was not reported as durable, and append no more."""
        self._failed = True  # after a failed flush nobody knows what is on the disk
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._length)
                _flush(self._file)


def file_head(generation: int) -> bytes:
    """The first bytes of a journal."""
    start = _MAGIC + generation.to_bytes(8, "little")
    return start + xxhash.xxh3_64_intdigest(start).to_bytes(8, "little")


def encode_record(event: list[Cells], generation: int, offset: int) -> bytes:
    """A record that is to lie at `offset`."""
    head: list[list[Any]] = []
    blobs: list[bytes] = []
    for row in event:
        identity, value = row[6], row[12]
        sizes = [None, 0] if identity is None else [len(identity), len(value)]
        head.append([*row[2:6], row[13], *sizes])
        blobs += () if identity is None else (identity, value)
    text = json.dumps([event[0][1], head]).encode("ascii")
    payload = b"".join([_LENGTH.pack(len(text)), text, *blobs])
    return _RECORD_HEAD.pack(_RECORD_MAGIC, len(payload), _checksum(payload, generation, offset)) + payload


def decode_events(data: bytes, generation: int, path: Path) -> list[list[Cells]]:
    """What the records of a journal say, up to a torn end. Raises StagingError for other damage."""
    events, offset = [], _FILE_HEAD.size
    while (payload := _payload_at(data, generation, offset)) is not None:
        try:
            events.append(_decode(payload))
        except (ValueError, TypeError, LookupError, RecursionError, struct.error) as error:
            raise StagingError(_damaged(path, offset)) from error
        offset += _RECORD_HEAD.size + len(payload)
    _require_end(data, generation, offset, path)
    return events


def _require_end(data: bytes, generation: int, offset: int, path: Path) -> None:
    """Raise StagingError if an intact record lies behind `offset`, where something else does.

    What is torn by a crash is the end: an intact record behind it was reported as durable, and so was what was there.
    """
    later = offset
    while (later := data.find(_RECORD_MAGIC, later + 1)) >= 0:
        if _payload_at(data, generation, later) is not None:
            raise StagingError(_damaged(path, offset))


def _damaged(path: Path, offset: int) -> str:
    return (
        f"the journal {path} of a staging area is damaged at byte {offset:,}; move it away to go on without the single "
        "writes in it"
    )


def _generation_of(data: bytes) -> int | None:
    """None where a process died before the head was whole."""
    if len(data) < _FILE_HEAD.size:
        return None
    generation = _FILE_HEAD.unpack_from(data)[1]
    return generation if data[: _FILE_HEAD.size] == file_head(generation) else None


def _payload_at(data: bytes, generation: int, offset: int) -> bytes | None:
    """The payload of an intact record, None where there is none."""
    start = offset + _RECORD_HEAD.size
    if start > len(data):
        return None
    magic, length, checksum = _RECORD_HEAD.unpack_from(data, offset)
    if magic != _RECORD_MAGIC or length > len(data) - start:
        return None
    payload = data[start : start + length]
    return payload if checksum == _checksum(payload, generation, offset) else None


def _decode(payload: bytes) -> list[Cells]:
    (size,) = _LENGTH.unpack_from(payload)
    position = _LENGTH.size + size
    name, head = json.loads(payload[_LENGTH.size : position])
    event = []
    for *keys, shape, identity_size, value_size in head:
        identity = value = None
        key_of(*keys)
        if identity_size is not None:
            identity, position = _cut(payload, position, identity_size)
            value, position = _cut(payload, position, value_size)
        if shape is not None and not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            raise ValueError("a shape that is none")
        event.append([0, name, *keys, identity, *[None] * 5, value, shape])
    if name != "":
        check_name(name, "column")
    if position != len(payload) or not event:
        raise ValueError("a record that is longer than what it holds")
    return event


def _cut(payload: bytes, position: int, size: int) -> tuple[bytes, int]:
    if not 0 <= size <= len(payload) - position:
        raise ValueError("a record that is shorter than what it holds")
    return payload[position : position + size], position + size


def _checksum(payload: bytes, generation: int, offset: int) -> int:
    return xxhash.xxh3_64_intdigest(payload, seed=(generation << 32 ^ offset) & 0xFFFF_FFFF_FFFF_FFFF)


def _flush(file: int) -> None:
    # Where there is no fdatasync (macOS, Windows), the times of the file are waited for as well.
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(file)
