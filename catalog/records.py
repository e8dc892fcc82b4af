"""Rows and node references: what a record tree is made of, and the digests over it (pure).

Node digests are taken over logical rows in key order, never over Parquet bytes, so that any
version of any writer gives the same digest for the same contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import xxhash
from blake3 import blake3

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.backends.values import LITERAL_LIMIT
from hangar_cloud.backends.xxh3_rows import LONGEST, SHORTEST, xxh3_rows

NODE_DIGEST_LENGTH: Final = 32
# A key drawn at random lies in a leaf of twice the mean, some 4,096 rows, since long leaves hold more keys.
LEAF_ROWS: Final = 2048
FAN_OUT: Final = 256
MAX_LEVEL: Final = 7
_HASH_SPACE: Final = 2**64


class Row(NamedTuple):
    """One sample's record.

    `identity` is what history hashes (`values.sample_identity`). Exactly one of `place` (packed) and
    `value` (inline payload) is set. `shape` is set where it varies from sample to sample.
    """

    identity: bytes
    place: Place | None
    value: bytes | None
    shape: tuple[int, ...] | None


class SegmentPlace(NamedTuple):
    """Where a node's bytes are: a range of a records object, and its checksum. Not hashed."""

    object: bytes
    offset: int
    length: int
    checksum: int


class NodeRef(NamedTuple):
    """A reference to a node of a record tree.

    `level` 0 is a leaf. `first` is the encoded smallest key below it, `count` the number of rows.
    """

    level: int
    first: bytes
    count: int  # type: ignore[assignment]  # the name of a tuple's method, which nobody calls on a reference
    digest: bytes
    place: SegmentPlace


LeafEntry = tuple[bytes, Row]


def starts_node(encoded_key: bytes, level: int) -> bool:
    """Whether this key starts a new node of `level`: a property of the key alone."""
    return xxhash.xxh3_64_intdigest(encoded_key) < _THRESHOLDS[min(level, MAX_LEVEL)]


def node_starts(encoded_keys: Sequence[bytes]) -> list[int]:
    """The numbers of those keys that start a leaf."""
    limit = _THRESHOLDS[0]
    if isinstance(encoded_keys, ByteRows) and SHORTEST <= encoded_keys.width <= LONGEST:
        return np.flatnonzero(xxh3_rows(encoded_keys.matrix) < np.uint64(limit)).tolist()
    return [i for i, number in enumerate(map(xxhash.xxh3_64_intdigest, encoded_keys)) if number < limit]


def leaf_digest(entries: Iterable[LeafEntry]) -> bytes:
    """BLAKE3-256 over a leaf's rows: encoded key and identity, each with its length."""
    parts = [b"leaf\0"]
    for key, row in entries:
        identity = row.identity
        parts.append(len(key).to_bytes(2, "little"))
        parts.append(key)
        parts.append(len(identity).to_bytes(1, "little"))
        parts.append(identity)
    return blake3(b"".join(parts)).digest()


def inner_digest(level: int, children: Sequence[NodeRef]) -> bytes:
    """BLAKE3-256 over an inner node: for each child its first key, row count and digest."""
    parts = [b"node\0", level.to_bytes(1, "little")]
    for child in children:
        parts.append(len(child.first).to_bytes(2, "little"))
        parts.append(child.first)
        parts.append(child.count.to_bytes(8, "little"))
        parts.append(child.digest)
    return blake3(b"".join(parts)).digest()


def lacks_literal(row: Row) -> bool:
    """Whether a row held a value that its leaf's digest was made of, and that was purged."""
    place = row.place
    return place is not None and place.pack == NO_PACK and place.size + 8 * len(row.shape or ()) <= LITERAL_LIMIT


def records_path(name: bytes) -> str:
    """The object name of a records object."""
    return f"records/{name.hex()}.parquet"


def _thresholds() -> list[int]:
    share = LEAF_ROWS
    limits = []
    for _ in range(MAX_LEVEL):
        limits.append(_HASH_SPACE // share)
        share *= FAN_OUT
    # The last level never splits, so that a tree has a root whatever its keys.
    return [*limits, 0]


_THRESHOLDS: Final = _thresholds()
