"""What may be a key, a name, a column, a sample; and the order of keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog.errors import InvalidNameError, InvalidSampleError, InvalidSchemaError
from hangar_cloud.catalog.keys import MAX_INT_KEY, check_key, check_name, decode_key, encode_key, sort_keys
from hangar_cloud.catalog.schema import ColumnSchema, array_schema

WORDS = st.text("aZ09_-", min_size=1, max_size=8) | st.sampled_from(["0", "15", "a.b", "...", "x" * 300])
GOOD_KEYS = st.integers(0, MAX_INT_KEY) | st.integers(0, 99) | st.lists(WORDS, min_size=1, max_size=3).map("/".join)


@given(GOOD_KEYS)
def test_keys_come_back(key):
    assert check_key(key) == key
    decoded = decode_key(encode_key(key))
    assert decoded == key
    assert type(decoded) is type(key)


@given(st.lists(GOOD_KEYS, unique=True))
def test_the_order_of_keys_is_the_order_of_their_bytes(keys):
    ordered = sort_keys(keys)
    assert [encode_key(key) for key in ordered] == sorted(encode_key(key) for key in keys)
    assert sorted(map(str, ordered)) == sorted(map(str, keys))


@given(st.binary(max_size=14))
def test_noise_is_no_key_or_round_trips(noise):
    try:
        key = decode_key(noise)
    except CorruptDataError:
        return
    assert encode_key(key) == noise


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/../b",
        "../a",
        "a b",
        "ä",
        "a\n",
        "\0",
        "x" * 1025,
        -1,
        2**63,
        1.0,
        None,
        True,
        np.bool_(True),
        np.float64(1),
        b"x",
        (),
        ("a",),
        [1],
        "a\\b",
        "a:b",
        "٣",
    ],
)
def test_what_may_not_be_a_key(key):
    with pytest.raises(InvalidNameError, match="not suitable"):
        check_key(key)


@pytest.mark.parametrize("key", [0, MAX_INT_KEY, "0", "x" * 1024, "a/b/c.png", "...", "a..b", "-", "_", "1e5"])
def test_what_may(key):
    assert check_key(key) == key


def test_numpy_numbers_become_plain_ones():
    for key in (np.int8(7), np.uint64(2**63 - 1), np.str_("x")):
        checked = check_key(key)
        assert type(checked) in (int, str)
        assert checked == key
    with pytest.raises(InvalidNameError):
        check_key(np.uint64(2**63))


@given(st.text(max_size=70))
def test_names_are_ascii_words(name):
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    good = 1 <= len(name) <= 64 and set(name) <= allowed and name not in (".", "..")
    try:
        assert check_name(name, "column") == name
        assert good
    except InvalidNameError:
        assert not good


@pytest.mark.parametrize(
    "shape", [(0,), (2, 0), (-1,), (1.5,), "ab", (2**49,), (1,) * 32, None, ("3",), ((2,),), (np.nan,), object()]
)
def test_shapes_that_no_column_has(shape):
    with pytest.raises(InvalidSchemaError):
        array_schema(shape, "<f4", None, False, False, "column 'x'")


@pytest.mark.parametrize(
    "dtype", ["O", "U5", "S3", "M8[s]", "m8", "V4", "i4,f4", "nonsense", object, "(2,)i4", 3, [("a", "i4")]]
)
def test_dtypes_that_no_column_has(dtype):
    with pytest.raises(InvalidSchemaError):
        array_schema((2,), dtype, None, False, False, "column 'x'")


def test_shapes_that_columns_may_have():
    assert array_schema(10, "f4", None, False, False, "").shape == (10,)
    assert array_schema((), "f4", None, False, False, "").shape == ()
    assert array_schema([2, np.int64(3)], "f4", None, False, False, "").shape == (2, 3)
    assert array_schema((1,) * 31, "f4", None, False, False, "").fixed_size == 4
    assert array_schema(None, None, np.zeros((2, 3), ">i2"), False, False, "").dtype == ">i2"
    with pytest.raises(InvalidSchemaError, match="tebibyte"):
        array_schema((2**40, 2), "f8", None, False, False, "")


@given(st.binary(min_size=0, max_size=40), st.lists(st.integers(1, 2**62), max_size=4).map(tuple))
def test_payloads_of_another_length_are_damage(data, shape):
    schema = array_schema((9,) * len(shape), "<i4", None, True, False, "")
    try:
        value = schema.decode(data, shape)
    except CorruptDataError:
        return
    assert isinstance(value, np.ndarray)
    assert value.nbytes == len(data)


def test_each_misfit_has_its_own_message():
    fixed = array_schema((2, 3), "<f4", None, False, False, "")
    variable = array_schema((2, 3), "<f4", None, True, False, "")
    good = np.zeros((2, 3), "<f4")
    cases: list[tuple[ColumnSchema, Any, str]] = [
        (fixed, [1.0], "numpy.ndarray"),
        (fixed, good.astype("<f8"), "astype"),
        (fixed, good.astype(">f4"), "astype"),
        (fixed, np.zeros((2, 2), "<f4"), "variable_shape"),
        (fixed, np.zeros(6, "<f4"), "dimension"),
        (variable, np.zeros((3, 3), "<f4"), "maximum"),
        (variable, np.zeros((0, 3), "<f4"), "empty"),
        (fixed, np.zeros((3, 2), "<f4").T, "ascontiguousarray"),
        (variable, np.zeros((2, 6), "<f4")[:, ::2], "ascontiguousarray"),
        (ColumnSchema("str"), b"x", "takes str"),
        (ColumnSchema("bytes"), "x", "takes bytes"),
        (ColumnSchema("bytes"), bytearray(b"x"), "bytes\\(value\\)"),
    ]
    for schema, value, message in cases:
        with pytest.raises(InvalidSampleError, match=message):
            schema.encode(value, "column 'x', sample 1")


def test_what_is_given_is_copied_and_what_is_read_is_writable():
    schema = array_schema((3,), "<i4", None, False, False, "")
    value = np.arange(3, dtype="<i4")
    payload = schema.encode(value, "")
    value[0] = 99
    decoded = schema.decode(payload.data, None)
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == [0, 1, 2]
    decoded[0] = 5
    assert schema.decode(memoryview(payload.data), None).tolist() == [0, 1, 2]
