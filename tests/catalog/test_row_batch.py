"""Rows in columns: what is made of them is what is made of the same rows one by one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.store.local import LocalStore
from hangar_cloud.catalog import records
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import RowKey, encode_key
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.place_table import PlaceTable
from hangar_cloud.catalog.record_writer import RecordWriter
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.row_batch import RowBatch, SortedRows
from hangar_cloud.catalog.sample_writer import default_backend
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from hangar_cloud.catalog.staged_map import StagedRows
from hangar_cloud.catalog.working_column import WorkingColumn
from hangar_cloud.catalog.write_guard import WriteGuard
from tests.catalog.bench import Bench, committed, image, plains

SCHEMAS = {
    "packed arrays": array_schema((100,), "|u1", None, False, False, ""),
    "labels": array_schema((), "<i8", None, False, False, ""),
    "flags": array_schema((), "|b1", None, False, False, ""),
    "short arrays": array_schema((6,), "<f8", None, False, False, ""),
    "arrays of many shapes": array_schema((40, 40), "<f4", None, True, False, ""),
    "text of all lengths": ColumnSchema("str"),
    "nested": array_schema((100,), "|u1", None, False, True, ""),
}


def value(schema: ColumnSchema, number: int) -> Any:
    if schema.column_type == "str":
        return "x" * (number % 300)
    generator = np.random.default_rng(number)
    shape = schema.shape or ()
    if schema.schema_type == "variable_shape":
        shape = tuple(int(n) for n in generator.integers(1, 40, 2))
    return np.asarray(generator.integers(0, 2, shape)).astype(schema.numpy_dtype)


def key_of(schema: ColumnSchema, number: int) -> RowKey:
    key = number if number % 7 else str(number)
    return (number // 5, key) if schema.column_layout == "nested" else key


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def batch_of(bench: Bench, schema: ColumnSchema, numbers: list[int], *, numbered: bool = False) -> RowBatch:
    entry = ColumnEntry(schema, None, default_backend(schema))
    samples = [
        (number if numbered else key_of(schema, number), schema.encode(value(schema, number), "")) for number in numbers
    ]
    return bench.samples.write("a column", entry, samples)


def objects_of(tmp_path, root, schema, changes) -> tuple[Any, dict[str, bytes]]:
    """The root that changes make of a tree, and the records objects that are written for it."""
    store = LocalStore(tmp_path / "store")
    records_writer = RecordWriter(NodeReader(ObjectSource(tmp_path / "store")))
    made: dict[str, bytes] = {}
    new = records_writer.edit(root, schema, changes)
    roots = records_writer.write({"a column": (schema, new)}, made.__setitem__)
    for path, data in made.items():
        store.put_if_absent(path, data)
    return roots["a column"], made


@pytest.fixture
def small_leaves(monkeypatch):
    monkeypatch.setattr(records, "_THRESHOLDS", [2**64 // (8 * 3**level) for level in range(7)] + [0])


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("kind", list(SCHEMAS))
@pytest.mark.usefixtures("small_leaves")
def test_a_tree_of_columns_is_byte_for_byte_that_of_rows(bench, tmp_path, kind, numbered):
    schema = SCHEMAS[kind]
    if numbered and schema.column_layout == "nested":
        schema = array_schema((100,), "|u1", None, False, False, "")
    numbers = random.Random(kind).sample(range(1000), 200)
    changes = SortedRows(batch_of(bench, schema, numbers, numbered=numbered))
    rows = list(changes)
    assert [key for key, _ in rows] == sorted(key for key, _ in rows)
    assert [changes[i] for i in range(len(rows))] == rows
    assert objects_of(tmp_path, None, schema, changes) == objects_of(tmp_path, None, schema, rows)


@pytest.mark.parametrize("first", [1, 3, 60, 199])
@pytest.mark.usefixtures("small_leaves")
def test_rows_behind_the_last_of_a_tree_make_the_tree_of_all(bench, tmp_path, first):
    schema = SCHEMAS["packed arrays"]
    rows = list(SortedRows(batch_of(bench, schema, list(range(200)), numbered=True)))
    whole, _ = objects_of(tmp_path, None, schema, rows)
    before, _ = objects_of(tmp_path, None, schema, rows[:first])
    added = SortedRows(batch_of(bench, schema, list(range(first, 200)), numbered=True))
    after, made = objects_of(tmp_path, before, schema, added)
    slowly, made_slowly = objects_of(tmp_path, before, schema, list(added))
    assert after.digest == slowly.digest == whole.digest
    assert after == slowly
    assert made == made_slowly


@pytest.mark.usefixtures("small_leaves")
def test_rows_among_those_of_a_tree_make_the_tree_of_all(bench, tmp_path):
    schema = SCHEMAS["labels"]
    rows = list(SortedRows(batch_of(bench, schema, list(range(200)), numbered=True)))
    whole, _ = objects_of(tmp_path, None, schema, rows)
    before, _ = objects_of(tmp_path, None, schema, rows[::2])
    added = SortedRows(batch_of(bench, schema, list(range(1, 200, 2)), numbered=True))
    assert objects_of(tmp_path, before, schema, added)[0].digest == whole.digest


@pytest.mark.parametrize("kind", ["labels", "packed arrays", "text of all lengths", "arrays of many shapes"])
def test_parts_and_other_orders_and_joins_have_the_rows_that_they_should(bench, kind):
    schema = SCHEMAS[kind]
    batch = batch_of(bench, schema, list(range(150)))
    rows = list(batch)
    assert [batch[i] for i in range(150)] == rows
    assert batch[3:9] == rows[3:9]
    for start, stop in [(0, 1), (0, 40), (33, 34), (30, 149), (149, 150)]:
        assert list(batch.part(start, stop)) == rows[start:stop]
    order = random.Random(0).sample(range(150), 90)
    assert list(batch.take(order)) == [rows[i] for i in order]
    parts = [batch.part(0, 30), batch.take(range(30, 60)), RowBatch.of(rows[60:])]
    assert list(RowBatch.joined(parts)) == rows
    assert list(RowBatch.of(rows)) == rows
    assert dict(batch) == dict(rows)


class TestStagedRows:
    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(st.tuples(st.sampled_from(["batch", "row", "delete"]), st.integers(0, 170)), max_size=8))
    def test_is_a_dict_of_rows(self, steps):
        staged = StagedRows()
        plain: dict[RowKey, Row | None] = {}
        for number, (what, start) in enumerate(steps):
            rows = [(key, self.row(key, number)) for key in range(start, start + 80)]
            if what == "batch":
                staged.take(RowBatch.of(rows))
                plain.update(rows)
            elif what == "row":
                staged[start] = plain[start] = rows[0][1]
            else:
                staged[start] = plain[start] = None
        assert dict(staged) == plain
        assert list(staged.items()) == list(plain.items())
        assert dict(staged.copy()) == plain
        batch = staged.as_batch()
        if batch is not None:
            assert dict(batch) == plain
            assert len(batch) == len(plain)

    def row(self, key: int, number: int) -> Row:
        return Row(b"\1" + bytes([key, number]) * 16, Place(bytes([number]) * 16, key, 1, 2, 3), None, None)

    def test_a_hundred_rows_one_by_one_leave_no_batches(self):
        staged = StagedRows()
        for key in range(100):
            staged.take(RowBatch.of([(key, self.row(key, 0))]))
        assert staged._batches == []


def test_a_place_is_that_of_the_last_time_and_goes_with_its_pack():
    table, digests = PlaceTable(), [bytes([i]) * 32 for i in range(5)]
    for pack in (b"a" * 16, b"b" * 16):
        table.extend(digests[:3], pack, np.arange(12).reshape(4, 3))
    table.update([(digests[4], Place(b"c" * 16, 9, 8, 7, 6))])
    assert [*table.of([digests[4], digests[1]]).all()] == [
        Place(b"c" * 16, 9, 8, 7, 6), Place(b"b" * 16, 1, 4, 7, 10)
    ]  # fmt: skip
    assert table.missing(dict.fromkeys(digests)) == {digests[3]: None}
    table.forget_pack(b"b" * 16)
    table.forget_pack(b"never" * 3 + b"!")
    assert set(table.missing(dict.fromkeys(digests))) == set(digests[:4])


class TestCounting:
    @settings(max_examples=60, deadline=None, database=None)
    @given(st.data())
    def test_a_column_counts_what_a_dict_does(self, tmp_path_factory, data):
        schema = ColumnSchema("bytes", data.draw(st.sampled_from(["flat", "nested"])))
        column = WorkingColumn("c", ColumnEntry(schema, None, "i0"), NodeReader(ObjectSource(Any)), WriteGuard())
        plain: dict[RowKey, bytes] = {}
        keys = st.sampled_from([0, "0", 1, "a"])
        pairs = st.tuples(keys, keys) if schema.column_layout == "nested" else keys
        for _ in range(data.draw(st.integers(0, 30))):
            what, key = data.draw(st.sampled_from(["put", "delete", "settle", "count"])), data.draw(pairs)
            if what == "put":
                column.put(key, schema.encode(b"x", ""))
                plain[key] = b"x"
            elif what == "delete":
                column.put(key, None)
                plain.pop(key, None)
            elif what == "settle":
                column.settle_deleted(column.deletions())
                written = [(key, Row(b"\0x", None, b"x", None)) for key in column.pending]
                column.settle(RowBatch.of(written))
            else:
                self.agree(column, plain)
        self.agree(column, plain)

    def agree(self, column: WorkingColumn, plain: dict[Any, bytes]) -> None:
        assert len(column) == len(plain)
        assert [key for key, _ in column.iterate()] == sorted(plain, key=encode_key)
        if column.entry.schema.column_layout == "nested":
            assert list(column.samples()) == sorted({key[0] for key in plain}, key=encode_key)
            for sample in (0, "0", 1, "a"):
                assert column.count_below(sample) == sum(key[0] == sample for key in plain)

    def test_over_a_base_with_numbers_and_text(self, bench):
        bench.add("labels")
        bench.put("labels", {key: np.array(1) for key in [3, 5, "3", "b"]})
        bench.commit()
        column = bench.working.columns["labels"]
        assert column.greatest_number() == 5
        bench.put("labels", {5: np.array(2), 6: np.array(2), "6": np.array(2), 3: None, "nowhere": None}, flush=False)
        assert len(column) == 5
        assert column.greatest_number() == 6
        bench.working.flush()
        bench.put("labels", {3: np.array(2), 6: None})
        assert len(column) == len(bench.contents("labels")) == 5
        assert column.greatest_number() == 6


def test_small_samples_share_blocks_whatever_large_ones_lie_between_them(bench):
    bench.add("blobs", backend="p0")
    values = {i: image(i, 10_000 if i % 2 else 200).tobytes() for i in range(40)}
    bench.put("blobs", values)
    places = [bench.row("blobs", key).place for key in range(0, 40, 2)]
    assert len({place.offset for place in places if place is not None}) == 1
    bench.commit()
    assert committed(bench.folder, "blobs") == plains(values)


def test_rows_of_every_kind_are_staged_and_found_again(bench, tmp_path):
    bench.add("text")
    bench.add("varied")
    bench.put(
        "text", {key: "x" * key for key in [*range(0, 300, 7), 33, 129]} | {str(key): "y" * 40 for key in range(9)}
    )
    varied = {key: value(SCHEMAS["arrays of many shapes"], key) for key in range(20)}
    bench.put("varied", varied)
    before = bench.contents("text")
    bench.close()
    again = Bench(tmp_path)
    assert again.contents("text") == before
    assert again.contents("varied") == plains(varied)
    again.put("text", {33: "one more", 34: "z" * 500} | {1000 + key: str(key) for key in range(100)})
    before = again.contents("text")
    again.commit()
    assert committed(tmp_path, "text") == before
    assert committed(tmp_path, "varied") == plains(varied)
    again.close()
