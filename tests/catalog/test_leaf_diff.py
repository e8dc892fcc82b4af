"""Comparing leaves column by column finds what comparing their rows one by one finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.catalog.leaf_diff import differing_rows
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import decode_leaf, encode_leaf
from tests.catalog.test_segments import entries_of, inline, packed, schema_of

NAN = np.array(np.nan)
OTHER_NAN = np.frombuffer(bytes([1]) + NAN.tobytes()[1:], np.float64).reshape(())

VALUES: dict[str, tuple[ColumnSchema, list[Any]]] = {
    "numbers": (schema_of("<f8"), [np.array(0.0), np.array(-0.0), NAN, OTHER_NAN, np.array(1.5)]),
    "flags": (schema_of("?"), [np.array(False), np.array(True)]),
    "big-endian": (schema_of(">i4"), [np.array(n, ">i4") for n in range(4)]),
    "arrays": (schema_of("u1", (50,)), [np.full(50, n, np.uint8) for n in range(4)]),
    "shapes": (
        schema_of("u1", (60, 60), variable=True),
        [np.zeros(shape, np.uint8) for shape in ((1, 4), (4, 1), (2, 2), (5, 10), (10, 5))],
    ),
    "texts": (ColumnSchema("str"), ["", "a", "b", "\ud800", "long" * 20, "long" * 21]),
    "bytes": (ColumnSchema("bytes"), [b"", b"\0", b"a", b"x" * 100, b"y" * 100]),
}


def row_by_row(old: dict[Any, Row], new: dict[Any, Row]) -> tuple[set[Any], set[Any], set[Any]]:
    changed = {key for key in old.keys() & new.keys() if old[key].identity != new[key].identity}
    return old.keys() - new.keys(), new.keys() - old.keys(), changed


@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_as_row_by_row(kind, data):
    schema, values = VALUES[kind]

    def rows(keys: list[Any]) -> dict[Any, Row]:
        found = {}
        for key in keys:
            value = data.draw(st.sampled_from(values))
            row = inline(schema, value)
            # What is a literal is always in the leaf; anything else may be in either place.
            found[key] = row if row.identity[:1] == b"\0" or data.draw(st.booleans()) else packed(schema, value)
        return found

    keys = st.lists(st.sampled_from([*range(6), "0", "a", "b/c"]), min_size=1, unique=True)
    old = rows(data.draw(keys))
    new = {**old, **rows(data.draw(keys))} if data.draw(st.booleans()) else rows(data.draw(keys))
    before, after = (decode_leaf(encode_leaf(entries_of(r), schema), schema, len(r)) for r in (old, new))
    removed, added, changed = differing_rows(before, after)
    assert all(before.keys[i] == after.keys[j] for i, j in changed)
    found = ({before.keys[i] for i in removed}, {after.keys[i] for i in added}, {before.keys[i] for i, _ in changed})
    assert found == row_by_row(old, new)
