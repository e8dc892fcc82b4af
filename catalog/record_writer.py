"""Writing record trees: edits of several columns, gathered into a few records objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import xxhash
from blake3 import blake3

from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_building import digest_of_rows, encode_rows, leaves_behind
from hangar_cloud.catalog.leaf_digests import digest_of_leaf
from hangar_cloud.catalog.leaf_edit import edited_leaf
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.parquet_footer import Struct, combine_segments, read_footer
from hangar_cloud.catalog.records import (
    NodeRef,
    SegmentPlace,
    inner_digest,
    leaf_digest,
    records_path,
)
from hangar_cloud.catalog.row_batch import Changes, RowBatch, SortedRows
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segment_file import write_segment
from hangar_cloud.catalog.segments import decode_leaf, encode_inner, encode_leaf
from hangar_cloud.catalog.tree_edit import Entry, edit_tree

OBJECT_BYTES: Final = 32 * 1024 * 1024
OBJECT_ID_LENGTH: Final = 16
NodeName = tuple[ColumnSchema, bytes]
_UNPLACED: Final = SegmentPlace(b"", 0, 0, 0)


class RecordWriter:
    """Collects the new nodes of one commit, then writes them out.

    Args:
        reader: loads nodes of the trees that are edited.
    """

    def __init__(self, reader: NodeReader) -> None:
        self._reader = reader
        self._leaves: dict[NodeName, bytes] = {}
        self._inner: dict[NodeName, list[NodeRef]] = {}
        self._placed: dict[NodeName, SegmentPlace] = {}
        self._known: dict[NodeName, NodeRef] = {}

    def know(self, schema: ColumnSchema, leaves: Iterable[NodeRef]) -> None:
        """Take leaves that are stored already in place of equal ones that edits make: nothing of them is written."""
        self._known.update(((schema, ref.digest), ref) for ref in leaves)

    def edit(self, root: NodeRef | None, schema: ColumnSchema, changes: Changes) -> NodeRef | None:
        """The root of one column's tree after changes (see `edit_tree`); its new nodes are not placed yet."""
        nodes = _ColumnNodes(self, schema)
        if isinstance(changes, SortedRows) and (leaves := leaves_behind(nodes, root, changes)) is not None:
            return edit_tree(nodes, root, leaves, 1)
        return edit_tree(nodes, root, changes)

    def write(
        self, roots: dict[str, tuple[ColumnSchema, NodeRef | None]], put: Callable[[str, bytes], None]
    ) -> dict[str, NodeRef | None]:
        """Write the new nodes that the roots reach, leaves before inner nodes.

        Args:
            roots: schema and root of each column, by column name.
            put: stores one records object under its name.

        Returns:
            the same roots with their places.
        """
        leaves: dict[NodeName, None] = {}
        inner: dict[NodeName, int] = {}
        for schema, root in roots.values():
            if root is not None:
                self._reach(schema, root, leaves, inner)
        self._write_leaves(list(leaves), put)
        self._write_inner(inner, put)
        for (schema, digest), level in inner.items():
            children = [self._resolve(schema, child) for child in self._inner[schema, digest]]
            count = sum(child.count for child in children)
            self._reader.keep(NodeRef(level, children[0].first, count, digest, self._placed[schema, digest]), children)
        return {
            column: None if root is None else self._resolve(schema, root) for column, (schema, root) in roots.items()
        }

    def _reach(
        self, schema: ColumnSchema, ref: NodeRef, leaves: dict[NodeName, None], inner: dict[NodeName, int]
    ) -> None:
        if ref.place != _UNPLACED:
            return
        name = (schema, ref.digest)
        if ref.level == 0:
            leaves[name] = None
        elif name not in inner:
            inner[name] = ref.level
            for child in self._inner[name]:
                self._reach(schema, child, leaves, inner)

    def _write_leaves(self, names: list[NodeName], put: Callable[[str, bytes], None]) -> None:
        groups: dict[str, list[NodeName]] = {}
        footers = {name: read_footer(self._leaves[name]) for name in names}
        for name, footer in footers.items():
            groups.setdefault(_parquet_schema(footer), []).append(name)
        for group in groups.values():
            batch: list[NodeName] = []
            size = 0
            for name in group:
                if batch and size + len(self._leaves[name]) > OBJECT_BYTES:
                    self._write_object(batch, [self._leaves[member] for member in batch], footers, put)
                    batch, size = [], 0
                batch.append(name)
                size += len(self._leaves[name])
            self._write_object(batch, [self._leaves[member] for member in batch], footers, put)

    def _write_inner(self, levels: dict[NodeName, int], put: Callable[[str, bytes], None]) -> None:
        """Inner nodes go into one object, lower levels first, so that parents can name their children's ranges."""
        order = sorted(levels, key=lambda name: levels[name])
        segments: list[bytes] = []
        offset = 0
        for name in order:
            data = encode_inner([self._resolve(name[0], child) for child in self._inner[name]])
            self._placed[name] = SegmentPlace(b"", offset, len(data), xxhash.xxh3_64_intdigest(data))
            segments.append(data)
            offset += len(data)
        if segments:
            self._write_object(order, segments, {}, put)

    def _write_object(
        self,
        names: list[NodeName],
        segments: list[bytes],
        footers: dict[NodeName, Struct],
        put: Callable[[str, bytes], None],
    ) -> None:
        data = combine_segments(segments, [footers[name] for name in names] if footers else None)
        container = blake3(data).digest(length=OBJECT_ID_LENGTH)
        offset = 0
        for name, segment in zip(names, segments, strict=True):
            self._placed[name] = SegmentPlace(container, offset, len(segment), xxhash.xxh3_64_intdigest(segment))
            offset += len(segment)
        put(records_path(container), data)

    def _resolve(self, schema: ColumnSchema, ref: NodeRef) -> NodeRef:
        return ref if ref.place != _UNPLACED else ref._replace(place=self._placed[schema, ref.digest])


