"""Making damage: objects with right checksums and wrong contents, and files with wrong bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from blake3 import blake3

from hangar_cloud import Finding, Repository
from hangar_cloud.backends.packs import BlockExtent, read_index
from hangar_cloud.backends.values import sample_identity
from hangar_cloud.catalog.commits import ColumnEntry, commit_path, make_commit
from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.records import (
    LeafEntry,
    NodeRef,
    Row,
    SegmentPlace,
    inner_digest,
    leaf_digest,
    records_path,
    starts_node,
)
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import encode_inner, encode_leaf


class Forger:
    """Writes record trees of any shape, and commits them, past everything that would refuse to."""

    def __init__(self, repository: Repository) -> None:
        self._storage = repository._storage

    def leaf(self, entries: Sequence[LeafEntry], schema: ColumnSchema) -> NodeRef:
        """A leaf of these rows, in this order."""
        place = self._put(encode_leaf(entries, schema))
        return NodeRef(0, entries[0][0], len(entries), leaf_digest(entries), place)

    def edited_leaf(self, entries: Sequence[LeafEntry], schema: ColumnSchema, columns: dict[str, Any]) -> NodeRef:
        """A leaf of these rows, some of its Parquet columns replaced, added, or left out where None is given."""
        table = pq.read_table(pa.BufferReader(encode_leaf(entries, schema)))
        for name, values in columns.items():
            if name in table.column_names:
                table = table.drop_columns(name)
            if values is not None:
                table = table.append_column(name, values)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, store_schema=False)
        place = self._put(bytes(sink.getvalue()))
        return NodeRef(0, entries[0][0], len(entries), leaf_digest(entries), place)

    def inner(self, children: Sequence[NodeRef]) -> NodeRef:
        """An inner node of these children, in this order."""
        level = children[0].level + 1
        digest = inner_digest(level, children)
        count = sum(child.count for child in children)
        return NodeRef(level, children[0].first, count, digest, self._put(encode_inner(children)))

    def commit(self, schema: ColumnSchema, root: NodeRef, column: str = "forged") -> str:
        """A commit on master that has this column only."""
        pointers = self._storage.pointers()
        head = pointers.head("master")
        parents = () if head is None or head.commit is None else (head.commit,)
        commit = make_commit(parents, {column: ColumnEntry(schema, root)}, "F", "f@example.org", "forged")
        assert self._storage.store.put_if_absent(commit_path(commit.digest()), commit.encode())
        pointers.move("master", head, commit.digest(), "commit")
        return commit.digest()

    def _put(self, data: bytes) -> SegmentPlace:
        name = blake3(data).digest(length=16)
        assert self._storage.store.put_if_absent(records_path(name), data)
        return SegmentPlace(name, 0, len(data), xxhash.xxh3_64_intdigest(data))


def inline(schema: ColumnSchema, value: Any) -> Row:
    """The row of a value that stands in its record."""
    payload = schema.encode(value, "x")
    return Row(sample_identity(payload.prefix, payload.data, payload.shape), None, payload.data, payload.shape)


def text_rows(keys: Sequence[Any]) -> list[LeafEntry]:
    """Rows of a str column under these keys, in this order."""
    return [(encode_key(key), inline(ColumnSchema("str"), f"text {key}")) for key in keys]


def boundaries(keys: Sequence[int]) -> list[int]:
    """Those of some keys that begin a leaf."""
    return [key for key in keys if starts_node(encode_key(key), 0)]


def store_files(repository: Repository, pattern: str) -> list[Path]:
    """Files of a local repository's store, or of a file:// bucket, sorted."""
    store = repository._storage.store.local_path("hangar.json")
    assert store is not None
    return sorted(path for path in store.parent.glob(pattern) if path.is_file())


def extents_of(pack: Path) -> list[BlockExtent]:
    """The extents in a pack's index."""
    with pack.open("rb") as file:
        return read_index(file)


def flip(path: Path, position: int, bits: int = 0x10) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= bits
    path.unlink()  # a staging folder may know the same file by another name
    path.write_bytes(bytes(data))


def swap(one: Path, other: Path) -> None:
    """Exchange the contents of two files."""
    contents = one.read_bytes(), other.read_bytes()
    for path, data in zip((other, one), contents, strict=True):
        path.unlink()
        path.write_bytes(data)


def damage(repository: Repository, **how: Any) -> list[Finding]:
    """What a check finds, notes left out."""
    return [finding for finding in repository.fsck(**how) if finding.is_damage]


def kinds(repository: Repository, **how: Any) -> set[str]:
    """The kinds of damage that a check finds."""
    return {finding.kind for finding in damage(repository, **how)}


def messages(repository: Repository) -> str:
    """The messages of all the damage that a check finds."""
    return " ".join(finding.message for finding in damage(repository))
