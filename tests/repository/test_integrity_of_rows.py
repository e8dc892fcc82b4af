"""Integrity of rows: records with right checksums that their schema does not allow, or that lead nowhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.values import sample_digest
from hangar_cloud.catalog.commits import METADATA
from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.records import Row, leaf_digest
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from tests.repository.forging import damage, inline, kinds, messages, text_rows
from tests.repository.making import add_commit

TEXT = ColumnSchema("str")
IMAGE = np.arange(400, dtype=np.uint8)


def packed_row(schema, value, place):
    payload = schema.encode(value, "x")
    return Row(b"\1" + sample_digest(payload.prefix, payload.data), place, None, payload.shape)


def committed_row(repository, value):
    """Commit a sample that is packed; its schema and row."""
    digest = add_commit(repository, {0: value}, column="real")
    entry = repository._storage.commit(digest).columns["real"]
    row = repository._storage.nodes.find(entry.root, entry.schema, 0)
    assert row is not None
    assert row.place is not None
    return entry.schema, row


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"offset": 9}, "place"),
        ({"stored": 30}, "place"),
        ({"offset": 2**40}, "place"),
        ({"stored": 2**62}, "place"),
        ({"start": 1}, "place"),
        ({"start": 2**62}, "place"),
        ({"size": 399}, "value"),
        ({"size": 16}, "value"),
        ({"pack": b"y" * 16}, "missing"),
    ],
)
def test_a_place_where_no_sample_is(empty, forger, change, kind):
    schema, row = committed_row(empty, IMAGE)
    wrong = row._replace(place=row.place._replace(**change))
    forger.commit(schema, forger.leaf([(encode_key(0), row), (encode_key(1), wrong)], schema))
    found = damage(empty)
    assert (kind, "forged", 1) in {(finding.kind, finding.column, finding.key) for finding in found}
    assert not any(finding.key == 0 for finding in found)
    if kind == "place" and "start" not in change:
        assert kinds(empty, level="records") == {"place"}


def test_the_place_of_another_sample(empty, forger):
    schema, row = committed_row(empty, IMAGE)
    wrong = packed_row(schema, IMAGE[::-1].copy(), row.place)
    forger.commit(schema, forger.leaf([(encode_key(0), row), (encode_key(1), wrong)], schema))
    assert {(finding.kind, finding.key) for finding in damage(empty)} <= {("digest", 1), ("damaged", 1)}
    assert damage(empty)
    assert damage(empty, level="records") == []


def test_a_short_value_in_a_pack(empty, forger):
    schema, row = committed_row(empty, IMAGE)
    small = array_schema((4,), np.uint8, None, False, False, "x")
    wrong = packed_row(small, IMAGE[:4].copy(), row.place._replace(size=4))
    forger.commit(small, forger.leaf([(encode_key(0), wrong)], small))
    assert "must stand in its record" in messages(empty)
    assert schema.shape == (400,)


def test_a_shape_beyond_the_maximum(empty, forger):
    wide = array_schema((9,), np.uint8, None, True, False, "x")
    narrow = array_schema((4,), np.uint8, None, True, False, "x")
    forger.commit(narrow, forger.leaf([(encode_key(0), inline(wide, IMAGE[:7].copy()))], wide))
    assert [(f.kind, f.key) for f in damage(empty)] == [("value", 0)]


@pytest.mark.parametrize("value", [b"123", b"12345"])
def test_a_payload_of_another_length(empty, forger, value):
    schema = array_schema((4,), np.uint8, None, False, False, "x")
    row = Row(b"\0" + value, None, value, None)
    forger.commit(schema, forger.leaf([(encode_key(0), row)], schema))
    assert f"has {len(value)} bytes, not 4" in messages(empty)


def test_a_text_that_is_none(empty, forger):
    forger.commit(TEXT, forger.leaf([(encode_key(0), Row(b"\0\xff\xfe", None, b"\xff\xfe", None))], TEXT))
    assert "not UTF-8" in messages(empty)


@pytest.mark.parametrize("key", ["a b", "../x", "/x", "x" * 1025])
def test_a_key_that_none_may_be(empty, forger, key):
    forger.commit(TEXT, forger.leaf([(encode_key(key), inline(TEXT, "x"))], TEXT))
    assert [(f.kind, f.key) for f in damage(empty)] == [("value", key)]


def test_a_row_with_neither_value_nor_place(empty, forger):
    schema = ColumnSchema("bytes")
    rows = [(encode_key(0), inline(schema, b"x")), (encode_key(1), Row(b"\0", None, None, None))]
    forger.commit(schema, forger.leaf(rows, schema))
    assert kinds(empty) == {"damaged"}


def test_a_staged_place_in_a_commit(empty, forger):
    place = Place(b"staging\0" + bytes(8), 8, 100, 0, 50)
    schema = ColumnSchema("bytes")
    forger.commit(schema, forger.leaf([(encode_key(0), packed_row(schema, bytes(50), place))], schema))
    assert "missing" in kinds(empty)


NESTED = array_schema((4,), np.uint8, None, False, True, "x")
FLAT = array_schema((4,), np.uint8, None, False, False, "x")
FOUR = np.arange(4, dtype=np.uint8)
PAIRS = [(0, 0), (0, "x"), (1, 0), ("a", 5), ("a", "b")]


def pairs(keys):
    return [(encode_key(key), inline(NESTED, FOUR)) for key in keys]


def test_a_nested_column_made_by_hand_as_it_should_be_is_sound(empty, forger):
    forger.commit(NESTED, forger.leaf(pairs(PAIRS), NESTED))
    assert empty.fsck() == []


@pytest.mark.parametrize(("order", "key"), [((0, 2, 1, 3, 4), (0, "x")), ((0, 1, 1), (0, "x")), ((3, 0), (0, 0))])
def test_subsamples_out_of_order_or_twice(empty, forger, order, key):
    forger.commit(NESTED, forger.leaf(pairs([PAIRS[i] for i in order]), NESTED))
    (finding,) = damage(empty)
    assert (finding.kind, finding.column, finding.key) == ("tree", "forged", key)


def test_a_subsample_with_a_key_that_none_may_have(empty, forger):
    forger.commit(NESTED, forger.leaf(pairs([(0, 0), (0, "a b")]), NESTED))
    assert [(f.kind, f.key) for f in damage(empty)] == [("value", (0, "a b"))]


def test_a_packed_subsample_whose_bytes_are_others(empty, forger):
    schema, row = committed_row(empty, IMAGE)
    nested = dataclasses.replace(schema, column_layout="nested")
    wrong = packed_row(nested, IMAGE[::-1].copy(), row.place)
    forger.commit(nested, forger.leaf([(encode_key((0, 1)), row), (encode_key((0, 2)), wrong)], nested))
    assert {finding.key for finding in damage(empty)} == {(0, 2)}


def test_the_metadata_with_a_value_that_is_another(empty, forger):
    rows = text_rows(["licence", "origin"])
    leaf = forger.leaf(rows, TEXT)._replace(digest=leaf_digest([rows[0], (rows[1][0], inline(TEXT, "another"))]))
    forger.commit(TEXT, leaf, METADATA)
    (finding,) = damage(empty)
    assert (finding.kind, finding.column) == ("digest", "")
    assert "| metadata |" in str(finding)


def test_a_long_inline_value_whose_digest_is_anothers(empty, forger):
    schema = ColumnSchema("bytes")
    rows = [(encode_key(0), inline(schema, bytes(100)))]
    forged = forger.leaf(rows, schema)._replace(digest=leaf_digest([(encode_key(0), inline(schema, b"1" * 100))]))
    forger.commit(schema, forged)
    assert [(f.kind, f.column) for f in damage(empty, level="records")] == [("digest", "forged")]


@pytest.mark.parametrize(
    ("schema", "added", "message"),
    [
        (FLAT, {"sub_int": pa.array([None, 3], pa.int64())}, "flat column has subsample keys"),
        (FLAT, {"sub_str": pa.array(["a", None], pa.string())}, "flat column has subsample keys"),
        (FLAT, {"key_str": pa.array([None, "a"], pa.string())}, "both key_int and key_str"),
        (NESTED, {"sub_str": pa.array([None, "a"], pa.string())}, "both sub_int and sub_str"),
        (NESTED, {"sub_int": pa.array([0, None], pa.int64())}, "without a key"),
        (NESTED, {"sub_int": None}, "without a key"),
        (FLAT, {"key_int": None}, "without a key"),
        (FLAT, {"key_int": pa.array([0, -1], pa.int64())}, "negative"),
        (FLAT, {"key_int": pa.array(["0", "1"], pa.string())}, "key_int is"),
        (TEXT, {"value_bytes": pa.array([b"x", b"y"], pa.binary())}, "both of the columns value and value_bytes"),
        (FLAT, {"digest": pa.array([bytes(32)] * 2, pa.binary(32))}, "both value_bytes and digest"),
        (FLAT, {"value_bytes": None}, "neither a value nor a place"),
    ],
)
def test_a_leaf_whose_columns_exclude_each_other_or_are_not_there(empty, forger, schema, added, message):
    keys = [(0, 0), (0, 1)] if schema is NESTED else [0, 1]
    rows = [(encode_key(key), inline(schema, "text" if schema is TEXT else FOUR)) for key in keys]
    forger.commit(schema, forger.edited_leaf(rows, schema, added))
    (finding,) = damage(empty)
    assert (finding.kind, finding.column) == ("damaged", "forged")
    assert message in finding.message
