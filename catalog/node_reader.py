"""Loading the nodes of record trees: verified, decoded once, kept under a bound."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple

import xxhash

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.object_source import Extent, ObjectSource
from hangar_cloud.catalog.keys import KeyType, RowKey, decode_key, encode_key, sort_keys
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_digests import digest_of_leaf
from hangar_cloud.catalog.purged_values import leaf_without_values
from hangar_cloud.catalog.records import (
    NodeRef,
    Row,
    inner_digest,
    lacks_literal,
    records_path,
)
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import decode_inner, decode_leaf

_MEMORY_LIMIT: Final = 96 * 1024 * 1024
_INNER_BYTES: Final = 400
_PREFETCH_LEAVES: Final = 64
_KEYS_AT_ONCE: Final = 256
_INNER_AHEAD: Final = 64 * 1024
_BEHIND_ALL: Final = b"\xff"
"""Greater than every encoded key."""

Node = Leaf | list[NodeRef]


class Span(NamedTuple):
    """A leaf of a tree: its first key and the first one behind it, encoded, its name in memory, and the rows before."""

    first: bytes
    end: bytes
    name: bytes
    rank: int


class NodeReader:
    """Nodes by reference, from local files or else from a remote.

    Args:
        source: where records objects are read from.
        memory_limit: bytes (estimated) of decoded nodes kept.
        purged: digests of samples whose values are not given out, whatever a leaf has: a remote may not know of a
            purge here, and a merge would take its value for a change.

    `loaded` counts the leaves that were read and decoded, for tests and diagnostics.
    """

    def __init__(
        self,
        source: ObjectSource,
        memory_limit: int = _MEMORY_LIMIT,
        purged: Callable[[], Collection[bytes]] = frozenset,
    ) -> None:
        self._source = source
        self._purged = purged
        self._nodes: OrderedDict[bytes, Node] = OrderedDict()
        self._weights: dict[bytes, int] = {}
        self._bytes = 0
        self._limit = memory_limit
        self._lock = ForkLock()
        self.loaded = 0

    def leaf(self, ref: NodeRef, schema: ColumnSchema) -> Leaf:
        """The leaf that `ref` names.

        Raises:
            CorruptDataError: damaged; says which records object.
            DataNotLocalError: not here, and not to be fetched.
        """
        name = _leaf_name(ref, schema)
        found = self._nodes.get(name)
        if found is None:
            self.loaded += 1
            leaf = leaf_without_values(self._source.read(node_extent(ref, schema)), schema, self._purged())
            found = self._remember(name, leaf)
        assert isinstance(found, Leaf)
        # Asked of those in memory too: a node that two parents name, under different keys, would be walked twice.
        if found.first != ref.first:
            raise CorruptDataError(f"{records_path(ref.place.object)}: a leaf begins at another key than is declared")
        return found

    def children(self, ref: NodeRef) -> list[NodeRef]:
        """The children of the inner node that `ref` names. Raises as `leaf`."""
        name = _inner_name(ref)
        found = self._nodes.get(name)
        if found is None:
            found = self._remember(name, self._source.read(node_extent(ref, None), ahead=_INNER_AHEAD))
        assert isinstance(found, list)
        if found[0].first != ref.first:
            raise CorruptDataError(f"{records_path(ref.place.object)}: a node begins at another key than is declared")
        return found

    def keep(self, ref: NodeRef, children: list[NodeRef]) -> None:
        """Have an inner node in memory that was just written: the next commit goes through it again."""
        self._remember(_inner_name(ref), children)

    def prefetch(self, refs: Sequence[NodeRef], schema: ColumnSchema) -> None:
        """Have leaves decoded in memory (as far as the bound allows), fetching what is not here in
        joined requests. Raises as `leaf`."""
        missing = [ref for ref in refs if _leaf_name(ref, schema) not in self._nodes]
        for start in range(0, len(missing), _PREFETCH_LEAVES):
            part = missing[start : start + _PREFETCH_LEAVES]
            leaves = self._source.read_many([node_extent(ref, schema) for ref in part])
            self.loaded += len(part)
            purged = self._purged()
            for ref, leaf in zip(part, leaves, strict=True):
                self._remember(_leaf_name(ref, schema), leaf_without_values(leaf, schema, purged))

    def prefetch_keys(self, root: NodeRef | None, schema: ColumnSchema, keys: Sequence[RowKey]) -> None:
        """Prefetch the leaves that cover some keys. Raises as `leaf`."""
        refs = {ref.digest: ref for _, ref in self._covering_leaves(root, keys) if ref is not None}
        if len(refs) > 1:
            self.prefetch(list(refs.values()), schema)

    def by_leaves(self, root: NodeRef | None, keys: Sequence[RowKey], most: int) -> Iterator[list[RowKey]]:
        """Some keys, in portions for which no more than `most` leaves have to be in memory. Raises as `leaf`."""
        portion: list[RowKey] = []
        names: set[bytes] = set()
        for key, ref in self._covering_leaves(root, sort_keys(keys)):
            if ref is not None and ref.digest not in names:
                if len(names) == most:
                    yield portion
                    portion, names = [], set()
                names.add(ref.digest)
            portion.append(key)
        if portion:
            yield portion

    def find_all(self, root: NodeRef | None, schema: ColumnSchema, keys: Sequence[RowKey]) -> list[Row | None]:
        """The rows of some keys below `root`; quickest where these are in order. Raises as `leaf`."""
        found: list[Row | None] = []
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            # So few that their leaves stay in memory until they are looked into.
            part = keys[start : start + _KEYS_AT_ONCE]
            self.prefetch_keys(root, schema, part)
            covering = self._covering_leaves(root, part)
            found += [None if ref is None else self.leaf(ref, schema).find(key) for key, ref in covering]
        return found

    def _covering_leaves(self, root: NodeRef | None, keys: Sequence[RowKey]) -> Iterator[tuple[RowKey, NodeRef | None]]:
        """Each key with the leaf that holds it if any does; looked up once for keys in a row that share one."""
        first, end, ref = b"\xff", b"", None
        for key in keys:
            encoded = encode_key(key)
            if not first <= encoded < end:
                first, end, ref = self._covering_leaf(root, encoded)
            yield key, ref

    def find(self, root: NodeRef | None, schema: ColumnSchema, key: RowKey) -> Row | None:
        """The row of a key below `root`, or None. Raises as `leaf`."""
        leaf = self.leaf_of(root, schema, key)
        return None if leaf is None else leaf.find(key)

    def leaf_of(self, root: NodeRef | None, schema: ColumnSchema, key: RowKey) -> Leaf | None:
        """The leaf that holds a key if any does. Raises as `leaf`."""
        _, _, ref = self._covering_leaf(root, encode_key(key))
        return None if ref is None else self.leaf(ref, schema)

    def _covering_leaf(self, root: NodeRef | None, encoded: bytes) -> tuple[bytes, bytes, NodeRef | None]:
        """The leaf that holds an encoded key if any does, behind the bounds of the keys of which that is true."""
        first, end, ref = b"", _BEHIND_ALL, root
        while ref is not None and ref.level > 0:
            children = self.children(ref)
            i = bisect_right(children, encoded, key=_first)
            end = children[i].first if i < len(children) else end
            ref = children[i - 1] if i else None
            first = b"" if ref is None else ref.first
        return first, end, ref

    def leaves(self, root: NodeRef | None) -> Iterator[NodeRef]:
        """References to all leaves below `root`, in key order. Raises as `leaf`."""
        if root is None:
            return
        if root.level == 0:
            yield root
            return
        for child in self.children(root):
            yield from self.leaves(child)

    def range(
        self, root: NodeRef | None, schema: ColumnSchema, low: bytes, high: bytes
    ) -> Iterator[tuple[RowKey, Row]]:
        """Keys and rows from encoded key `low` to below `high`, in order. Raises as `leaf`."""
        for ref in self._leaves_between(root, low, high):
            leaf = self.leaf(ref, schema)
            start = bisect_left(leaf.encoded_keys, low)
            for i in range(start, bisect_left(leaf.encoded_keys, high, start)):
                yield leaf.keys[i], leaf.row(i)

    def count_between(self, root: NodeRef | None, schema: ColumnSchema, low: bytes, high: bytes) -> int:
        """How many keys there are from encoded key `low` to below `high`; reads the leaves at the ends only."""
        refs = list(self._leaves_between(root, low, high))
        count = 0
        for i, ref in enumerate(refs):
            if ref.first >= low and i + 1 < len(refs):
                count += ref.count
            else:
                encoded = self.leaf(ref, schema).encoded_keys
                start = bisect_left(encoded, low)
                count += bisect_left(encoded, high, start) - start
        return count

    def samples(self, root: NodeRef | None, schema: ColumnSchema) -> Iterator[KeyType]:
        """Samples of a nested column, in key order. Does not read leaves that lie within one sample."""
        last: KeyType | None = None
        for ref, following in pairwise(chain(self.leaves(root), [None])):
            assert ref is not None
            first = _sample(decode_key(ref.first))
            if following is not None and _sample(decode_key(following.first)) == first:
                found = [first]
            else:
                found = [_sample(key) for key in self.leaf(ref, schema).keys]
            for sample in found:
                if sample != last:
                    yield sample
                last = sample

    def _leaves_between(self, ref: NodeRef | None, low: bytes, high: bytes) -> Iterator[NodeRef]:
        if ref is None or ref.first >= high:
            return
        if ref.level == 0:
            yield ref
            return
        children = self.children(ref)
        for child in children[max(bisect_right(children, low, key=_first) - 1, 0) :]:
            if child.first >= high:
                return
            yield from self._leaves_between(child, low, high)

    def local_leaves(
        self, root: NodeRef | None, schema: ColumnSchema, low: bytes = b"", high: bytes | None = None
    ) -> Iterator[NodeRef | None]:
        """References to the leaves below `root` that are on this machine, and None for each node that is not.

        Leaves that hold no key from encoded key `low` to below `high` may be left out.
        """
        if root is None or (high is not None and root.first >= high):
            return
        leaf_schema = schema if root.level == 0 else None
        name = _leaf_name(root, schema) if root.level == 0 else _inner_name(root)
        if name not in self._nodes and not self._source.is_local(node_extent(root, leaf_schema)):
            yield None
        elif root.level == 0:
            yield root
        else:
            children = self.children(root)
            for child in children[max(bisect_right(children, low, key=_first) - 1, 0) :]:
                yield from self.local_leaves(child, schema, low, high)

    def forget(self) -> None:
        """Drop every decoded node."""
        with self._lock.lock:
            self._nodes.clear()
            self._weights.clear()
            self._bytes = 0

    def leaf_named(self, name: bytes) -> Leaf | None:
        """A leaf by the name that a span gives it, None if it is not in memory. Its first key was compared then."""
        return self._nodes.get(name)  # type: ignore[return-value]  # names of leaves are not those of inner nodes

    def span(self, root: NodeRef | None, schema: ColumnSchema, key: RowKey) -> Span | None:
        """The leaf that holds a key if any does, if it is in memory with all above it."""
        encoded, end, rank = encode_key(key), b"\xff", 0
        ref = root
        while ref is not None and ref.level > 0:
            if _inner_name(ref) not in self._nodes:
                return None
            children = self.children(ref)
            i = bisect_right(children, encoded, key=_first)
            end = children[i].first if i < len(children) else end
            rank += sum(child.count for child in children[: max(i - 1, 0)])
            ref = children[i - 1] if i else None
        if ref is None or _leaf_name(ref, schema) not in self._nodes:
            return None
        self.leaf(ref, schema)
        return Span(ref.first, end, _leaf_name(ref, schema), rank)

    def _remember(self, name: bytes, node: Node) -> Node:
        with self._lock.lock:
            if name not in self._nodes:
                self._nodes[name] = node
                self._weigh(name, node.nbytes if isinstance(node, Leaf) else _INNER_BYTES * len(node))
                if isinstance(node, Leaf):
                    node.grown = partial(self._grown, name, node)
        return node

    def _grown(self, name: bytes, leaf: Leaf, added: int) -> None:
        """Take note that more of a leaf is kept than when it was read."""
        with self._lock.lock:
            if self._nodes.get(name) is leaf:
                self._weigh(name, added)

    def _weigh(self, name: bytes, added: int) -> None:
        self._weights[name] = self._weights.get(name, 0) + added
        self._bytes += added
        while self._bytes > self._limit and len(self._nodes) > 1:
            dropped, node = self._nodes.popitem(last=False)
            self._bytes -= self._weights.pop(dropped)
            if isinstance(node, Leaf):
                node.grown = None


def node_extent(ref: NodeRef, schema: ColumnSchema | None) -> Extent[Any]:
    """The range of a records object that holds a node, with the check that decodes it.

    Args:
        ref: the node.
        schema: of the column, for a leaf; None for an inner node.
    """
    place = ref.place

    def verify(data: memoryview, fetched: bool) -> Node:
        if xxhash.xxh3_64_intdigest(data) != place.checksum:
            raise CorruptDataError("a record segment fails its checksum")
        if schema is None:
            children = decode_inner(data, ref.level, place.object)
            _check_children(ref, children)
            if fetched and inner_digest(ref.level, children) != ref.digest:
                raise CorruptDataError("a record node does not match its digest")
            return children
        return decode(data, fetched)

    def decode(data: memoryview, fetched: bool, rewritten: bool = False) -> Node:
        if schema is None:
            raise CorruptDataError("an inner node was rewritten, which none ever is")
        leaf = decode_leaf(data, schema, ref.count)
        if fetched:
            # Without a literal that was purged nobody can make the digest; the checksum of its move was right.
            excused = rewritten and any(lacks_literal(row) for row in leaf.rows())
            if not excused and digest_of_leaf(leaf) != ref.digest:
                raise CorruptDataError("a record leaf does not match its digest")
        return leaf

    def decode_rewritten(data: memoryview, _: bool) -> Node:
        return decode(data, True, True)

    return Extent(records_path(place.object), place.offset, place.length, verify, decode_rewritten, once=True)


def _check_children(ref: NodeRef, children: Sequence[NodeRef]) -> None:
    """Refuse a node that is reachable in two ways or more: walking its tree might not end."""
    firsts = [child.first for child in children]
    if firsts[0] != ref.first or any(one >= next_ for one, next_ in pairwise(firsts)):
        raise CorruptDataError("a record node's children are out of order, or not those of its parent")
    if min(child.count for child in children) < 1 or sum(child.count for child in children) != ref.count:
        raise CorruptDataError(f"a record node has not the {ref.count} rows that its parent declares")


def _leaf_name(ref: NodeRef, schema: ColumnSchema) -> bytes:
    return b"leaf" + ref.digest + schema.fingerprint


def _inner_name(ref: NodeRef) -> bytes:
    # Columns of different types may have equal digests, and their leaves are stored differently. So the children that
    # an inner node names depend on where it lies.
    place = ref.place
    return b"node%b%b/%d/%d/%d" % (ref.digest, place.object, place.offset, place.length, place.checksum)


def _first(ref: NodeRef) -> bytes:
    return ref.first


def _sample(key: RowKey) -> KeyType:
    return key[0] if isinstance(key, tuple) else key
