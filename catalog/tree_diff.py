"""What differs between two record trees, found by reading only where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from hangar_cloud.catalog.keys import RowKey, encode_key
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import NodeRef, Row
from hangar_cloud.catalog.schema import ColumnSchema

_AT_ONCE: Final = 16


class RowChange(NamedTuple):
    """A key whose row is not the same in both trees; None where a tree lacks it."""

    key: RowKey
    before: Row | None
    after: Row | None


def diff_trees(
    nodes: NodeReader,
    before: tuple[ColumnSchema, NodeRef | None],
    after: tuple[ColumnSchema, NodeRef | None],
) -> Iterator[RowChange]:
    """Keys whose values differ, in key order. Reads no sample bytes.

    Trees are cut by their keys alone, so subtrees of equal contents have equal digests wherever they
    hang. Level by level, what both sides refer to is set aside, and only the rest is opened.

    Args:
        nodes: reads both trees.
        before: schema and root of the one tree.
        after: schema and root of the other.
    """
    left, right = _differing_leaves(nodes, before[1], after[1])
    old, new = _rows(nodes, left, before[0]), _rows(nodes, right, after[0])
    for key in sorted({*old, *new}, key=encode_key):
        was, now = old.get(key), new.get(key)
        if was is None or now is None or was.identity != now.identity:
            yield RowChange(key, was, now)


def _differing_leaves(
    nodes: NodeReader, before: NodeRef | None, after: NodeRef | None
) -> tuple[list[NodeRef], list[NodeRef]]:
    """The leaves of each tree that the other does not have."""
    left = [] if before is None else [before]
    right = [] if after is None else [after]
    level = max((ref.level for ref in (*left, *right)), default=0)
    while True:
        left, right = _without_common(left, right)
        if level == 0:
            return left, right
        left, right = _open(nodes, left, level), _open(nodes, right, level)
        level -= 1


def _without_common(left: Sequence[NodeRef], right: Sequence[NodeRef]) -> tuple[list[NodeRef], list[NodeRef]]:
    common = {(ref.level, ref.digest) for ref in left} & {(ref.level, ref.digest) for ref in right}
    return (
        [ref for ref in left if (ref.level, ref.digest) not in common],
        [ref for ref in right if (ref.level, ref.digest) not in common],
    )


def _open(nodes: NodeReader, refs: Sequence[NodeRef], level: int) -> list[NodeRef]:
    """The children of the nodes of `level`; lower ones (of a tree that is less deep) stay."""
    found: list[NodeRef] = []
    for ref in refs:
        found += nodes.children(ref) if ref.level == level else [ref]
    return found


def _rows(nodes: NodeReader, leaves: Sequence[NodeRef], schema: ColumnSchema) -> dict[RowKey, Row]:
    rows: dict[RowKey, Row] = {}
    for start in range(0, len(leaves), _AT_ONCE):
        part = leaves[start : start + _AT_ONCE]
        nodes.prefetch(part, schema)
        for ref in part:
            leaf = nodes.leaf(ref, schema)
            rows.update((key, leaf.row(i)) for i, key in enumerate(leaf.keys))
    return rows
