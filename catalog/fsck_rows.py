"""What the rows of a leaf and the children of an inner node must be like (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Any, Final

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.values import LITERAL_LIMIT, decode_text
from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.keys import RowKey, check_key, decode_key
from hangar_cloud.catalog.parquet_footer import read_footer
from hangar_cloud.catalog.records import LeafEntry, NodeRef, Row, lacks_literal, starts_node
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.segments import Leaf, decode_leaf

_FOOTER_ROWS: Final = 3
_SUB_KEYS: Final = ("sub_int", "sub_str")
_EXCLUSIVE: Final = (
    ("key_int", "key_str"),
    ("sub_int", "sub_str"),
    ("value", "digest"),
    ("value_bytes", "digest"),
)


def decode_rows(data: bytes, schema: ColumnSchema) -> Leaf:
    """The leaf in a segment, however many rows it has.

    Raises:
        CorruptDataError: it is not a leaf, or one of its rows or keys cannot be read.
    """
    import pyarrow as pa

    try:
        rows = read_footer(data)[_FOOTER_ROWS][1]
        leaf = decode_leaf(data, schema, rows)
        if not leaf.entries():
            raise CorruptDataError("a leaf has no rows")
        _check_columns(leaf, schema)
    except (pa.ArrowException, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise CorruptDataError(str(error) or repr(error)) from error
    return leaf


def _check_columns(leaf: Leaf, schema: ColumnSchema) -> None:
    """Refuse what decoding passes over, because one of two columns that exclude each other wins."""
    import pyarrow.compute as pc

    table = leaf._table
    filled = {name: pc.is_valid(table.column(name)) for name in table.column_names}
    if schema.column_layout == "flat" and any(pc.any(filled[name]).as_py() for name in _SUB_KEYS if name in filled):
        raise CorruptDataError("a leaf of a flat column has subsample keys")
    if {"value", "value_bytes"} <= filled.keys():
        raise CorruptDataError("a leaf has both of the columns value and value_bytes")
    for one, other in _EXCLUSIVE:
        if one in filled and other in filled and pc.any(pc.and_(filled[one], filled[other])).as_py():
            raise CorruptDataError(f"a row has both {one} and {other}")


def children_faults(ref: NodeRef, children: Sequence[NodeRef], is_root: bool) -> Iterator[str]:
    """What is wrong with the order, counts and cuts of an inner node's children."""
    if children[0].first != ref.first:
        yield "an inner node's first key is not that of its first child"
    if is_root and len(children) == 1:
        yield "a root has one child, which should be the root"
    total = sum(child.count for child in children)
    if total != ref.count or any(child.count < 1 for child in children):
        yield f"the children of an inner node have {total} rows, where {ref.count} are declared"
    for before, child in pairwise(children):
        if before.first >= child.first:
            yield f"the children of an inner node are out of order: {_shown(before.first)}, then {_shown(child.first)}"
    for child in children[1:]:
        if not starts_node(child.first, child.level):
            yield f"a node of level {child.level} begins at key {_shown(child.first)}, where none may begin"
        if starts_node(child.first, ref.level):
            yield f"a node of level {ref.level} goes on past key {_shown(child.first)}, where another must begin"


def leaf_faults(
    ref: NodeRef, keys: Sequence[RowKey], rows: Sequence[LeafEntry], schema: ColumnSchema
) -> Iterator[tuple[str, str, Any]]:
    """Kind, message and key of what is wrong with a leaf's rows."""
    if len(rows) != ref.count:
        yield "tree", f"a leaf has {len(rows)} rows, where {ref.count} are declared", None
    if rows[0][0] != ref.first:
        yield "tree", f"a leaf begins at key {keys[0]!r}, where {_shown(ref.first)} is declared", keys[0]
    before = b""
    for number, (key, (encoded, row)) in enumerate(zip(keys, rows, strict=True)):
        if encoded <= before:
            yield "tree", f"a leaf's keys are out of order at {key!r}", key
        if number > 0 and starts_node(encoded, 0):
            yield "tree", f"a leaf goes on past key {key!r}, where another must begin", key
        before = encoded
        fault = _key_fault(key, schema) or row_fault(row, schema)
        if fault:
            yield "value", fault, key


def row_fault(row: Row, schema: ColumnSchema) -> str | None:
    """What is wrong with one row, None if nothing is."""
    if row.shape is not None and any(n > most for n, most in zip(row.shape, schema.shape or (), strict=True)):
        return f"a sample has the shape {row.shape}, the column's maximum is {schema.shape}"
    size = len(row.value) if row.value is not None else row.place.size if row.place is not None else 0
    if schema.column_type == "ndarray":
        shape = schema.shape or () if row.shape is None else row.shape
        wanted = prod(shape) * schema.item_size
        if size != wanted:
            return f"a sample of dtype {schema.dtype} and shape {shape} has {size} bytes, not {wanted}"
    if row.place is not None and size + 8 * len(row.shape or ()) <= LITERAL_LIMIT and not lacks_literal(row):
        return f"a sample of {size} bytes is in a pack; it must stand in its record"
    if row.value is not None and schema.column_type == "str":
        try:
            decode_text(row.value)
        except UnicodeDecodeError as error:
            return f"a text is not UTF-8: {error}"
    return None


def _key_fault(key: RowKey, schema: ColumnSchema) -> str | None:
    try:
        for part in key if isinstance(key, tuple) else (key,):
            check_key(part)
    except InvalidNameError as error:
        return str(error)
    return None


def _shown(encoded: bytes) -> str:
    try:
        return repr(decode_key(encoded))
    except CorruptDataError:
        return repr(encoded)
