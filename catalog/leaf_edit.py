"""Changing rows of a leaf whole columns at a time, as it is stored, without a record made of each row (no I/O)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.keys import decode_key
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.records import Row, starts_node
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import leaf_table


def edited_leaf(leaf: Leaf, schema: ColumnSchema, edits: Sequence[tuple[bytes, Row | None]]) -> Leaf | None:
    """The leaf after some changes, if it stays one leaf that begins at the same key, and its rows are all alike.

    Args:
        leaf: to change; it is left as it is.
        schema: of its column.
        edits: encoded keys in ascending order, with the new row or None to delete.

    Returns:
        None where its rows have to be taken one by one.
    """
    first, table = leaf.first, leaf.table
    if any(not keeps_bounds(key, row, first) for key, row in edits):
        return None
    if any(table.column(name).null_count for name in table.column_names):
        return None
    # A text or flag that Parquet's own type cannot hold has all values of its leaf stored as bytes, until it is gone.
    if "value_bytes" in table.column_names and (schema.column_type == "str" or schema.dtype == "|b1"):
        return None
    new = [(key, row) for key, row in edits if row is not None]
    if new:
        import pyarrow as pa

        added = leaf_table(new, schema)
        if set(added.column_names) != set(table.column_names):
            return None
        added = added.select(table.column_names)
        if added.schema.types != table.schema.types or any(column.null_count for column in added.columns):
            return None
        table = pa.concat_tables([table, added.cast(table.schema)]).combine_chunks()
    return Leaf(table.take(_order(leaf, edits)), schema)


def keeps_bounds(key: bytes, row: Row | None, first: bytes) -> bool:
    """Whether a change leaves a leaf one leaf, that begins at `first` as it did."""
    if row is None:
        return key != first
    # A key that starts a leaf, and is not this one's first, is new: it cuts the leaf in two.
    return key == first or (key > first and not starts_node(key, 0))


def _order(leaf: Leaf, edits: Sequence[tuple[bytes, Row | None]]) -> npt.NDArray[np.intp]:
    """Which rows make the new leaf: numbers of the old rows, and behind them those of the edits' rows."""
    order = np.arange(len(leaf))
    dropped: list[int] = []
    inserted: list[tuple[int, int]] = []
    number = len(leaf)
    for key, row in edits:
        position, present = _find(leaf, key)
        if row is None:
            dropped += [position] if present else []
            continue
        if present:
            order[position] = number
        else:
            inserted.append((position, number))
        number += 1
    if inserted:
        # Rows that are dropped are so by number, and keep theirs.
        places, numbers = zip(*inserted, strict=True)
        kept = np.insert(order, places, numbers)
    else:
        kept = order
    return kept if not dropped else kept[~np.isin(kept, dropped)]


def _find(leaf: Leaf, key: bytes) -> tuple[int, bool]:
    """Where a key is, or would be, and which of the two."""
    if leaf.is_ascending and leaf.key_numbers is not None and key[0] == 1:
        numbers, number = leaf.key_numbers[0], decode_key(key)
        position = int(numbers.searchsorted(number))
        return position, position < len(numbers) and bool(numbers[position] == number)
    keys = leaf.encoded_keys
    position = bisect_left(keys, key)
    return position, position < len(keys) and keys[position] == key
