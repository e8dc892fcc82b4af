"""Every way of reaching columns, samples and subsamples through a checkout, for every kind of column."""

from __future__ import annotations

import shutil

import pytest

from hangar_cloud import Repository
from hangar_cloud.column_reader import FlatSampleReader
from hangar_cloud.errors import (
    ColumnBusyError,
    ColumnNotFoundError,
    InvalidArgumentError,
    InvalidSampleError,
    SampleNotFoundError,
    StagingError,
)
from hangar_cloud.nested_reader import FlatSubsampleReader, NestedSampleReader
from tests.repository.making import make_repository, same
from tests.repository.nesting import FLAT, KINDS, all_same, fill_every_kind, value_of


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The folder of a repository with columns of every kind, in one commit."""
    folder = tmp_path_factory.mktemp("original") / "repository"
    checkout = make_repository(folder).checkout(write=True)
    fill_every_kind(checkout)
    checkout.commit("filled")
    checkout.close()
    return folder


@pytest.fixture
def repository(original, tmp_path):
    """A copy of it."""
    return Repository(shutil.copytree(original, tmp_path / "repository"))


@pytest.fixture
def filled(repository):
    """A writer of it."""
    checkout = repository.checkout(write=True)
    yield checkout
    if checkout._alive.open:
        checkout.close()


@pytest.fixture(params=["writer", "reader"])
def co(request, filled, repository):
    """The same contents through a writer or a reader."""
    return filled if request.param == "writer" else repository.checkout()


@pytest.mark.parametrize("kind", KINDS)
def test_one_column_sample_or_subsample(co, kind):
    flat = f"flat-{kind}"
    assert isinstance(co[flat], FlatSampleReader)
    assert isinstance(co[kind], NestedSampleReader)
    assert co[flat] is co[(flat,)] is co.columns[flat] is co.columns.get(flat) is co.get(flat)
    assert same(co[flat, 0], value_of(kind, 5))
    assert same(co[flat, "0"], value_of(kind, 6))
    assert same(co[[flat, "k"]], value_of(kind, 7)), "a list of a name and a key is one sample"
    assert isinstance(co[kind, "a"], FlatSubsampleReader)
    assert repr(co[kind, "a"]).endswith(f"(column_name='{kind}', sample_name='a')")
    assert same(co[kind, "a", 0], value_of(kind, 1))
    assert same(co[kind, "a", "0"], value_of(kind, 2))
    assert same(co[kind, 3, "x"], value_of(kind, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_dicts_of_subsamples(co, kind):
    values = {0: value_of(kind, 1), 7: value_of(kind, 3), "0": value_of(kind, 2)}
    for index, keys in (
        (..., [0, 7, "0"]),
        (slice(None), [0, 7, "0"]),
        (slice(0, 5), [0, 7, "0"]),
        (slice(1, None), [7, "0"]),
        (slice(0, 2), [0, 7]),
        (slice(-1, None), ["0"]),
        (slice(None, None, 2), [0, "0"]),
        (slice(None, None, -1), ["0", 7, 0]),
        (slice(5, 9), []),
    ):
        for found in (co[kind, "a", index], co[kind]["a", index], co[kind]["a"][index], co[kind]["a"].get(index)):
            assert type(found) is dict
            assert list(found) == keys
            assert all(same(found[key], values[key]) for key in keys)
    assert list(co[kind]["a"].data) == [0, 7, "0"]


@pytest.mark.parametrize("kind", KINDS)
def test_several_at_once_come_in_the_order_asked(co, kind):
    flat = f"flat-{kind}"
    asked = [(flat, "k"), [kind, "a", 7], (flat, 0), (kind, 3, "x"), (flat, "k")]
    expected = [value_of(kind, seed) for seed in (7, 3, 5, 4, 7)]
    assert all_same(co[asked], expected)
    assert all_same(co[tuple(asked)], expected)
    assert all_same(co.get(asked), expected)
    assert all_same(co[((flat, 0),)], [value_of(kind, 5)])
    assert all_same(co[[(flat, 0)]], [value_of(kind, 5)])
    a, whole, accessor, part = co[(flat, 0), (kind, "a", ...), (kind, 3), (kind, "a", slice(2))]
    assert same(a, value_of(kind, 5))
    assert (list(whole), accessor.sample, list(part)) == ([0, 7, "0"], 3, [0, 7])


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_keys_of_one_column(co, kind):
    flat = f"flat-{kind}"
    assert all_same(co[flat, ["k", 0, "k"]], [value_of(kind, seed) for seed in (7, 5, 7)])
    assert all_same(co[kind, "a", ["0", 0]], [value_of(kind, seed) for seed in (2, 1)])
    assert all_same(co[kind, [("a", 7), (3, "x")]], [value_of(kind, seed) for seed in (3, 4)])
    assert [sample.sample for sample in co[kind, [3, "a"]]] == [3, "a"]
    assert [list(found) for found in co[kind, [("a", ...), ("a", slice(1))]]] == [[0, 7, "0"], [0]]
    assert co[flat, []] == co[kind, []] == co[kind, "a", []] == []
    assert all_same(co.get((flat, ["nope", 0])), [None, value_of(kind, 5)])
    assert all_same(co.get((flat, ["k", "nope"]), "none"), [value_of(kind, 7), "none"])
    assert all_same(co.get((kind, [("a", 9), ("a", 0)]), "none"), ["none", value_of(kind, 1)])


MISSING = [
    ("nope", "no column 'nope'"),
    (("nope", 0), "no column 'nope'"),
    (("nope", "a", 0), "no column 'nope'"),
    (("flat-text", "nope"), "column 'flat-text' has no sample 'nope'"),
    (("flat-text", 15), "column 'flat-text' has no sample 15"),
    (("text", "nope"), "column 'text' has no sample 'nope'"),
    (("text", "nope", 0), "column 'text' has no sample 'nope'"),
    (("text", "nope", ...), "column 'text' has no sample 'nope'"),
    (("text", "a", "7"), "column 'text', sample 'a' has no subsample '7'"),
    (("text", ...), "Ellipsis of type ellipsis is not suitable"),
    (("flat-text", ...), "Ellipsis of type ellipsis is not suitable"),
    (("flat-text", None), "None of type NoneType is not suitable"),
]


@pytest.mark.parametrize(("index", "words"), MISSING, ids=repr)
def test_what_is_missing_is_named_or_gives_the_default(co, index, words):
    kind = ColumnNotFoundError if "column 'nope'" in words else SampleNotFoundError
    for use in (lambda: co[index], lambda: co.get(index, except_missing=True), lambda: co.get(index, 5, True)):
        with pytest.raises(KeyError, match=words) as caught:
            use()
        assert type(caught.value) is kind
    assert co.get(index) is None
    assert co.get(index, 5) == co.get(index, default=5) == co.get(keys=index, default=5, except_missing=False) == 5
    if isinstance(index, tuple):
        both = [index, ("flat-text", 0)]
        assert co.get(both, "none") == ["none", value_of("text", 5)]
        with pytest.raises(KeyError, match=words):
            co[both]
        with pytest.raises(KeyError, match=words):
            co.get(both, except_missing=True)


@pytest.mark.parametrize(
    "index",
    [
        5,
        None,
        ...,
        slice(None),
        (),
        [],
        (5, 6),
        [[]],
        ("flat-text", 0, 0),
        ("text", "a", 0, 1),
        (("text", "a"), "text"),
    ],
    ids=repr,
)
def test_what_is_no_index_is_refused_even_with_a_default(co, index):
    for use in (lambda: co[index], lambda: co.get(index), lambda: co.get(index, 5)):
        with pytest.raises(ValueError, match=r"index|indices") as caught:
            use()
        assert type(caught.value) is InvalidArgumentError


def test_a_checkout_is_a_mapping_of_columns(co):
    names = sorted([*KINDS, *FLAT])
    assert list(co) == list(co.keys()) == list(co.columns) == co.columns.keys() == names
    assert [column.column for column in co.values()] == [column.column for column in co.columns.values()] == names
    assert {name: column.column for name, column in co.items()} == {name: name for name in names}
    assert dict(co.columns.items()).keys() == set(names)
    assert (len(co), len(co.columns)) == (10, 10)
    for where in (co, co.columns):
        assert ["text" in where, "nope" in where, None in where, 5 in where, [] in where] == [True] + [False] * 4
    with pytest.raises(KeyError, match="no column 'nope'"):
        co.columns.get("nope")
    assert co.columns.get("nope", 5) == 5
    assert co.columns.get([], 5) == 5
    assert repr(co.columns).splitlines()[0] == "Hangar Columns"
    assert "      - text / False" in repr(co.columns).splitlines()
    assert co.columns.contains_remote_references == dict.fromkeys(names, False)
    assert co.columns.remote_sample_keys == dict.fromkeys(names, ())


@pytest.mark.parametrize("kind", KINDS)
def test_writing_through_the_checkout(filled, repository, kind):
    flat = f"flat-{kind}"
    filled[flat, "new"] = value_of(kind, 20)
    filled[flat, 0] = value_of(kind, 21)
    filled[kind, "new"] = {0: value_of(kind, 22), "x": value_of(kind, 23)}
    filled[kind, "new", 1] = value_of(kind, 24)
    filled[kind, "a", 0] = value_of(kind, 25)
    filled[kind, "a"] = [("0", value_of(kind, 26))]
    filled[[kind, 3, "y"]] = value_of(kind, 27)
    filled.commit("written")
    for co in (filled, repository.checkout()):
        assert all_same(co[flat, ["new", 0, "0"]], [value_of(kind, seed) for seed in (20, 21, 6)])
        assert all_same(co[kind, "new", [0, "x", 1]], [value_of(kind, seed) for seed in (22, 23, 24)])
        assert all_same(co[kind, "a", [0, "0", 7]], [value_of(kind, seed) for seed in (25, 26, 3)])
        assert all_same(co[kind, 3, ["x", "y"]], [value_of(kind, seed) for seed in (4, 27)])


@pytest.mark.parametrize(
    ("index", "value", "error", "words"),
    [
        (("nope", 0), "x", ColumnNotFoundError, "no column 'nope'; there is: big"),
        (("flat-text", 0), 5, InvalidSampleError, "column 'flat-text', sample 0"),
        (("text", "a", 0), 5, InvalidSampleError, "column 'text', sample 'a', subsample 0"),
        (("text", "a"), "x", InvalidSampleError, "column 'text', sample 'a': the column is nested"),
        (("text", "a"), {0: "fits", 1: 5}, InvalidSampleError, "column 'text', sample 'a', subsample 1"),
        (("flat-text", 0, 1), "x", InvalidArgumentError, "column 'flat-text' is flat"),
        (("text", 0, 1, 2), "x", InvalidArgumentError, "column 'text' is nested: index it by"),
        ("flat-text", "x", InvalidArgumentError, "written to as"),
        ((("flat-text", 0), ("flat-text", 1)), ["x", "y"], InvalidArgumentError, "written to as"),
    ],
    ids=repr,
)
def test_what_cannot_be_written_is_named_and_nothing_is(filled, index, value, error, words):
    sequence = filled._staging._sequence
    with pytest.raises((KeyError, ValueError), match=words) as caught:
        filled[index] = value
    assert type(caught.value) is error
    assert (filled._staging._sequence, filled.diff.status()) == (sequence, "CLEAN")


def test_readers_have_no_way_to_write(filled, repository):
    reader = repository.checkout()
    for name in ("add_ndarray_column", "add_str_column", "add_bytes_column", "commit", "merge", "stash"):
        assert not hasattr(reader, name)
    for target, key in ((reader, ("text", "a", 0)), (reader["text"], "a"), (reader["text"]["a"], 0)):
        with pytest.raises(TypeError, match="does not support item assignment"):
            target[key] = "x"
        with pytest.raises(TypeError, match="support item deletion"):
            del target[key]
    for remove in (lambda: reader.columns.delete("text"), lambda: reader.columns.__delitem__("text")):
        with pytest.raises(PermissionError, match="read-only"):
            remove()
    for name in ("update", "append", "pop", "change_backend"):
        assert not hasattr(reader["text"], name)
        assert not hasattr(reader["text"]["a"], name)


@pytest.mark.parametrize("kind", KINDS)
def test_get_batch_of_pairs(co, kind):
    column = co[kind]
    found = column.get_batch([("a", 7), (3, "x"), ["a", 0], ("a", 7)])
    assert all(same(one, value_of(kind, seed)) for one, seed in zip(found, (3, 4, 1, 3), strict=True))
    assert len(column.get_batch([])) == 0
    assert len(column.get_batch(pair for pair in [("a", 7)])) == 1
    if kind in {"fixed", "big"}:
        assert found.shape == (4, *column.shape)
        assert column.get_batch([]).shape == (0, *column.shape)
    else:
        assert isinstance(found, list)
    for wrong, words in (
        ([("a", 1)], "no subsample 1"),
        ([("b", 0)], "no sample 'b'"),
        (["a"], "this is not one: 'a'"),
    ):
        with pytest.raises(KeyError, match=words):
            column.get_batch(wrong)


def test_with_blocks(co):
    text = co["text"]
    with text as column, text["a"] as sample, co as checkout, co:
        assert (column, sample.sample, checkout) == (text, "a", co)
        assert sample[0] == column["a", 0] == checkout["text", "a", 0] == value_of("text", 1)
    assert text["a", 0] == value_of("text", 1)


def test_writes_in_nested_blocks_are_durable_when_the_outermost_ends(filled, repository):
    text, blob = filled["text"], filled["flat-blob"]
    sequence = filled._staging._sequence
    with filled, text["a"] as sample:
        with text:
            sample["in"] = "in"
            text["in"] = {0: "in"}
            blob["in"] = b"in"
        assert filled._staging._sequence == sequence
        for use in (
            lambda: filled.add_str_column("new"),
            lambda: filled.columns.delete("flat-text"),
            lambda: filled.columns.__delitem__("flat-text"),
        ):
            with pytest.raises(PermissionError) as caught:
                use()
            assert type(caught.value) is ColumnBusyError
        with pytest.raises(RuntimeError, match="leave the block first") as refused:
            text.change_backend("p0")
        assert type(refused.value) is StagingError
    assert filled._staging._sequence > sequence
    filled.close()
    again = repository.checkout(write=True)
    assert (again["text", "a", "in"], again["text", "in", 0], again["flat-blob", "in"]) == ("in", "in", b"in")
    again.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_backend_of_a_nested_column_changes(filled, repository, kind):
    column = filled[kind]
    with pytest.raises(ValueError, match="backend 'zz' is not known"):
        column.change_backend("zz")
    for name in ("backend", "backend_options"):
        with pytest.raises(AttributeError):
            setattr(column, name, None)
    for number, (backend, options) in enumerate([("i0", None), ("p0", {"codec": "raw"}), ("p0", None)]):
        column.change_backend(backend, options)
        assert (column.backend, column.backend_options) == (backend, options or {})
        column["changed", number] = value_of(kind, 30 + number)
        filled.commit(f"backend {number}")
    reader = repository.checkout()[kind]
    assert (reader.backend, reader.backend_options) == ("p0", {})
    assert all(same(reader["changed", number], value_of(kind, 30 + number)) for number in range(3))
    assert same(reader["a", 0], value_of(kind, 1))


def test_deleting_columns_of_both_layouts(filled, repository):
    assert filled.columns.delete("text") == "text"
    del filled.columns["flat-text"]
    for name in ("text", "flat-text", "nope"):
        with pytest.raises(KeyError, match=f"Cannot remove: {name}"):
            filled.columns.delete(name)
        with pytest.raises(KeyError, match=f"Cannot remove: {name}"):
            del filled.columns[name]
    filled.commit("fewer")
    assert set(repository.checkout()) == {*KINDS, *FLAT} - {"text", "flat-text"}


def test_the_grammar_on_a_bucket(tmp_path):
    bucket = make_repository(f"memory://grammar-{tmp_path.name}", cache_dir=tmp_path)
    writer = bucket.checkout(write=True)
    fill_every_kind(writer)
    writer.commit("filled")
    writer.close()
    co = bucket.checkout()
    for kind in KINDS:
        expected = [value_of(kind, seed) for seed in (5, 1, 4)]
        assert all_same(co[(f"flat-{kind}", 0), (kind, "a", 0), (kind, 3, "x")], expected)
