"""Rows without the values of purged samples (no I/O)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.packs import NO_PACK
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.records import LeafEntry, Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import decode_leaf, encode_leaf
from hangar_cloud.catalog.tombstones import tombstone_digest


def without_values(entries: Iterable[LeafEntry], purged: Collection[bytes]) -> Iterator[LeafEntry]:
    """The rows, those of purged samples with the digest of the tombstone in place of the value.

    Args:
        entries: encoded keys and rows.
        purged: digests of the samples, as their tombstones are named.
    """
    for key, row in entries:
        if row.value is not None and (digest := tombstone_digest(key, row.identity)) in purged:
            row = Row(b"\1" + digest, Place(NO_PACK, 0, 0, 0, len(row.value)), None, row.shape)
        yield key, row


def leaf_without_values(leaf: Leaf, schema: ColumnSchema, purged: Collection[bytes]) -> Leaf:
    """A leaf as a purge would have written it anew; the same one if none of the samples' values stands in it."""
    if not purged or leaf.values is None:
        return leaf
    entries = leaf.entries()
    left = list(without_values(entries, purged))
    if all(one is other for (_, one), (_, other) in zip(entries, left, strict=True)):
        return leaf
    return decode_leaf(encode_leaf(left, schema), schema, len(leaf))
