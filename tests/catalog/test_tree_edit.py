"""Record trees: their shape depends on their contents alone, and an edit touches little."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.backends.values import sample_identity
from hangar_cloud.catalog import records
from hangar_cloud.catalog.keys import encode_key, sort_keys
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_edit import keeps_bounds
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.record_writer import RecordWriter
from hangar_cloud.catalog.records import NodeRef, Row, SegmentPlace, inner_digest, leaf_digest, starts_node
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from hangar_cloud.catalog.tree_edit import build_tree, edit_tree

LABELS = array_schema((), "<i8", None, False, False, "labels")


def row(value: int) -> Row:
    data = value.to_bytes(8, "little")
    return Row(sample_identity(LABELS.prefix(None), data, None), None, data, None)


@pytest.fixture
def _small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves of about 4 rows and inner nodes of about 3 children, so that small trees are deep."""
    space = 2**64
    monkeypatch.setattr(records, "_THRESHOLDS", [space // (4 * 3**level) for level in range(7)] + [0])


class MemoryNodes:
    """Nodes in a dict; counts what is loaded and saved."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, bytes], list[Any]] = {}
        self.loads = 0
        self.saves = 0

    def load(self, ref: NodeRef) -> Sequence[Any]:
        self.loads += 1
        return list(self.nodes[ref.level, ref.digest])

    def save(self, level: int, entries: list[Any]) -> NodeRef:
        assert entries
        assert [key for key, _ in entries] == sorted({key for key, _ in entries})
        assert not any(starts_node(key, level) for key, _ in entries[1:]), "a node holds a boundary"
        self.saves += 1
        if level == 0:
            digest, count = leaf_digest(entries), len(entries)
        else:
            children = [child for _, child in entries]
            assert all(key == child.first and child.level == level - 1 for key, child in entries)
            digest, count = inner_digest(level, children), sum(child.count for child in children)
        self.nodes[level, digest] = list(entries)
        return NodeRef(level, entries[0][0], count, digest, SegmentPlace(b"", 0, 0, 0))

    def edit_leaf(self, ref: NodeRef, edits: Sequence[Any]) -> NodeRef | None:
        if not all(keeps_bounds(key, element, ref.first) for key, element in edits):
            return None
        changed = {**dict(self.load(ref)), **dict(edits)}
        return self.save(0, sorted((key, element) for key, element in changed.items() if element is not None))

    def contents(self, root: NodeRef | None) -> dict[bytes, Row]:
        if root is None:
            return {}
        if root.level == 0:
            return dict(self.nodes[0, root.digest])
        found: dict[bytes, Row] = {}
        for _, child in self.nodes[root.level, root.digest]:
            found.update(self.contents(child))
        return found


def encoded(model: dict[Any, int]) -> list[Any]:
    return [(encode_key(key), row(model[key])) for key in sort_keys(model)]


KEYS = st.integers(0, 120) | st.integers(0, 40).map(str)
EDITS = st.lists(st.dictionaries(KEYS, st.none() | st.integers(0, 3), max_size=25), max_size=6)


def apply(model: dict[Any, int], edits: dict[Any, int | None]) -> list[Any]:
    for key, value in edits.items():
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value
    return [(encode_key(key), None if edits[key] is None else row(edits[key] or 0)) for key in sort_keys(edits)]


@pytest.mark.usefixtures("_small_nodes")
class TestShape:
    @given(st.dictionaries(KEYS, st.integers(0, 3), max_size=80), EDITS)
    @settings(max_examples=400)
    def test_edits_give_the_root_of_a_fresh_build(self, start, batches):
        nodes = MemoryNodes()
        model = dict(start)
        root = build_tree(nodes, encoded(model))
        for edits in batches:
            root = edit_tree(nodes, root, apply(model, edits))
            assert root == build_tree(MemoryNodes(), encoded(model))
            assert nodes.contents(root) == dict(encoded(model))
            assert (0 if root is None else root.count) == len(model)

    @given(st.dictionaries(KEYS, st.integers(0, 3), min_size=1, max_size=60), st.randoms(use_true_random=False))
    @settings(max_examples=100)
    def test_any_order_of_single_edits_gives_one_root(self, model, order):
        nodes = MemoryNodes()
        keys = list(model)
        order.shuffle(keys)
        root = None
        for key in keys:
            root = edit_tree(nodes, root, [(encode_key(key), row(99))])
        order.shuffle(keys)
        for key in keys:
            root = edit_tree(nodes, root, [(encode_key(key), row(model[key]))])
        assert root == build_tree(MemoryNodes(), encoded(model))
        order.shuffle(keys)
        for i, key in enumerate(keys):
            root = edit_tree(nodes, root, [(encode_key(key), None)])
            rest = {k: model[k] for k in keys[i + 1 :]}
            assert root == build_tree(MemoryNodes(), encoded(rest))
        assert root is None

    @pytest.mark.parametrize("seed", range(12))
    def test_large_random_histories(self, seed):
        chance = random.Random(seed)
        nodes = MemoryNodes()
        model: dict[Any, int] = {}
        root = None
        for _ in range(25):
            low = chance.randrange(3000)
            span = chance.choice([1, 5, 300, 3000])
            edits: dict[Any, int | None] = {}
            for _ in range(chance.choice([1, 3, 50, 600])):
                edits[low + chance.randrange(span)] = None if chance.random() < 0.5 else chance.randrange(3)
            if chance.random() < 0.1:
                edits.update(dict.fromkeys(model))
            root = edit_tree(nodes, root, apply(model, edits))
            assert root == build_tree(MemoryNodes(), encoded(model))

    @pytest.mark.parametrize("level", range(4))
    def test_boundaries_of_every_level_can_be_deleted_and_come_back(self, level):
        model: dict[Any, int] = dict.fromkeys(range(2000), 1)
        nodes = MemoryNodes()
        root = build_tree(nodes, encoded(model))
        assert root is not None
        assert root.level >= 4
        boundaries = [key for key in model if starts_node(encode_key(key), level)]
        assert boundaries
        for gone in ([boundaries[0]], boundaries[:5], boundaries, [0], [1999], list(range(boundaries[0] + 1))):
            rest = {key: 1 for key in model if key not in set(gone)}
            less = edit_tree(nodes, root, [(encode_key(key), None) for key in gone])
            assert less == build_tree(MemoryNodes(), encoded(rest))
            assert edit_tree(nodes, less, [(encode_key(key), row(1)) for key in gone]) == root

    def test_absent_keys_deleted_and_equal_rows_set_change_nothing(self):
        model: dict[Any, int] = dict.fromkeys(range(0, 600, 2), 1)
        nodes = MemoryNodes()
        root = build_tree(nodes, encoded(model))
        assert edit_tree(nodes, root, [(encode_key(key), None) for key in range(1, 600, 2)]) == root
        assert edit_tree(nodes, root, encoded(model)) == root
        assert edit_tree(nodes, root, []) == root
        assert edit_tree(nodes, None, []) is None
        assert edit_tree(nodes, None, [(encode_key(3), None)]) is None
        assert edit_tree(nodes, root, [(encode_key(key), None) for key in model]) is None

    def test_one_change_touches_one_path(self):
        nodes = MemoryNodes()
        root = build_tree(nodes, encoded(dict.fromkeys(range(5000), 1)))
        assert root is not None
        for key in (0, 77, 2500, 4999):
            nodes.loads = nodes.saves = 0
            edit_tree(nodes, root, [(encode_key(key), row(2))])
            assert nodes.saves == root.level + 1
            assert nodes.loads <= (root.level + 1) * (root.level + 2)


# ---------------------------------------------------------------- stored in real objects


class Stored:
    """Trees in a local store, written and read as a commit does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LocalStore(folder)
        self.written: dict[str, int] = {}

    def reader(self) -> NodeReader:
        return NodeReader(ObjectSource(self.folder))

    def put(self, path: str, data: bytes) -> None:
        assert self.store.put_if_absent(path, data)
        self.written[path] = len(data)

    def commit(self, changes: dict[str, tuple[ColumnSchema, NodeRef | None, list[Any]]]) -> dict[str, NodeRef | None]:
        self.written.clear()
        writer = RecordWriter(self.reader())
        trees = {name: (schema, writer.edit(root, schema, edits)) for name, (schema, root, edits) in changes.items()}
        return writer.write(trees, self.put)

    def edit(self, root: NodeRef | None, edits: list[Any]) -> NodeRef | None:
        return self.commit({"labels": (LABELS, root, edits)})["labels"]

    def contents(self, root: NodeRef | None, schema: ColumnSchema = LABELS) -> dict[bytes, Row]:
        nodes = self.reader()
        return {key: row for ref in nodes.leaves(root) for key, row in nodes.leaf(ref, schema).entries()}


@pytest.mark.usefixtures("_small_nodes")
@given(st.lists(st.dictionaries(KEYS, st.none() | st.integers(0, 3), max_size=40), max_size=4))
@settings(max_examples=25, deadline=None)
def test_stored_trees_hold_what_a_dict_holds(tmp_path_factory, batches):
    stored = Stored(tmp_path_factory.mktemp("tree"))
    model: dict[Any, int] = {}
    root = None
    for edits in batches:
        root = stored.edit(root, apply(model, edits))
        assert stored.contents(root) == dict(encoded(model))
        fresh = build_tree(MemoryNodes(), encoded(model))
        assert (root and root.digest) == (fresh and fresh.digest)
        nodes = stored.reader()
        for key in [*range(0, 125, 7), "0", "7", "zz"]:
            found = nodes.find(root, LABELS, key)
            assert found == (row(model[key]) if key in model else None)


def test_columns_of_equal_digests_and_other_types_do_not_mix(tmp_path, monkeypatch):
    """1.0 and 1065353216 have equal bytes, so their trees have equal digests; their leaves do not."""
    monkeypatch.setattr(records, "_THRESHOLDS", [2**64 // (4 * 3**level) for level in range(7)] + [0])
    stored = Stored(tmp_path)
    schemas = {dtype: array_schema((), dtype, None, False, False, "") for dtype in ("<i4", "<f4", "<u4", ">f4")}
    data = np.array(1.0, "<f4").tobytes()
    same = Row(b"\0" + data, None, data, None)
    changes = [(encode_key(i), same) for i in range(200)]
    roots = stored.commit({dtype: (schema, None, changes) for dtype, schema in schemas.items()})
    assert len({root.digest for root in roots.values() if root}) == 1
    nodes = stored.reader()
    for dtype, schema in schemas.items():
        found = nodes.find(roots[dtype], schema, 100)
        assert found == same, dtype
        assert {r for ref in nodes.leaves(roots[dtype]) for _, r in nodes.leaf(ref, schema).entries()} == {same}
    # An edit through the same reader as well.
    writer = RecordWriter(nodes)
    trees = {d: (s, writer.edit(roots[d], s, [(encode_key(7), None)])) for d, s in schemas.items()}
    after = writer.write(trees, stored.put)
    for dtype, schema in schemas.items():
        assert set(stored.contents(after[dtype], schema).values()) == {same}
        assert len(stored.contents(after[dtype], schema)) == 199


ROWS = 200_000


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stored, NodeRef]:
    stored = Stored(tmp_path_factory.mktemp("big"))
    root = stored.edit(None, [(encode_key(i), row(i % 10)) for i in range(ROWS)])
    assert root is not None
    assert root.count == ROWS
    return stored, root


def test_one_change_in_a_big_tree_writes_one_leaf_and_its_path(big):
    stored, root = big
    reader = stored.reader()
    writer = RecordWriter(reader)
    edited = writer.edit(root, LABELS, [(encode_key(123_456), row(77))])
    stored.written.clear()
    changed = writer.write({"labels": (LABELS, edited)}, stored.put)["labels"]
    assert changed is not None
    assert changed.count == ROWS
    assert len(stored.written) == 2, "one object of leaves, one of inner nodes"
    assert sum(stored.written.values()) < 200_000
    assert reader.loaded == 1
    old = {ref.digest for ref in reader.leaves(root)}
    new = {ref.digest for ref in reader.leaves(changed)}
    assert len(old - new) == len(new - old) == 1
    back = stored.edit(changed, [(encode_key(123_456), row(123_456 % 10))])
    assert back is not None
    assert back.digest == root.digest


def test_opening_and_finding_in_a_big_tree_reads_little(big):
    stored, root = big
    remote = CountingStore(stored.store)
    cache = stored.folder.with_name("cache")
    nodes = NodeReader(ObjectSource(cache / "store", cache / "partial", lambda: [remote]))
    found = nodes.find(root, LABELS, 99_999)
    assert found == row(9)
    assert nodes.loaded == 1
    assert remote.requests["get_range"] <= root.level + 1
    total = sum(path.stat().st_size for path in stored.folder.rglob("*.parquet"))
    assert remote.bytes_received < total / 5
    nodes.prefetch_keys(root, LABELS, [5, 6, 7, 199_999])
    assert nodes.loaded <= 3
    assert next(iter(nodes.local_leaves(root, LABELS))) is not None
    offline = NodeReader(ObjectSource(cache / "store", cache / "partial", lambda: [remote], offline=True))
    assert offline.find(root, LABELS, 99_999) == row(9)
    with pytest.raises(DataNotLocalError):
        [offline.leaf(ref, LABELS) for ref in offline.leaves(root)]
    assert None in list(offline.local_leaves(root, LABELS))


def test_decoded_nodes_stay_under_their_bound(big):
    stored, root = big
    nodes = NodeReader(ObjectSource(stored.folder), memory_limit=2_000_000)
    for ref in nodes.leaves(root):
        nodes.leaf(ref, LABELS)
    assert nodes._bytes <= 2_000_000
    assert len(nodes._nodes) > 1


def test_leaves_that_grow_as_they_are_looked_into_stay_under_the_bound_too(big):
    stored, root = big
    nodes = NodeReader(ObjectSource(stored.folder), memory_limit=2_000_000)
    refs = list(nodes.leaves(root))
    nodes.prefetch(refs, LABELS)
    kept = [leaf for leaf in nodes._nodes.values() if isinstance(leaf, Leaf)]
    assert len(kept) > 20, "as tables they are small"
    for leaf in kept:
        assert len(leaf.positions) == len(leaf.rows()) == len(leaf)
    assert nodes._bytes <= 2_000_000
    assert nodes._bytes == sum(nodes._weights.values())
    assert nodes._weights.keys() == nodes._nodes.keys()
    assert 1 < len(nodes._nodes) < len(kept)
    nodes.forget()
    assert (nodes._bytes, nodes._weights) == (0, {})
    assert kept[0].find(kept[0].keys[0]) is not None, "a leaf that is not kept any more can still be read"


def test_no_map_of_records_is_kept_in_memory(big):
    stored, root = big
    source = ObjectSource(stored.folder)
    nodes = NodeReader(source)
    assert sum(nodes.leaf(ref, LABELS).row(0) is not None for ref in nodes.leaves(root)) > 50
    assert len(source._files._maps) == 0


def test_what_arrow_holds_of_leaves_is_what_they_weigh(big):
    stored, root = big
    nodes = NodeReader(ObjectSource(stored.folder))
    before = pa.total_allocated_bytes()
    for ref in nodes.leaves(root):
        leaf = nodes.leaf(ref, LABELS)
        assert leaf.uniform is not None
        assert leaf.find(leaf.keys[-1]) is not None
    tables = sum(leaf.table.nbytes for leaf in nodes._nodes.values() if isinstance(leaf, Leaf))
    assert pa.total_allocated_bytes() - before < 1.3 * tables < nodes._bytes


def test_many_keys_are_found_as_each_of_them_is(big):
    stored, root = big
    nodes = stored.reader()
    keys = [*range(0, ROWS, 5_000), *range(100, 700), "text", ROWS, 3, 2**62]
    assert nodes.find_all(root, LABELS, keys) == [nodes.find(root, LABELS, key) for key in keys]
    assert nodes.find_all(None, LABELS, keys) == [None] * len(keys)
    ahead = stored.edit(None, [(encode_key(key), row(1)) for key in (50, 60, "a")])
    assert nodes.find_all(ahead, LABELS, [1, 50, 55, 60, 61, "a", "b"]) == [
        None, row(1), None, row(1), None, row(1), None
    ]  # fmt: skip


def test_every_damaged_segment_of_an_object_is_noticed_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_THRESHOLDS", [2**64 // (4 * 3**level) for level in range(7)] + [0])
    stored = Stored(tmp_path)
    root = stored.edit(None, [(encode_key(i), row(i)) for i in range(24)])
    assert root is not None
    leaves = list(stored.reader().leaves(root))
    assert len(leaves) > 2
    path = tmp_path / records.records_path(leaves[0].place.object)
    intact = path.read_bytes()
    for position in range(0, len(intact), 3):
        damaged = bytearray(intact)
        damaged[position] ^= 0xFF
        path.unlink()
        path.write_bytes(damaged)
        nodes = stored.reader()
        for ref in leaves:
            hit = ref.place.offset <= position < ref.place.offset + ref.place.length
            if hit:
                with pytest.raises(CorruptDataError, match="records/"):
                    nodes.leaf(ref, LABELS)
            elif position % 60 == 0:
                assert len(nodes.leaf(ref, LABELS)) == ref.count
    for length in range(0, len(intact), 97):
        path.unlink()
        path.write_bytes(intact[:length])
        nodes = stored.reader()
        for ref in leaves:
            if ref.place.offset + ref.place.length > length:
                with pytest.raises(CorruptDataError):
                    nodes.leaf(ref, LABELS)
            else:
                assert len(nodes.leaf(ref, LABELS)) == ref.count


def test_a_records_object_is_split_where_it_gets_too_long(tmp_path, monkeypatch):
    from hangar_cloud.catalog import record_writer

    monkeypatch.setattr(records, "_THRESHOLDS", [2**64 // (4 * 3**level) for level in range(7)] + [0])
    monkeypatch.setattr(record_writer, "OBJECT_BYTES", 5000)
    stored = Stored(tmp_path)
    root = stored.edit(None, [(encode_key(i), row(i)) for i in range(100)])
    assert len(stored.written) > 3
    assert len(stored.contents(root)) == 100


def test_many_columns_share_objects(tmp_path):
    stored = Stored(tmp_path)
    changes = {f"c{i}": (LABELS, None, [(encode_key(j), row(i)) for j in range(5)]) for i in range(200)}
    roots = stored.commit(changes)
    assert len(stored.written) == 1
    for i in (0, 199):
        assert set(stored.contents(roots[f"c{i}"]).values()) == {row(i)}