class _ColumnNodes:
    """The node store of one column's edit: old nodes from the reader, new ones into the writer."""

    def __init__(self, writer: RecordWriter, schema: ColumnSchema) -> None:
        self._writer = writer
        self._schema = schema

    def load(self, ref: NodeRef) -> Sequence[Entry]:
        if ref.level == 0:
            return self._leaf(ref).entries()
        children = (
            self._writer._inner[self._schema, ref.digest]
            if ref.place == _UNPLACED
            else self._writer._reader.children(ref)
        )
        return [(child.first, child) for child in children]

    def save(self, level: int, entries: list[Entry]) -> NodeRef:
        if level == 0:
            digest = leaf_digest(entries)
            return self._keep(entries[0][0], len(entries), digest, lambda: encode_leaf(entries, self._schema))
        children = [child for _, child in entries]
        digest = inner_digest(level, children)
        self._writer._inner[self._schema, digest] = children
        return NodeRef(level, entries[0][0], sum(child.count for child in children), digest, _UNPLACED)

    def save_rows(self, encoded: Sequence[bytes], rows: RowBatch) -> NodeRef:
        """Make a leaf of rows that are in columns."""
        digest = digest_of_rows(encoded, rows.identities)
        return self._keep(encoded[0], len(encoded), digest, lambda: encode_rows(rows, encoded, self._schema))

    def edit_leaf(self, ref: NodeRef, edits: Sequence[Entry]) -> NodeRef | None:
        leaf = edited_leaf(self._leaf(ref), self._schema, edits)
        if leaf is None:
            return None
        return self._keep(leaf.first, len(leaf), digest_of_leaf(leaf), lambda: write_segment(leaf.table))

    def _keep(self, first: bytes, count: int, digest: bytes, encode: Callable[[], bytes]) -> NodeRef:
        name = (self._schema, digest)
        known = self._writer._known.get(name)
        if known is not None and (known.first, known.count) == (first, count):
            return known
        if name not in self._writer._leaves:
            self._writer._leaves[name] = encode()
        return NodeRef(0, first, count, digest, _UNPLACED)

    def _leaf(self, ref: NodeRef) -> Leaf:
        if ref.place == _UNPLACED:
            return decode_leaf(self._writer._leaves[self._schema, ref.digest], self._schema, ref.count)
        return self._writer._reader.leaf(ref, self._schema)


def _parquet_schema(footer: Struct) -> str:
    """What must be equal for segments to share an object: their Parquet schema (field 2 of the footer)."""
    return repr(footer[2])
