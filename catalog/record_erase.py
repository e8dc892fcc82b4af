"""A records object without the values of some samples that stand in its leaves (no I/O).

The leaves concerned are written anew: the rows of those samples keep key, shape and digest, which is all that history
hashes, and name no pack. A literal, which history hashes itself, leaves the digest of its tombstone behind; nobody can
check the digest of its leaf any more. Every other segment is copied.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import xxhash
from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.moves import Move
from hangar_cloud.catalog.parquet_footer import combine_segments, read_footer, segment_starts
from hangar_cloud.catalog.purged_values import without_values
from hangar_cloud.catalog.record_writer import OBJECT_ID_LENGTH
from hangar_cloud.catalog.records import leaf_digest, records_path
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import decode_leaf, encode_leaf


class DoomedLeaf(NamedTuple):
    """A leaf that holds values to be erased: where it is, its column's schema, and its number of rows."""

    offset: int
    length: int
    schema: ColumnSchema
    rows: int


class ErasedRecords(NamedTuple):
    """What became of a records object.

    Attributes:
        objects: the new ones, by name.
        moves: of all segments that were in the old one.
        erased: bytes of values that are gone.
    """

    objects: dict[str, bytes]
    moves: list[Move]
    erased: int


def erase_values(data: bytes, path: str, doomed: Collection[DoomedLeaf], digests: Collection[bytes]) -> ErasedRecords:
    """Write the segments of a records object anew, without the values of some samples.

    Args:
        data: the object.
        path: its name.
        doomed: the leaves with such values in them.
        digests: of the samples, as their tombstones are named.

    Raises:
        CorruptDataError: the object or a leaf is damaged.
    """
    if records_path(blake3(data).digest(length=OBJECT_ID_LENGTH)) != path:
        raise CorruptDataError(f"{path} is damaged: its bytes do not match its name")
    by_place = {(leaf.offset, leaf.length): leaf for leaf in doomed}
    writing = ErasedRecords({}, [], 0)
    kept: list[tuple[int, bytes]] = []
    erased = 0
    for offset, segment in _segments(data, path):
        leaf = by_place.pop((offset, len(segment)), None)
        if leaf is None:
            kept.append((offset, segment))
            continue
        new, size = _without(segment, leaf, digests)
        erased += size
        # Its Parquet schema is another one by now, so it cannot share an object with the others.
        name = _add(writing.objects, [new])
        writing.moves.append(Move(path, offset, len(segment), name, 0, len(new), xxhash.xxh3_64_intdigest(new)))
    if by_place:
        raise CorruptDataError(f"{path}: no segment lies at byte {min(by_place)[0]}, where a leaf should be")
    if kept:
        name, at = _add(writing.objects, [segment for _, segment in kept]), 0
        for offset, segment in kept:
            writing.moves.append(Move(path, offset, len(segment), name, at, len(segment)))
            at += len(segment)
    return writing._replace(erased=erased)


def _segments(data: bytes, path: str) -> list[tuple[int, bytes]]:
    """The segments of a records object and where they begin."""
    starts = segment_starts(data)
    end = len(data) if len(starts) == 1 else len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    if starts[0] != 0 or sorted(set(starts)) != starts or starts[-1] >= end:
        raise CorruptDataError(f"{path} is damaged: its footer does not list its segments")
    found = [(start, data[start:stop]) for start, stop in zip(starts, [*starts[1:], end], strict=True)]
    for _, segment in found:
        read_footer(segment)
    return found


def _without(segment: bytes, leaf: DoomedLeaf, digests: Collection[bytes]) -> tuple[bytes, int]:
    """A leaf without the values, and how many bytes they were."""
    old = decode_leaf(segment, leaf.schema, leaf.rows).entries()
    entries = list(without_values(old, digests))
    pairs = zip(old, entries, strict=True)
    erased = sum(len(row.value) for (_, row), (_, new) in pairs if row.value is not None and new.value is None)
    new = encode_leaf(entries, leaf.schema)
    if leaf_digest(decode_leaf(new, leaf.schema, leaf.rows).entries()) != leaf_digest(entries):
        raise CorruptDataError("a leaf cannot be written again without one of its values")
    return new, erased


def _add(objects: dict[str, bytes], segments: Sequence[bytes]) -> str:
    data = combine_segments(segments)
    name = records_path(blake3(data).digest(length=OBJECT_ID_LENGTH))
    objects[name] = data
    return name
