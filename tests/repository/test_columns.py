"""Making columns, and keys and values that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.errors import (
    ColumnBusyError,
    ColumnExistsError,
    ColumnNotFoundError,
    HangarError,
    InvalidNameError,
    InvalidSampleError,
    InvalidSchemaError,
    StagingError,
)

SAMPLE = np.ones(3, np.float32)


def staged(writer):
    """Everything that a writer sees, with the number of staged changes."""
    contents = {name: {key: str(value) for key, value in column.items()} for name, column in writer.items()}
    return contents, writer._staging._sequence


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 65, ".", "..", None, 5, b"a"], ids=repr)
@pytest.mark.parametrize("make", ["add_ndarray_column", "add_str_column", "add_bytes_column"])
def test_names_that_may_not_be_a_column(writer, name, make):
    before = staged(writer)
    options = {"shape": 3, "dtype": float} if make == "add_ndarray_column" else {}
    with pytest.raises(ValueError, match=r"column name .* is not suitable: use 1 to 64 ASCII letters") as caught:
        getattr(writer, make)(name, **options)
    assert type(caught.value) is InvalidNameError
    assert staged(writer) == before


def test_a_taken_name_is_refused(writer):
    before = staged(writer)
    for make in (
        writer.add_str_column,
        writer.add_bytes_column,
        lambda name: writer.add_ndarray_column(name, 3, float),
    ):
        with pytest.raises(
            LookupError, match=r"a column 'array' already; remove it first, or choose another"
        ) as caught:
            make("array")
        assert type(caught.value) is ColumnExistsError
    assert staged(writer) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give shape and dtype"),
        ({"shape": 3}, "give shape and dtype"),
        ({"dtype": float}, "give shape and dtype"),
        ({"prototype": np.zeros(3), "shape": 3}, "not both"),
        ({"prototype": np.zeros(3), "dtype": float}, "not both"),
        ({"prototype": [1, 2]}, "must be a numpy.ndarray, not list"),
        ({"prototype": np.zeros((3, 0))}, "dimension that is not at least 1"),
        ({"shape": 0, "dtype": float}, "dimension that is not at least 1"),
        ({"shape": (3, 0), "dtype": float}, "dimension that is not at least 1"),
        ({"shape": -1, "dtype": float}, "dimension that is not at least 1"),
        ({"shape": (1,) * 32, "dtype": float}, "32 dimensions are too many, the most is 31"),
        ({"shape": 2.5, "dtype": float}, "not a whole number"),
        ({"shape": float("inf"), "dtype": float}, "not a whole number"),
        ({"shape": (2.5,), "dtype": float}, "not a whole number"),
        ({"shape": (float("inf"),), "dtype": float}, "not a whole number"),
        ({"shape": "three", "dtype": float}, "not a whole number"),
        ({"shape": (2**20, 2**20, 2**20), "dtype": float}, "over a tebibyte"),
        ({"shape": 3, "dtype": object}, r"dtype '\|O' cannot be stored"),
        ({"shape": 3, "dtype": "S5"}, "add_str_column or add_bytes_column"),
        ({"shape": 3, "dtype": "U5"}, "cannot be stored"),
        ({"shape": 3, "dtype": "M8[s]"}, "cannot be stored"),
        ({"shape": 3, "dtype": [("x", "f4")]}, "cannot be stored"),
        ({"shape": 3, "dtype": "no such type"}, "not a numpy dtype"),
        ({"shape": 3, "dtype": ","}, "not a numpy dtype"),
        ({"shape": 3, "dtype": (int, -1)}, "not a numpy dtype"),
        ({"shape": 3, "dtype": float, "backend": "zz"}, "backend 'zz' is not known; use one of p0"),
        ({"shape": 3, "dtype": float, "backend": ["p0"]}, "is not known"),
        ({"shape": 3, "dtype": float, "backend_options": 5}, "must be a dict, not int"),
        ({"shape": 3, "dtype": float, "backend_options": {"codec": "rar"}}, "codec='rar' is not one of"),
        ({"shape": 3, "dtype": float, "backend_options": {"codec": ["lz4"]}}, "is not one of"),
        ({"shape": 3, "dtype": float, "backend_options": {5: 6}}, "unknown backend option"),
        ({"shape": 3, "dtype": float, "backend_options": {"level": 3}}, "level=3"),
    ],
    ids=repr,
)
def test_columns_that_cannot_be_made(writer, arguments, words):
    before = staged(writer)
    with pytest.raises(ValueError, match=words) as caught:
        writer.add_ndarray_column("new", **arguments)
    assert isinstance(caught.value, HangarError)
    if isinstance(caught.value, InvalidSchemaError):
        assert "column 'new'" in str(caught.value)
    assert staged(writer) == before


@pytest.mark.parametrize(("shape", "is_taken_as"), [(10, (10,)), ((), ()), ((1,) * 31, (1,) * 31), ([2, 3], (2, 3))])
def test_shapes_that_work(writer, shape, is_taken_as):
    column = writer.add_ndarray_column("new", shape=shape, dtype=np.int16)
    assert column.shape == is_taken_as
    value = np.arange(np.prod(is_taken_as), dtype=np.int16).reshape(is_taken_as)
    column["k"] = value
    writer.commit("made")
    assert np.array_equal(column["k"], value)
    assert column["k"].shape == is_taken_as


def test_what_a_column_says_of_itself(writer):
    array = writer.add_ndarray_column("a", prototype=np.zeros((2, 3), ">f8"), variable_shape=True)
    said = (array.column, array.column_type, array.column_layout, array.schema_type, array.dtype, array.shape)
    assert said == ("a", "ndarray", "flat", "variable_shape", np.dtype(">f8"), (2, 3))
    assert (array.contains_subsamples, array.iswriteable, array.backend, array.backend_options) == (
        False,
        True,
        "i0",
        {},
    )
    assert array.contains_remote_references is False
    assert array.remote_reference_keys == ()
    text, blob = writer["text"], writer["blob"]
    assert (text.column_type, text.dtype, text.shape, text.schema_type) == ("str", str, None, "variable_shape")
    assert (blob.column_type, blob.dtype, blob.shape) == ("bytes", bytes, None)
    big = writer.add_ndarray_column("big", shape=1000, dtype=float, backend_options={"codec": "zstd", "level": 3})
    assert (big.backend, big.backend_options) == ("p0", {"codec": "zstd", "level": 3})


BAD_KEYS = [
    *["", "a b", "é", "a\n", "a\0", "a\\b", "..", "a/../b", "../a", "/a", "a/", "a//b", "x" * 1025],
    *[-1, 2**63, 1.0, None, True, False, np.True_, np.int64(-1), np.float64(1), b"a", (1,), ["a"], {}],
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key)[:20])
def test_keys_that_are_not_suitable(writer, key):
    column = writer["array"]
    column[0] = SAMPLE
    before = staged(writer)
    uses = [
        lambda: column.__setitem__(key, SAMPLE),
        lambda: column.update([("fine", SAMPLE), (key, SAMPLE)]),
        lambda: writer.__setitem__(("array", key), SAMPLE),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="^column 'array': .*is not suitable") as caught:
            use()
        assert type(caught.value) is InvalidNameError
    for use in (
        lambda: column[key],
        lambda: column.__delitem__(key),
        lambda: column.pop(key),
        lambda: column.get_batch([key]),
    ):
        with pytest.raises(KeyError):
            use()
    assert key not in column
    assert column.get(key, "default") == "default"
    assert column.pop(key, "default") == "default"
    assert staged(writer) == before


@pytest.mark.parametrize(
    ("key", "advice"),
    [(("a", 0), "contains_subsamples=True"), (slice(0, 5), r"get_batch\(keys\)"), (..., r"items\(\)")],
)
def test_keys_of_other_kinds_of_columns_say_what_to_use(writer, key, advice):
    with pytest.raises(KeyError, match=f"column 'array': .*{advice}"):
        writer["array"][key]
    with pytest.raises(ValueError, match=f"column 'array': .*{advice}"):
        writer["array"][key] = SAMPLE


def test_a_dict_of_subsamples_in_a_flat_column(writer):
    with pytest.raises(ValueError, match="column 'array', sample 0: .*contains_subsamples=True"):
        writer["array"][0] = {0: SAMPLE}


def test_keys_that_are(writer):
    keys = [
        0,
        "0",
        15,
        "15",
        2**63 - 1,
        "x" * 1024,
        "a/b/c.png",
        ".hidden",
        "-",
        "_",
        "A",
        "a",
        np.int64(7),
        np.uint8(8),
    ]
    column = writer["array"]
    for number, key in enumerate(keys):
        column[key] = np.full(3, number, np.float32)
    writer.commit("keys")
    assert [column[key][0] for key in keys] == list(range(len(keys)))
    expected = [0, 7, 8, 15, 2**63 - 1, "-", ".hidden", "0", "15", "A", "_", "a", "a/b/c.png", "x" * 1024]
    assert list(column) == expected
    assert {type(key) for key in column} == {int, str}
    assert (7 in column, np.int32(7) in column, "7" in column) == (True, True, False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1.0, 2.0, 3.0], r"takes numpy.ndarray, not list; convert with numpy.asarray\(value, dtype='<f4'\)"),
        (1.0, "takes numpy.ndarray, not float"),
        (np.float32(1), "takes numpy.ndarray, not float32"),
        (np.ones(3), r"dtype '<f8' \(float64\), the column holds '<f4' \(float32\); cast with value.astype\('<f4'\)"),
        (np.ones(3, ">f4"), r"dtype '>f4'.*the column holds '<f4'.*value.astype\('<f4'\)"),
        (np.ones(3, np.int32), "dtype '<i4'"),
        (np.ones(4, np.float32), r"shape \(4,\), every sample of the column has \(3,\); .*variable_shape=True"),
        (np.ones((1, 3), np.float32), r"2 dimension\(s\), shape \(1, 3\); the column has 1, shape \(3,\)"),
        (np.ones((), np.float32), r"0 dimension\(s\)"),
        (np.ones(6, np.float32)[::2], r"not C-contiguous in memory; convert with numpy.ascontiguousarray\(value\)"),
        (np.ma.masked_array(SAMPLE, [0, 1, 0]), r"masked array would lose its mask.*filled"),
        ("abc", "not str"),
        (None, "not NoneType"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_arrays_that_do_not_fit(writer, value, words):
    before = staged(writer)
    for use in (
        lambda: writer["array"].__setitem__("key", value),
        lambda: writer["array"].update({"fine": SAMPLE, "key": value}),
        lambda: writer.__setitem__(("array", "key"), value),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            use()
        assert type(caught.value) is InvalidSampleError
        assert "column 'array', sample 'key'" in str(caught.value)
    with pytest.raises(ValueError, match=words):
        writer["array"].append(value)
    assert staged(writer) == before


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 6), r"shape \(3, 6\), more than the column's maximum \(4, 5\)"),
        ((5, 5), "more than"),
        ((4,), r"1 dimension\(s\)"),
        ((0, 5), "no elements; empty arrays are not stored, leave the key out"),
    ],
)
def test_variable_arrays_that_do_not_fit(writer, shape, words):
    column = writer.add_ndarray_column("variable", shape=(4, 5), dtype=np.uint8, variable_shape=True)
    with pytest.raises(ValueError, match=words) as caught:
        column["key"] = np.ones(shape, np.uint8)
    assert "column 'variable', sample 'key'" in str(caught.value)
    assert len(column) == 0


def test_fortran_order_and_transposes_are_refused(writer):
    column = writer.add_ndarray_column("square", shape=(4, 4), dtype=np.uint8)
    value = np.arange(16, dtype=np.uint8).reshape(4, 4)
    for wrong in (value.T, np.asfortranarray(value), np.ones((8, 4), np.uint8)[::2]):
        with pytest.raises(ValueError, match="ascontiguousarray"):
            column["key"] = wrong
    column["key"] = np.ascontiguousarray(value.T)
    assert np.array_equal(column["key"], value.T)


@pytest.mark.parametrize(("column", "value"), [("text", b"x"), ("text", 5), ("text", None), ("blob", "x"), ("blob", 5)])
def test_text_and_bytes_that_do_not_fit(writer, column, value):
    with pytest.raises(
        ValueError, match=rf"column '{column}', sample 'key': a .* column takes .*, not {type(value).__name__}"
    ):
        writer[column]["key"] = value
    assert len(writer[column]) == 0


def test_a_bytearray_is_refused_with_advice(writer):
    with pytest.raises(ValueError, match=r"not bytearray; convert with bytes\(value\)"):
        writer["blob"]["key"] = bytearray(b"x")


@pytest.mark.parametrize("given", [5, [5], "ab", [(1, 2, 3)]])
def test_update_takes_pairs(writer, given):
    with pytest.raises(ValueError, match=r"column 'array': update\(\) takes a mapping or pairs"):
        writer["array"].update(given)


def test_columns_are_not_added_or_removed_inside_with(writer):
    for block in (writer, writer["array"], writer["text"]):
        with block:
            before = staged(writer)
            for use in (
                lambda: writer.add_str_column("new"),
                lambda: writer.add_bytes_column("new"),
                lambda: writer.add_ndarray_column("new", 3, float),
                lambda: writer.columns.delete("text"),
                lambda: writer.columns.__delitem__("blob"),
            ):
                with pytest.raises(
                    PermissionError, match=r"Cannot (add|remove) column .*leave the block first"
                ) as caught:
                    use()
                assert type(caught.value) is ColumnBusyError
            with pytest.raises(StagingError, match="leave the block first"):
                writer["array"].change_backend("p0")
            assert staged(writer) == before
    writer.add_str_column("new")


def test_removing_a_missing_column(writer):
    for use in (lambda: writer.columns.delete("nope"), lambda: writer.columns.__delitem__("nope")):
        with pytest.raises(KeyError, match="Cannot remove: nope") as caught:
            use()
        assert type(caught.value) is ColumnNotFoundError


def test_asking_for_a_missing_column_names_those_there_are(writer):
    uses = (
        lambda: writer["nope"],
        lambda: writer["nope", 1],
        lambda: writer.columns["nope"],
        lambda: writer.columns.get("nope"),
    )
    for use in uses:
        with pytest.raises(KeyError, match="no column 'nope'; there is: array, blob, text"):
            use()


def test_asking_for_a_column_with_a_default(writer):
    assert writer.columns.get("array") is writer.columns["array"]
    assert writer.columns.get("nope", None) is None
    assert writer.columns.get("nope", default="other") == "other"
    assert writer.get("nope") is None
