"""Finding samples by their digests: in which leaves of which commits they are, each leaf read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.backends.object_source import Extent, ObjectSource
from hangar_cloud.backends.values import sample_digest
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey, encode_key
from hangar_cloud.catalog.node_reader import node_extent
from hangar_cloud.catalog.records import NodeRef, Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import Leaf
from hangar_cloud.catalog.tombstones import tombstone_digest

_AT_ONCE: Final = 64


class Hit(NamedTuple):
    """A row of a wanted sample, and the leaf that it is in; `digest` is what its tombstone is named after."""

    digest: bytes
    key: RowKey
    row: Row
    schema: ColumnSchema
    leaf: NodeRef


class Occurrences:
    """Looks for some samples in record trees.

    Equal leaves that lie at several places are looked at at each, since each has bytes of its own. Memory: some hundred
    bytes a node.

    Args:
        source: reads the trees.
        wanted: digests of samples, 32 bytes each: their own, or those that their tombstones are named after.
        here: pass over nodes that are not on this machine.
    """

    def __init__(self, source: ObjectSource, wanted: frozenset[bytes], *, here: bool = False) -> None:
        self._here = here
        self._source = source
        self._wanted = wanted
        self._found: dict[tuple[ColumnSchema, bytes, int], tuple[Hit, ...]] = {}

    def of(self, entry: ColumnEntry) -> tuple[Hit, ...]:
        """All rows of the wanted samples in one tree.

        Raises:
            CorruptDataError: a node is damaged.
            FileNotFoundError: a node is missing, or not on this machine and not to be fetched.
        """
        return () if entry.root is None else self._below([entry.root], entry.schema)

    def _below(self, refs: Sequence[NodeRef], schema: ColumnSchema) -> tuple[Hit, ...]:
        fresh = [ref for ref in refs if _name(ref, schema) not in self._found]
        for start in range(0, len(fresh), _AT_ONCE):
            part = fresh[start : start + _AT_ONCE]
            for ref, found in zip(part, self._read([self._extent(r, schema) for r in part]), strict=True):
                hits = self._below(found, schema) if isinstance(found, list) else found
                self._found[_name(ref, schema)] = hits
        return tuple(hit for ref in refs for hit in self._found[_name(ref, schema)])

    def _read(self, extents: list[Extent[Any]]) -> list[Any]:
        if not self._here:
            return self._source.read_many(extents)
        found = []
        for extent in extents:
            try:
                found.append(self._source.read_local(extent))
            except DataNotLocalError:
                found.append(())
        return found

    def _extent(self, ref: NodeRef, schema: ColumnSchema) -> Extent[Any]:
        """Of a leaf only the hits are kept while others are read along: many leaves together are large."""
        extent = node_extent(ref, None if ref.level else schema)
        rewritten = extent.rewritten or extent.verify

        def take(node: Any) -> Any:
            return tuple(self._hits(ref, node, schema)) if isinstance(node, Leaf) else node

        return Extent(
            extent.path,
            extent.offset,
            extent.length,
            lambda data, fetched: take(extent.verify(data, fetched)),
            lambda data, fetched: take(rewritten(data, fetched)),
        )

    def _hits(self, ref: NodeRef, leaf: Leaf, schema: ColumnSchema) -> Iterator[Hit]:
        for i, key in enumerate(leaf.keys):
            row = leaf.row(i)
            digest = tombstone_digest(encode_key(key), row.identity)
            if digest in self._wanted or digest_of(row, schema) in self._wanted:
                yield Hit(digest, key, row, schema, ref)


def digest_of(row: Row, schema: ColumnSchema) -> bytes:
    """The digest of a row's sample, whether history hashes that or the value itself."""
    if row.identity[:1] == b"\1":
        return row.identity[1:]
    if row.value is None:
        raise CorruptDataError("a row has neither a digest nor a value")
    return sample_digest(schema.prefix(row.shape), row.value)


def _name(ref: NodeRef, schema: ColumnSchema) -> tuple[ColumnSchema, bytes, int]:
    return schema, ref.place.object, ref.place.offset
