"""Diff and merge of record trees, against dicts; and that they read only what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.store import open_store
from hangar_cloud.catalog import records
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.merge import merge_columns
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.record_writer import RecordWriter
from hangar_cloud.catalog.records import NodeRef, Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.tree_diff import diff_trees

SCHEMA = ColumnSchema("ndarray", "flat", "fixed_shape", "<i8", ())
Key = int | str
Model = dict[Key, int]
KEYS = st.one_of(st.integers(0, 400), st.integers(0, 60).map(lambda i: f"k{i}"))
MODELS = st.dictionaries(KEYS, st.integers(0, 3), max_size=120)
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.integers(0, 3)), max_size=30)


class Trees:
    """Makes and reads trees in a folder."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(str(folder))
        self.nodes = NodeReader(ObjectSource(folder))

    def make(self, model: Model, base: NodeRef | None = None) -> NodeRef | None:
        return self.edit(base, dict(model))

    def edit(self, root: NodeRef | None, changes: dict[Any, int | None]) -> NodeRef | None:
        writer = RecordWriter(self.nodes)
        rows = sorted((encode_key(key), None if value is None else _row(value)) for key, value in changes.items())
        edited = writer.edit(root, SCHEMA, rows)
        return writer.write({"c": (SCHEMA, edited)}, lambda path, data: _put(self.store, path, data))["c"]

    def fresh(self) -> NodeReader:
        """A reader that has read nothing yet."""
        local = self.store.local_path("x")
        assert local is not None
        return NodeReader(ObjectSource(local.parent))


def _put(store: Any, path: str, data: bytes) -> None:
    store.put_if_absent(path, data)


def _row(value: int) -> Row:
    payload = np.int64(value).tobytes()
    return Row(b"\0" + payload, None, payload, None)


@pytest.fixture
def small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [2**64 // (4 * 3**level) for level in range(records.MAX_LEVEL)]
    monkeypatch.setattr(records, "_THRESHOLDS", [*limits, 0])


def number(row: Row | None) -> int | None:
    return None if row is None or row.value is None else int(np.frombuffer(row.value, "<i8")[0])


def _apply(model: Model, changes: dict[Any, int | None]) -> Model:
    result = dict(model)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=MODELS, changes=CHANGES)
def test_a_diff_is_what_the_dicts_differ_in(small_nodes: None, tmp_path: Path, model: Model, changes: Any) -> None:
    trees = Trees(tmp_path)
    before = trees.make(model)
    after = trees.edit(before, changes)
    expected = _apply(model, changes)
    changed = diff_trees(trees.fresh(), (SCHEMA, before), (SCHEMA, after))
    found = {change.key: (number(change.before), number(change.after)) for change in changed}
    keys = {key for key in {*model, *expected} if model.get(key) != expected.get(key)}
    assert found == {key: (model.get(key), expected.get(key)) for key in keys}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=MODELS, ours=CHANGES, theirs=CHANGES)
def test_a_merge_takes_what_one_side_changed(
    small_nodes: None, tmp_path: Path, model: Model, ours: Any, theirs: Any
) -> None:
    trees = Trees(tmp_path)
    base = trees.make(model)
    one, other = trees.edit(base, ours), trees.edit(base, theirs)
    merge = merge_columns(
        trees.fresh(),
        [{"c": ColumnEntry(SCHEMA, base)}],
        {"c": ColumnEntry(SCHEMA, one)},
        {"c": ColumnEntry(SCHEMA, other)},
    )
    mine, yours = _apply(model, ours), _apply(model, theirs)
    expected, conflicts = dict(mine), {}
    for key in {*mine, *yours}:
        was, here, there = model.get(key), mine.get(key), yours.get(key)
        if here == there or there == was:
            continue
        if here == was:
            if there is None:
                expected.pop(key)
            else:
                expected[key] = there
        else:
            conflicts[key] = "t1" if was is None else "t21" if here is None else "t22" if there is None else "t3"
    assert {conflict.key: conflict.kind for conflict in merge.samples} == conflicts
    column = merge.columns["c"]
    changes = {key: number(row) for key, row in column.changes.items()}
    root = trees.edit(column.entry.root, changes)
    assert (None if root is None else root.digest) == (None if (tree := trees.make(expected)) is None else tree.digest)


def test_a_diff_of_a_million_rows_reads_only_the_leaves_that_changed(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    rows = 1_000_000
    root = trees.make({i: i % 7 for i in range(rows)})
    random = np.random.default_rng(3)
    ours = trees.edit(root, {int(key): 8 for key in random.choice(rows // 2, 100, replace=False)})
    theirs = trees.edit(root, {int(key) + rows // 2: 9 for key in random.choice(rows // 2, 100, replace=False)})
    nodes = trees.fresh()
    changes = list(diff_trees(nodes, (SCHEMA, ours), (SCHEMA, theirs)))
    assert len(changes) == 200
    leaves = len(list(nodes.leaves(root)))
    assert leaves > 200
    assert nodes.loaded <= 2 * (200 + 20)
    base = {"c": ColumnEntry(SCHEMA, root)}
    merge = merge_columns(trees.fresh(), [base], {"c": ColumnEntry(SCHEMA, ours)}, {"c": ColumnEntry(SCHEMA, theirs)})
    assert not merge.conflict
    assert len(merge.columns["c"].changes) == 100
