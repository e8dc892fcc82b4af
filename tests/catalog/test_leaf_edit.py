"""Changing a leaf whole columns at a time gives what changing its rows one by one gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.leaf_digests import digest_of_leaf
from hangar_cloud.catalog.leaf_edit import edited_leaf, keeps_bounds
from hangar_cloud.catalog.records import Row, leaf_digest, starts_node
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segment_file import write_segment
from hangar_cloud.catalog.segments import decode_leaf, encode_leaf
from tests.catalog.test_leaf_diff import VALUES
from tests.catalog.test_segments import entries_of, inline, packed, schema_of

NUMBERS = schema_of("<i8")
KEYS: dict[str, list[Any]] = {
    "numbers": [0, 1, 7, 255, 256, 2**31, 2**63 - 1],
    "texts": ["0", "a", "a/b", "b", "bb", "x" * 300],
    "both": [0, 7, 2**40, "0", "7", "a"],
}
NESTED: dict[str, list[Any]] = {
    "numbers": [(a, b) for a in (0, 1, 2**40) for b in (0, 5)],
    "texts": [(a, b) for a in ("0", "p7") for b in ("0", "x", "y")],
    "both": [(0, 0), (0, "0"), ("0", 0), ("0", "0"), (7, 7)],
}


def leaf_of(schema: ColumnSchema, rows: dict[Any, Row]) -> Any:
    return decode_leaf(encode_leaf(entries_of(rows), schema), schema, len(rows))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_as_row_by_row(kind, keys, nested, data):
    schema, values = VALUES[kind]
    if nested:
        schema = ColumnSchema(schema.column_type, "nested", schema.schema_type, schema.dtype, schema.shape)
    uniform = data.draw(st.booleans())

    def row() -> Row:
        value = data.draw(st.sampled_from(values))
        there = inline(schema, value)
        return there if there.identity[:1] == b"\0" or uniform or data.draw(st.booleans()) else packed(schema, value)

    all_keys = (NESTED if nested else KEYS)[keys]
    before = {key: row() for key in data.draw(st.lists(st.sampled_from(all_keys), min_size=1, unique=True))}
    changed = data.draw(st.lists(st.sampled_from(all_keys), max_size=5, unique=True))
    edits = {key: row() if data.draw(st.booleans()) else None for key in changed}
    leaf = leaf_of(schema, before)
    ordered = [(encode_key(key), edits[key]) for key in sorted(edits, key=encode_key)]
    after = {key: new for key, new in {**before, **edits}.items() if new is not None}
    made = edited_leaf(leaf, schema, ordered)
    assert leaf.entries() == entries_of(before), "it is left as it was"
    assert digest_of_leaf(leaf) == leaf_digest(entries_of(before))
    if not all(keeps_bounds(key, new, leaf.first) for key, new in ordered):
        assert made is None
    elif made is not None:
        assert made.entries() == entries_of(after)
        assert digest_of_leaf(made) == leaf_digest(entries_of(after))
        stored = decode_leaf(write_segment(made.table), schema, len(after))
        assert stored.entries() == entries_of(after)
        assert write_segment(made.table) == encode_leaf(entries_of(after), schema), "and no byte of it is another"


def test_what_is_alike_is_changed_at_once_and_nothing_else():
    rows = {key: inline(NUMBERS, np.array(key)) for key in range(1, 2000) if not starts_node(encode_key(key), 0)}
    first, second = list(rows)[:2]
    leaf = leaf_of(NUMBERS, rows)
    new = inline(NUMBERS, np.array(-1))

    def tried(key: Any, row: Row | None) -> bool:
        return edited_leaf(leaf, NUMBERS, [(encode_key(key), row)]) is not None

    assert tried(second, new)
    assert tried(second, None)
    assert tried(first, new)
    assert tried(10**9, None), "which is not there"
    assert not tried(first, None)
    assert not tried(first - 1, new)
    assert not tried("text", new)
    cut = next(key for key in range(2000, 10**6) if starts_node(encode_key(key), 0))
    assert not tried(cut, new)
    assert tried(cut + 1, new) != starts_node(encode_key(cut + 1), 0)


def test_the_values_of_a_leaf_are_text_again_once_the_last_that_is_none_is_gone():
    schema = ColumnSchema("str")
    texts = {0: "", 1: "a", 7: "\ud800"}
    rows = {key: inline(schema, text) for key, text in texts.items()}
    leaf = leaf_of(schema, rows)
    for edit in (None, rows[0]):
        after = {key: row for key, row in {**rows, 7: edit}.items() if row is not None}
        made = edited_leaf(leaf, schema, [(encode_key(7), edit)])
        stored = encode_leaf(entries_of(after), schema)
        assert stored == (stored if made is None else write_segment(made.table))
        assert decode_leaf(stored, schema, len(after)).table.schema.names == ["key_int", "value"]


@pytest.mark.parametrize("place", ["first", "last", "middle", "all"])
def test_runs_of_new_rows_come_where_they_belong(place):
    old = {key: inline(NUMBERS, np.array(key)) for key in range(1000, 3000, 3)}
    added = {
        "first": range(1001, 1003),
        "last": range(5000, 5050),
        "middle": range(1500, 1520),
        "all": range(1001, 3100),
    }[place]
    new = {key: inline(NUMBERS, np.array(-key)) for key in added if not starts_node(encode_key(key), 0)}
    gone = {key: None for key in range(1300, 1600) if key % 2}
    edits = sorted((encode_key(key), row) for key, row in {**gone, **new}.items() if key != 1000)
    made = edited_leaf(leaf_of(NUMBERS, old), NUMBERS, edits)
    assert made is not None
    after = {**old, **gone, **new}
    assert made.entries() == entries_of({key: row for key, row in after.items() if row is not None})
