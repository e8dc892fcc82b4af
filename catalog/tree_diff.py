"""What differs between two record trees, found by reading only where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from hangar_cloud.catalog.keys import RowKey, encode_key
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_diff import differing_rows
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import NodeRef, Row
from hangar_cloud.catalog.schema import ColumnSchema

_AT_ONCE: Final = 16


class RowChange(NamedTuple):
    """A key whose row is not the same in both trees; None where a tree lacks it."""

    key: RowKey
    before: Row | None
    after: Row | None


Tree = tuple[ColumnSchema, NodeRef | None]
DiffTrees = Callable[[NodeReader, Tree, Tree], Iterable[RowChange]]


class DiffOnce:
    """`diff_trees` for somebody who needs to know twice: what differs, and what of that is in conflict."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], list[RowChange]] = {}

    def __call__(self, nodes: NodeReader, before: Tree, after: Tree) -> list[RowChange]:
        """The keys whose values differ, in key order. Raises as `diff_trees`."""
        name = tuple((schema.fingerprint, None if root is None else root.digest) for schema, root in (before, after))
        if name not in self._found:
            self._found[name] = list(diff_trees(nodes, before, after))
        return self._found[name]


def diff_trees(
    nodes: NodeReader,
    before: Tree,
    after: Tree,
) -> Iterator[RowChange]:
    """Keys whose values differ, in key order. Reads no sample bytes.

    Trees are cut by their keys alone, so subtrees of equal contents have equal digests wherever they
    hang. Level by level, what both sides refer to is set aside, and only the rest is opened.

    Args:
        nodes: reads both trees.
        before: schema and root of the one tree.
        after: schema and root of the other.
    """
    groups = list(_groups(*differing_leaves(nodes, before[1], after[1])))
    for start in range(0, len(groups), _AT_ONCE):
        part = groups[start : start + _AT_ONCE]
        nodes.prefetch([ref for left, _ in part for ref in left], before[0])
        nodes.prefetch([ref for _, right in part for ref in right], after[0])
        for left, right in part:
            if len(left) == len(right) == 1 and before[0] == after[0]:
                changes = _changes_between(nodes.leaf(left[0], before[0]), nodes.leaf(right[0], after[0]))
            else:
                changes = _changes_among(_rows(nodes, left, before[0]), _rows(nodes, right, after[0]))
            yield from sorted(changes, key=lambda change: encode_key(change.key))


def _groups(left: Sequence[NodeRef], right: Sequence[NodeRef]) -> Iterator[tuple[list[NodeRef], list[NodeRef]]]:
    """Leaves of both trees that may have keys in common, in key order: mostly one of each.

    Where a leaf begins at the same key in both trees, no leaf before has keys behind it in either.
    """
    shared = {ref.first for ref in left} & {ref.first for ref in right}
    group: tuple[list[NodeRef], list[NodeRef]] = ([], [])
    sided = [*((ref, 0) for ref in left), *((ref, 1) for ref in right)]
    for ref, side in sorted(sided, key=lambda one: (one[0].first, one[1])):
        if side == 0 and ref.first in shared and (group[0] or group[1]):
            yield group
            group = ([], [])
        group[side].append(ref)
    if group[0] or group[1]:
        yield group


def _changes_between(before: Leaf, after: Leaf) -> Iterator[RowChange]:
    removed, added, changed = differing_rows(before, after)
    yield from (RowChange(before.keys[i], before.row(i), None) for i in removed)
    yield from (RowChange(after.keys[i], None, after.row(i)) for i in added)
    yield from (RowChange(before.keys[i], before.row(i), after.row(j)) for i, j in changed)


def _changes_among(old: dict[RowKey, Row], new: dict[RowKey, Row]) -> Iterator[RowChange]:
    for key in {*old, *new}:
        was, now = old.get(key), new.get(key)
        if was is None or now is None or was.identity != now.identity:
            yield RowChange(key, was, now)


def differing_leaves(
    nodes: NodeReader, before: NodeRef | None, after: NodeRef | None
) -> tuple[list[NodeRef], list[NodeRef]]:
    """The leaves of each tree that the other does not have, in key order."""
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
    for ref in leaves:
        leaf = nodes.leaf(ref, schema)
        rows.update(zip(leaf.keys, leaf.rows(), strict=True))
    return rows
