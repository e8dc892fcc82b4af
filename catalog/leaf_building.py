"""Leaves out of rows that are in columns: what `tree_edit` and `segments` do of single rows (no I/O)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from blake3 import blake3

from hangar_cloud.backends.byte_rows import even_rows
from hangar_cloud.backends.values import digests_of
from hangar_cloud.catalog.records import NodeRef, node_starts
from hangar_cloud.catalog.row_batch import RowBatch, SortedRows
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segment_file import write_segment
from hangar_cloud.catalog.segments import encode_leaf, values_column
from hangar_cloud.catalog.tree_edit import Entry, NodeStore


class LeafStore(NodeStore, Protocol):
    """A `NodeStore` that also makes leaves of rows that are in columns."""

    def save_rows(self, encoded: Sequence[bytes], rows: RowBatch) -> NodeRef:
        """Make a leaf of these rows and their encoded keys."""


def leaves_behind(nodes: LeafStore, root: NodeRef | None, changes: SortedRows) -> list[Entry] | None:
    """The changes of level 1 of a tree to which rows come behind its last; None where they do not."""
    starts = node_starts(changes.encoded)
    made: list[NodeRef] = []
    first = 0
    if root is not None:
        last = _last_leaf(nodes, root)
        entries = nodes.load(last)
        if entries[-1][0] >= changes.encoded[0]:
            return None
        first = starts[0] if starts else len(changes)
        if first:
            made.append(nodes.save(0, [*entries, *changes[:first]]))
    ends = [start for start in starts if start > first]
    if first < len(changes):
        for start, end in zip([first, *ends], [*ends, len(changes)], strict=True):
            made.append(nodes.save_rows(changes.encoded[start:end], changes.batch.part(start, end)))
    return [(node.first, node) for node in made]


def _last_leaf(nodes: NodeStore, root: NodeRef) -> NodeRef:
    ref = root
    while ref.level > 0:
        ref = nodes.load(ref)[-1][1]
    return ref


def digest_of_rows(encoded: Sequence[bytes], identities: Sequence[bytes]) -> bytes:
    """What `leaf_digest` gives; quicker where all keys have one length and all identities too."""
    keys, values = even_rows(encoded), even_rows(identities)
    if keys is None or values is None:
        return _digest_of_any(encoded, identities)
    key, value = keys.width, values.width
    rows = np.empty((len(encoded), 2 + key + 1 + value), np.uint8)
    rows[:, :2] = np.frombuffer(key.to_bytes(2, "little"), np.uint8)
    rows[:, 2 : 2 + key] = keys.matrix
    rows[:, 2 + key] = value
    rows[:, 3 + key :] = values.matrix
    return blake3(b"leaf\0" + rows.tobytes()).digest()


def _digest_of_any(encoded: Sequence[bytes], identities: Sequence[bytes]) -> bytes:
    parts = [b"leaf\0"]
    for key, identity in zip(encoded, identities, strict=True):
        parts += (len(key).to_bytes(2, "little"), key, len(identity).to_bytes(1, "little"), identity)
    return blake3(b"".join(parts)).digest()


def encode_rows(rows: RowBatch, encoded: Sequence[bytes], schema: ColumnSchema) -> bytes:
    """What `encode_leaf` gives, byte for byte; quicker where keys are numbers, shapes fixed, and all rows alike."""
    import pyarrow as pa

    numbers = rows.key_numbers
    if not (rows.alike and rows.shapes is None and numbers is not None):
        return encode_leaf(list(zip(encoded, rows.rows(), strict=True)), schema)
    columns: dict[str, Any] = {"key_int": pa.array(numbers)}
    places = rows.places
    if places is None:
        name, values = values_column(rows.values or (), schema)
        columns[name] = values
        return write_segment(pa.table(columns))
    columns["digest"] = _fixed(digests_of(rows.identities).data, 32)
    columns["pack"] = _fixed(places.pack_bytes().tobytes(), 16)
    for name, numbers in zip(("offset", "stored", "start", "size"), places.numbers, strict=True):
        columns[name] = pa.array(numbers)
    return write_segment(pa.table(columns))


def _fixed(data: bytes | memoryview, width: int) -> Any:
    import pyarrow as pa

    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(data) // width, [None, pa.py_buffer(data)])
