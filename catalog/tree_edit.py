"""Applying changes to a record tree (pure: nodes come from and go to callbacks).

A tree is cut where a hash of the key says so, so its shape depends on its keys alone. An edit works
level by level. At each level it loads only the nodes that hold changed elements, and the one before
a node whose first element stopped being a boundary. The nodes that it removes and makes are the
changes of the level above.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from hangar_cloud.catalog.records import MAX_LEVEL, LeafEntry, NodeRef, Row, starts_node

Element = Row | NodeRef
Entry = tuple[bytes, Any]


class NodeStore(Protocol):
    """What an edit needs to know of a tree's nodes."""

    def load(self, ref: NodeRef) -> Sequence[Entry]:
        """Elements of a node in key order: (key, row) of a leaf, (first key, child) of an inner node."""

    def save(self, level: int, entries: list[Entry]) -> NodeRef:
        """Make a node of these elements."""

    def edit_leaf(self, ref: NodeRef, edits: Sequence[Entry]) -> NodeRef | None:
        """Make a leaf of another with changes; None where these move its bounds, or that is not told."""


class _Located(NamedTuple):
    ref: NodeRef
    upper: bytes | None


def edit_tree(
    nodes: NodeStore, root: NodeRef | None, changes: Sequence[tuple[bytes, Element | None]], first_level: int = 0
) -> NodeRef | None:
    """The root of the tree after the changes; None for an empty tree.

    Args:
        nodes: loads nodes of the old tree and saves nodes of the new one.
        root: of the old tree, None if it was empty.
        changes: encoded keys in ascending order, each once, with the new row or None to delete.
            Deleting an absent key changes nothing.
        first_level: of what the changes are elements. Above 0 they are first keys and nodes of the level below.
    """
    edits: Sequence[Entry] = changes
    for level in range(first_level, MAX_LEVEL + 1):
        if not edits:
            return root
        if root is None or root.level < level:
            return _grow(nodes, level, _apply([] if root is None else [(root.first, root)], edits))
        edits = _LevelEdit(nodes, root, level).run(edits)
        if root.level == level:
            return _grow(nodes, level + 1, _apply([(root.first, root)], edits))
    raise AssertionError("a record tree is deeper than its format allows")


def build_tree(nodes: NodeStore, entries: Sequence[LeafEntry]) -> NodeRef | None:
    """The root of a tree of these rows, given in key order."""
    return _grow(nodes, 0, list(entries))


def find_node(nodes: NodeStore, root: NodeRef, level: int, key: bytes) -> _Located:
    """The node of `level` that covers a key (the leftmost, for smaller keys), and where the next begins."""
    ref, upper = root, None
    while ref.level > level:
        children = nodes.load(ref)
        i = max(bisect_right(children, key, key=_first) - 1, 0)
        if i + 1 < len(children):
            upper = children[i + 1][0]
        ref = children[i][1]
    return _Located(ref, upper)


def _find_node_before(nodes: NodeStore, root: NodeRef, level: int, first: bytes) -> NodeRef | None:
    """The last node of `level` that begins before `first`."""
    if root.first >= first:
        return None
    ref = root
    while ref.level > level:
        children = nodes.load(ref)
        ref = children[bisect_left(children, first, key=_first) - 1][1]
    return ref


def _first(entry: Entry) -> bytes:
    return entry[0]


