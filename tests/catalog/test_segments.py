"""Leaves and inner nodes as Parquet: bit-exact, queryable, and damaged in every byte."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.values import sample_digest, sample_identity
from hangar_cloud.catalog.keys import encode_key, sort_keys
from hangar_cloud.catalog.node_reader import node_extent
from hangar_cloud.catalog.parquet_footer import combine_segments, read_footer
from hangar_cloud.catalog.records import LeafEntry, NodeRef, Row, SegmentPlace, inner_digest, leaf_digest
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from hangar_cloud.catalog.segments import decode_inner, decode_leaf, encode_inner, encode_leaf

PACK = bytes(range(16))


def schema_of(dtype: Any, shape: Any = (), *, variable: bool = False) -> ColumnSchema:
    return array_schema(shape, dtype, None, variable, False, "column")


def inline(schema: ColumnSchema, value: Any) -> Row:
    payload = schema.encode(value, "x")
    return Row(sample_identity(payload.prefix, payload.data, payload.shape), None, payload.data, payload.shape)


def packed(schema: ColumnSchema, value: Any, start: int = 0) -> Row:
    payload = schema.encode(value, "x")
    place = Place(PACK, 8 + start, 100 + start, start, len(payload.data))
    return Row(b"\1" + sample_digest(payload.prefix, payload.data), place, None, payload.shape)


def entries_of(rows: dict[Any, Row]) -> list[LeafEntry]:
    return [(encode_key(key), rows[key]) for key in sort_keys(rows)]


def round_trip(schema: ColumnSchema, rows: dict[Any, Row]) -> None:
    entries = entries_of(rows)
    leaf = decode_leaf(encode_leaf(entries, schema), schema, len(entries))
    assert leaf.keys == sort_keys(rows)
    assert [type(key) for key in leaf.keys] == [type(key) for key in sort_keys(rows)]
    assert leaf.entries() == entries
    assert leaf_digest(leaf.entries()) == leaf_digest(entries)
    for key, row in rows.items():
        assert leaf.find(key) == row
    assert leaf.find("absent") is None
    assert leaf.nbytes > 0


def bits(dtype: np.dtype, count: int) -> np.ndarray:
    """Every kind of bit pattern: random bytes, all zeros, all ones, NaN payloads, both zeros."""
    raw = [np.random.default_rng(5).bytes(dtype.itemsize) for _ in range(count)]
    raw += [bytes(dtype.itemsize), b"\xff" * dtype.itemsize, b"\x80" + bytes(dtype.itemsize - 1)]
    raw += [bytes(dtype.itemsize - 1) + b"\x80"]
    return np.frombuffer(b"".join(raw), dtype)


KINDS = ["?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "g", "F", "D", "G"]
DTYPES = sorted({np.dtype(kind).newbyteorder(order).str for kind in KINDS for order in "<>"})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3,)])
def test_every_dtype_keeps_every_bit_inline(dtype, shape):
    schema = schema_of(dtype, shape)
    values = bits(np.dtype(dtype), 30)
    rows = {i: inline(schema, np.full(shape, value, dtype)) for i, value in enumerate(values)}
    for i, value in enumerate(values):  # np.full may quieten a signalling NaN, the bytes may not
        data = value.tobytes() * int(np.prod(shape, dtype=int))
        rows[i] = Row(sample_identity(schema.prefix(None), data, None), None, data, None)
    round_trip(schema, rows)
    leaf = decode_leaf(encode_leaf(entries_of(rows), schema), schema, len(rows))
    for i, value in enumerate(values):
        decoded = schema.decode(leaf.row(i).value or b"", None)
        assert isinstance(decoded, np.ndarray)
        assert decoded.dtype.str == dtype
        assert decoded.shape == shape
        assert decoded.tobytes() == value.tobytes() * decoded.size


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f4"])
def test_both_zeros_and_all_nans_stay_apart(dtype):
    schema = schema_of(dtype)
    size = np.dtype(dtype).itemsize
    patterns = [bytes(size), b"\x80" + bytes(size - 1), bytes(size - 1) + b"\x80"]
    nan = np.array(np.nan, dtype).tobytes()
    patterns += [nan, bytes([nan[0] ^ 1]) + nan[1:], nan[:-1] + bytes([nan[-1] ^ (0x80 if dtype[0] == "<" else 1)])]
    patterns *= 200  # often enough that a dictionary would pay
    rows = {i: Row(sample_identity(schema.prefix(None), p, None), None, p, None) for i, p in enumerate(patterns)}
    round_trip(schema, rows)


def test_a_bool_whose_byte_is_two_keeps_it():
    schema = schema_of("?")
    values = np.frombuffer(bytes([0, 1, 2, 255]), np.bool_)
    round_trip(schema, {i: inline(schema, values[i : i + 1].reshape(())) for i in range(4)})
    assert inline(schema, values[2:3].reshape(())).value == b"\2"


def test_the_largest_numbers_are_exact():
    for dtype in ("<u8", "<i8", "<u4", "<i1"):
        info = np.iinfo(dtype)
        schema = schema_of(dtype)
        round_trip(
            schema, {i: inline(schema, np.array(v, dtype)) for i, v in enumerate((info.min, info.max, info.max - 1))}
        )


TEXTS = ["", "\0", "a\0b", "\ud800", "\udfff\ud800", "😀", "zwölf", "\x7f", "x" * 5000, "\ufeff", "\uffff"]


@pytest.mark.parametrize("texts", [TEXTS, [t for t in TEXTS if t.isprintable() or "\0" in t], [""], ["\ud800"]])
def test_every_text_comes_back(texts):
    schema = ColumnSchema("str")
    round_trip(schema, {i: inline(schema, text) for i, text in enumerate(texts)})


@given(
    st.dictionaries(
        st.integers(0, 2**63 - 1) | st.text("aZ09._-", min_size=1, max_size=20),
        st.text(st.characters(exclude_categories=()), max_size=40),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=60)
def test_any_texts_under_any_keys_come_back(values):
    schema = ColumnSchema("str")
    round_trip(schema, {key: inline(schema, text) for key, text in values.items()})


@given(st.dictionaries(st.integers(0, 50), st.tuples(st.binary(max_size=50), st.booleans()), min_size=1, max_size=20))
@settings(max_examples=60)
def test_any_bytes_inline_and_packed_in_one_leaf_come_back(values):
    schema = ColumnSchema("bytes")
    rows = {
        key: packed(schema, data) if elsewhere and len(data) > 32 else inline(schema, data)
        for key, (data, elsewhere) in values.items()
    }
    round_trip(schema, rows)


def test_typed_values_and_packed_rows_share_a_leaf():
    for dtype in ("<i8", "<f4", "?", "|u1"):
        schema = schema_of(dtype)
        rows = {i: inline(schema, np.array(i % 2, dtype)) for i in range(0, 20, 2)}
        rows |= {i: packed(schema, np.array(0, dtype), i) for i in range(1, 20, 2)}
        round_trip(schema, rows)
    text = ColumnSchema("str")
    round_trip(text, {0: inline(text, "short"), "0": packed(text, "long" * 100), "a/b.c": inline(text, "")})


def test_zero_and_the_text_zero_are_two_keys():
    schema = schema_of("<i4")
    rows: dict[Any, Row] = {
        key: inline(schema, np.array(i, "<i4")) for i, key in enumerate([0, "0", 15, "15", "z", 2**63 - 1])
    }
    round_trip(schema, rows)
    round_trip(schema, {k: v for k, v in rows.items() if isinstance(k, str)})
    round_trip(schema, {k: v for k, v in rows.items() if isinstance(k, int)})


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5, 31])
def test_variable_shapes_of_any_rank_come_back(rank):
    schema = schema_of("<i2", (4,) * rank if rank < 6 else (1,) * 30 + (9,), variable=True)
    random = np.random.default_rng(rank)
    rows = {}
    for i in range(12):
        shape = tuple(int(random.integers(1, most + 1)) for most in schema.shape or ())
        value = np.zeros(shape, "<i2")
        rows[i] = packed(schema, value) if i % 3 == 0 and rank < 31 else inline(schema, value)
    round_trip(schema, rows)


def some_children(level: int = 1) -> tuple[NodeRef, list[NodeRef]]:
    children = [
        NodeRef(
            level - 1,
            encode_key(i),
            i + 1,
            bytes([i]) * 32,
            SegmentPlace(bytes([i]) * 16 if i % 2 else b"", i, i + 9, 2**64 - 1 - i),
        )
        for i in range(20)
    ]
    data = encode_inner(children)
    place = SegmentPlace(bytes(16), 0, len(data), xxhash.xxh3_64_intdigest(data))
    return NodeRef(level, children[0].first, 210, inner_digest(level, children), place), children


def test_inner_nodes_come_back_and_name_their_own_object():
    ref, children = some_children()
    decoded = decode_inner(encode_inner(children), 1, b"container-16-byt")
    for child, got in zip(children, decoded, strict=True):
        assert got == child._replace(place=child.place._replace(object=child.place.object or b"container-16-byt"))
    assert inner_digest(1, decoded) == ref.digest


LABELS = schema_of("<i8")
IMAGES = schema_of("<f4", (20, 20))


def leaf_and_ref(rows: dict[Any, Row], schema: ColumnSchema) -> tuple[bytes, NodeRef]:
    entries = entries_of(rows)
    data = encode_leaf(entries, schema)
    place = SegmentPlace(bytes(16), 0, len(data), xxhash.xxh3_64_intdigest(data))
    return data, NodeRef(0, entries[0][0], len(entries), leaf_digest(entries), place)


@pytest.mark.parametrize("kind", ["labels", "images", "texts"])
def test_every_flipped_byte_and_every_truncation_of_a_leaf_is_noticed(kind):
    schema = {"labels": LABELS, "images": IMAGES, "texts": ColumnSchema("str")}[kind]
    values: dict[str, Any] = {"labels": np.array(3, "<i8"), "images": np.zeros((20, 20), "<f4"), "texts": "some text"}
    row = (packed if kind == "images" else inline)(schema, values[kind])
    data, ref = leaf_and_ref(dict.fromkeys([1, 2, "three"], row), schema)
    extent = node_extent(ref, schema)
    assert extent.verify(memoryview(data), True).find("three") == row
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        for changed in (bytes(damaged), data[:position]):
            with pytest.raises(CorruptDataError):
                extent.verify(memoryview(changed), False)


def test_every_flipped_byte_of_an_inner_node_is_noticed():
    ref, children = some_children()
    data = encode_inner(children)
    extent = node_extent(ref, None)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(CorruptDataError):
            extent.verify(memoryview(bytes(damaged)), False)


def test_a_segment_of_another_node_is_refused_when_it_is_fetched():
    """With a right checksum, as if a record had been forged: its digest tells."""
    _, ref = leaf_and_ref({1: inline(LABELS, np.array(1))}, LABELS)
    other, other_ref = leaf_and_ref({1: inline(LABELS, np.array(2))}, LABELS)
    forged = node_extent(ref._replace(place=other_ref.place), LABELS)
    with pytest.raises(CorruptDataError, match="digest"):
        forged.verify(memoryview(other), True)
    _, children = some_children()
    inner, _ = some_children()
    forged = node_extent(inner._replace(digest=bytes(32)), None)
    with pytest.raises(CorruptDataError, match="digest"):
        forged.verify(memoryview(encode_inner(children)), True)


def read_hostile(data: bytes, schema: ColumnSchema, count: int) -> None:
    """Everything that may be asked of a leaf either works or is called damage."""
    try:
        leaf = decode_leaf(data, schema, count)
        leaf.entries()
        leaf.packs()
    except CorruptDataError:
        return
    for i in range(len(leaf)):
        value = leaf.row(i).value
        if value is not None:
            with_shape = leaf.row(i).shape
            with contextlib.suppress(CorruptDataError):
                schema.decode(value, with_shape)


def parquet(columns: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def hostile_tables() -> list[dict[str, Any]]:
    good: dict[str, Any] = {
        "key_int": pa.array([1, 2], pa.int64()),
        "digest": pa.array([bytes(32)] * 2, pa.binary(32)),
        "pack": pa.array([bytes(16)] * 2, pa.binary(16)),
        **{name: pa.array([1, 2], pa.int64()) for name in ("offset", "stored", "start", "size")},
    }
    wrong: list[Any] = [
        pa.array(["a", "b"]),
        pa.array([1.5, None]),
        pa.array([None, None], pa.int64()),
        pa.array([-1, -2], pa.int64()),
        pa.array([1, None], pa.int64()),
        pa.array([bytes(3)] * 2, pa.binary(3)),
        pa.array([b"", None], pa.binary()),
        pa.array([[1], [2]]),
        pa.array([-(2**63), 2**63 - 1], pa.int64()),
        pa.array([2**64 - 1, 0], pa.uint64()),
        pa.array([True, False]),
        pa.array([{"a": 1}, {"a": 2}]),
    ]
    names = [*good, "key_str", "value", "value_bytes", "shape_0", "unknown"]
    tables = [{**good, name: column} for name in names for column in wrong]
    tables += [{k: v for k, v in good.items() if k != name} for name in good]
    tables += [{"key_int": good["key_int"], "value": column} for column in wrong]
    return [*tables, {"unknown": pa.array([1, 2])}, {"key_int": pa.array([], pa.int64())}]


@pytest.mark.parametrize(
    "schema",
    [
        LABELS,
        IMAGES,
        schema_of("?"),
        schema_of("<i2", (9,), variable=True),
        ColumnSchema("str"),
        ColumnSchema("bytes"),
        schema_of("<c16"),
    ],
)
def test_parquet_of_any_other_shape_is_called_damage(schema):
    for columns in hostile_tables():
        read_hostile(parquet(columns), schema, 2)
        with pytest.raises(CorruptDataError):
            decode_inner(parquet(columns), 1, bytes(16))


@given(st.integers(0, 10**6), st.integers(1, 255), st.integers(0, 10**6))
@settings(max_examples=300)
def test_flipped_bytes_behind_a_right_checksum_raise_nothing_else(position, flip, second):
    rows: dict[Any, Row] = {i: inline(LABELS, np.array(i)) for i in range(50)}
    data = bytearray(encode_leaf(entries_of(rows), LABELS))
    data[position % len(data)] ^= flip
    data[second % len(data)] ^= flip
    read_hostile(bytes(data), LABELS, 50)


# ---------------------------------------------------------------- objects of several segments


def many_segments(count: int = 17) -> tuple[list[bytes], list[int]]:
    segments, labels = [], []
    for i in range(count):
        rows: dict[Any, Row] = {i * 100 + j: inline(LABELS, np.array((i * j) % 7 - 3)) for j in range(1 + i)}
        labels += [(i * j) % 7 - 3 for j in range(1 + i)]
        segments.append(encode_leaf(entries_of(rows), LABELS))
    return segments, labels


def test_an_object_of_many_segments_is_one_parquet_file(tmp_path):
    segments, labels = many_segments()
    path = tmp_path / "object.parquet"
    path.write_bytes(combine_segments(segments))
    whole = pq.read_table(path)
    assert whole.column("value").to_pylist() == labels
    apart = pa.concat_tables([pq.read_table(pa.BufferReader(segment)) for segment in segments])
    assert whole.equals(apart)
    file = pq.ParquetFile(path)
    assert file.num_row_groups == 17
    assert [file.read_row_group(i).num_rows for i in range(17)] == list(range(1, 18))
    with duckdb.connect() as connection:
        count, total = connection.execute(f"SELECT count(*), sum(value) FROM read_parquet('{path}')").fetchone() or ()
        assert (count, total) == (len(labels), sum(labels))
        query = f"SELECT key_int FROM read_parquet('{path}') WHERE value = 3 ORDER BY key_int"
        keys = whole.filter(pa.compute.equal(whole["value"], 3))["key_int"].to_pylist()
        assert [row[0] for row in connection.execute(query).fetchall()] == keys
        # Statistics of keys serve a query that skips row groups.
        query = f"SELECT value FROM read_parquet('{path}') WHERE key_int = 1205"
        assert connection.execute(query).fetchall() == [((12 * 5) % 7 - 3,)]


def test_segments_are_read_by_their_range_in_the_object():
    segments, _ = many_segments()
    data = combine_segments(segments)
    offset = 0
    for i, segment in enumerate(segments):
        leaf = decode_leaf(data[offset : offset + len(segment)], LABELS, i + 1)
        assert leaf.keys == [i * 100 + j for j in range(i + 1)]
        offset += len(segment)


def test_row_groups_of_an_object_are_numbered(tmp_path):
    footer = read_footer(combine_segments(many_segments(20)[0]))
    ordinals = [group[7][1] for group in footer[4][1][1] if 7 in group]
    assert ordinals in ([], list(range(20)))


@pytest.mark.parametrize("kind", ["packed", "text", "mixed keys", "floats", "inner"])
def test_objects_of_every_kind_of_segment_are_parquet(tmp_path, kind):
    def leaf(i: int) -> bytes:
        text = ColumnSchema("str")
        if kind == "packed":
            return encode_leaf(
                entries_of({10 * i + j: packed(IMAGES, np.full((20, 20), j, "<f4"), j) for j in range(9)}), IMAGES
            )
        if kind == "text":
            return encode_leaf(entries_of({f"k{i}-{j}": inline(text, "ü" * j) for j in range(9)}), text)
        if kind == "mixed keys":
            return encode_leaf(entries_of({k: inline(text, "x") for k in (i, str(i), 100 + i)}), text)
        if kind == "floats":
            schema = schema_of("<f8")
            return encode_leaf(entries_of({10 * i + j: inline(schema, np.array(j / 3)) for j in range(9)}), schema)
        return encode_inner(some_children()[1])

    segments = [leaf(i) for i in range(5)]
    path = tmp_path / "object.parquet"
    path.write_bytes(combine_segments(segments))
    apart = pa.concat_tables([pq.read_table(pa.BufferReader(segment)) for segment in segments])
    assert pq.read_table(path).equals(apart)
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT count(*) FROM (SELECT * FROM read_parquet('{path}'))").fetchone()
    assert found == (len(apart),)


def test_one_segment_is_its_own_object():
    segments, _ = many_segments(1)
    assert combine_segments(segments) == segments[0]


@given(st.binary(max_size=200))
def test_noise_has_no_footer(noise):
    for data in (
        noise,
        noise + struct.pack("<I", len(noise)) + b"PAR1",
        b"PAR1" + noise + struct.pack("<I", len(noise)) + b"PAR1",
    ):
        with contextlib.suppress(CorruptDataError):
            read_footer(data)


def test_damaged_footers_raise_our_error_only():
    data = many_segments(2)[0][1]
    length = int.from_bytes(data[-8:-4], "little")
    for position in range(len(data) - 8 - length, len(data)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            with contextlib.suppress(CorruptDataError):
                read_footer(bytes(damaged))


def test_leaves_are_as_small_as_promised():
    """A million rows are some 34 MB; one leaf of 4,096 packed rows is about 150 kB."""
    rows = [
        (
            encode_key(i),
            Row(b"\1" + os.urandom(32), Place(PACK, 8 + 800 * (i // 20), 800, 40 * (i % 20), 40), None, None),
        )
        for i in range(4096)
    ]
    assert len(encode_leaf(rows, IMAGES)) < 180_000


@pytest.mark.skipif(sys.byteorder != "little", reason="the format is little-endian")
def test_typed_columns_have_the_types_that_the_format_names():
    kinds = {"<i8": "int64", "|u1": "uint8", "<f4": "float", "?": "bool", "<u8": "uint64", "<i2": "int16"}
    for dtype, name in kinds.items():
        schema = schema_of(dtype)
        data = encode_leaf(entries_of({0: inline(schema, np.array(1, dtype))}), schema)
        assert str(pq.read_table(pa.BufferReader(data)).schema.field("value").type) == name
    for dtype in ("<f2", ">i4", "<c8", np.dtype("g").str):
        schema = schema_of(dtype)
        data = encode_leaf(entries_of({0: inline(schema, np.array(1, dtype))}), schema)
        assert "value_bytes" in pq.read_table(pa.BufferReader(data)).column_names