class _LevelEdit:
    """One level's part of an edit: which of its nodes go and which come."""

    def __init__(self, nodes: NodeStore, root: NodeRef, level: int) -> None:
        self._nodes = nodes
        self._root = root
        self._level = level
        self._removed: dict[bytes, NodeRef] = {}
        self._runs: list[list[Entry]] = []
        self._made: dict[bytes, NodeRef] = {}

    def run(self, edits: Sequence[Entry]) -> list[Entry]:
        i = 0
        while i < len(edits):
            ref, upper = find_node(self._nodes, self._root, self._level, edits[i][0])
            end = len(edits) if upper is None else bisect_left(edits, upper, lo=i, key=_first)
            self._removed[ref.first] = ref
            made = self._nodes.edit_leaf(ref, edits[i:end]) if self._level == 0 else None
            if made is not None:
                self._made[ref.first] = made
                i = end
                continue
            merged = _apply(self._nodes.load(ref), edits[i:end])
            for run in _split(merged, self._level):
                self._place(run, ref.first)
            i = end
        return self._changes()

    def _place(self, run: list[Entry], old_first: bytes) -> None:
        """Take a run as a node of its own, or join it to the node before where no boundary parts them."""
        if starts_node(run[0][0], self._level):
            self._runs.append(run)
            return
        before = _find_node_before(self._nodes, self._root, self._level, min(old_first, run[0][0]))
        while before is not None and self._is_emptied(before):
            before = _find_node_before(self._nodes, self._root, self._level, before.first)
        if before is not None and before.first in self._made:
            self._runs.append([*self._nodes.load(self._made.pop(before.first)), *run])
        elif before is not None and before.first not in self._removed:
            self._removed[before.first] = before
            self._runs.append([*self._nodes.load(before), *run])
        elif self._runs:
            self._runs[-1] = [*self._runs[-1], *run]
        else:
            self._runs.append(run)

    def _is_emptied(self, before: NodeRef) -> bool:
        """Whether nothing of what node `before` held is left in what comes in its place."""
        if before.first not in self._removed or before.first in self._made:
            return False
        return not self._runs or self._runs[-1][-1][0] < before.first

    def _changes(self) -> list[Entry]:
        changes: dict[bytes, NodeRef | None] = dict.fromkeys(self._removed)
        for node in (*self._made.values(), *(self._nodes.save(self._level, run) for run in self._runs)):
            old = self._removed.get(node.first)
            if old is not None and old.digest == node.digest:
                changes.pop(node.first)
            else:
                changes[node.first] = node
        return sorted(changes.items())


def _grow(nodes: NodeStore, level: int, entries: list[Entry]) -> NodeRef | None:
    """Make levels above `entries` (rows, or nodes of the level below) until one node is left."""
    while entries:
        if level > 0 and len(entries) == 1:
            return _collapse(nodes, entries[0][1])
        made = [nodes.save(level, run) for run in _split(entries, level)]
        entries = [(node.first, node) for node in made]
        level += 1
    return None


def _collapse(nodes: NodeStore, root: NodeRef) -> NodeRef:
    """Drop top nodes that have one child, so that equal contents have one root."""
    while root.level > 0:
        children = nodes.load(root)
        if len(children) > 1:
            break
        root = children[0][1]
    return root


def _split(entries: list[Entry], level: int) -> list[list[Entry]]:
    runs: list[list[Entry]] = []
    start = 0
    for i in range(1, len(entries)):
        if starts_node(entries[i][0], level):
            runs.append(entries[start:i])
            start = i
    if entries:
        runs.append(entries[start:])
    return runs


def _apply(entries: Sequence[Entry], edits: Sequence[Entry]) -> list[Entry]:
    """Merge edits into a sorted run; an edit of None deletes."""
    if not entries:
        return [entry for entry in edits if entry[1] is not None]
    if len(edits) * 8 < len(entries):
        return _splice(list(entries), edits)
    merged = dict(entries)
    for key, element in edits:
        if element is None:
            merged.pop(key, None)
        else:
            merged[key] = element
    return sorted(merged.items())


def _splice(entries: list[Entry], edits: Sequence[Entry]) -> list[Entry]:
    for key, element in edits:
        i = bisect_left(entries, key, key=_first)
        present = i < len(entries) and entries[i][0] == key
        if element is None:
            if present:
                del entries[i]
        elif present:
            entries[i] = (key, element)
        else:
            entries.insert(i, (key, element))
    return entries
