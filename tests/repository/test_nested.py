"""Nested columns: samples that are sets of subsamples."""

from __future__ import annotations

import copy
import pickle
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.column_reader import FlatSampleReader
from hangar_cloud.column_writer import FlatSampleWriter
from hangar_cloud.errors import (
    ClosedError,
    InvalidArgumentError,
    InvalidNameError,
    InvalidSampleError,
    SampleNotFoundError,
)
from hangar_cloud.nested_reader import FlatSubsampleReader, NestedSampleReader
from hangar_cloud.nested_writer import FlatSubsampleWriter, NestedSampleWriter
from tests.repository.making import same
from tests.repository.nesting import KEYS, KINDS, add_columns, agree, array, contents, value_of


@pytest.fixture
def nested(empty):
    """A writer checkout with nested columns of every kind."""
    checkout = empty.checkout(write=True)
    add_columns(checkout)
    yield checkout
    if checkout._alive.open and empty.writer_lock_held:
        checkout.close()


@pytest.fixture
def column(nested):
    """A nested column with the samples "a" (subsamples 0, "0", 7) and 3 (subsample "x")."""
    column = nested["fixed"]
    column["a"] = {0: array(0), "0": array(1), 7: array(2)}
    column[3] = {"x": array(3)}
    return column


@pytest.mark.parametrize("kind", KINDS)
def test_values_keys_commit_and_reopen(nested, empty, kind):
    column = nested[kind]
    expected: dict[Any, dict[Any, Any]] = {}
    for i, sample in enumerate(KEYS):
        expected[sample] = {sub: value_of(kind, 10 * i + j) for j, sub in enumerate(KEYS)}
        column[sample] = expected[sample]
    assert agree(column, expected)
    nested.commit("first")
    assert agree(column, expected)
    reader = empty.checkout()
    assert agree(reader[kind], expected)
    del column["0"]["0"]
    del column[15]
    column[0][0] = expected[0][0] = value_of(kind, 200)
    column["new"] = expected["new"] = {1: value_of(kind, 201)}
    before = copy.deepcopy(expected)
    before["0"].pop("0")
    before.pop(15)
    assert agree(column, before)
    nested.close()
    again = empty.checkout(write=True)
    assert agree(again[kind], before), "staged"
    again.commit("second")
    assert agree(again[kind], before)
    assert agree(empty.checkout()[kind], before)
    again.close()


def test_what_a_nested_column_says_of_itself(column, nested, empty):
    nested.commit("x")
    reader = empty.checkout()["fixed"]
    for one, name, writable in ((column, "NestedSampleWriter", True), (reader, "NestedSampleReader", False)):
        said = (one.contains_subsamples, one.column_layout, one.column, one.iswriteable)
        assert said == (True, "nested", "fixed", writable)
        assert (one.column_type, one.schema_type, one.shape) == ("ndarray", "fixed_shape", (3,))
        assert (len(one), one.num_subsamples) == (2, 4)
        assert str(one).startswith(f"Hangar {name}\n    Column Name              : fixed\n")
        assert "\n    Number of Samples        : 2\n    Number of Subsamples     : 4\n" in str(one)
        assert repr(one).startswith(f"{name}(repo_path=")
        sample = one["a"]
        assert (sample.sample, sample.column, sample.iswriteable, len(sample)) == ("a", "fixed", writable, 3)
        assert (sample.contains_remote_references, sample.remote_reference_keys) == (False, ())
        assert (one.contains_remote_references, one.remote_reference_keys) == (False, ())
        kind = type(sample).__name__
        assert repr(sample) == f"{kind}(column_name='fixed', sample_name='a')"
        assert str(sample) == (
            f"Hangar {kind}\n    Column Name              : fixed\n    Sample Name              : a"
            f"\n    Writeable                : {writable}\n    Number of Subsamples     : 3"
        )
    assert issubclass(NestedSampleWriter, NestedSampleReader)
    assert issubclass(FlatSubsampleWriter, FlatSubsampleReader)
    assert issubclass(FlatSampleWriter, FlatSampleReader)
    assert "Num Data Pieces: 4" in "\n".join(_summary(empty))


def _summary(repository: Repository) -> list[str]:
    from hangar_cloud.reports import summary_lines

    storage = repository._storage
    head = storage.head("master")
    assert head is not None
    return list(summary_lines(storage, "", head.commit))


def test_a_sample_is_a_mapping(column):
    sample = column["a"]
    assert list(sample) == [0, 7, "0"]
    assert [key for key, _ in sample.items()] == [0, 7, "0"]
    assert [value[0] for value in sample.values()] == [0, 2, 1]
    assert list(sample[0:2]) == [0, 7]
    assert list(sample[-1:]) == ["0"]
    assert list(sample[::2]) == [0, "0"]
    assert list(column["a", 1:]) == [7, "0"]
    assert sample[5:9] == {}
    assert same(sample.get("0"), array(1))
    assert sample.get("nope", "default") == "default"
    assert list(sample.get(...)) == [0, 7, "0"]
    assert [key in sample for key in (0, "0", 1, None, ("a", 0))] == [True, True, False, False, False]
    assert column.get("nope") is None
    assert column.get(("a", "nope"), 5) == 5
    assert same(column.get(("a", 7)), array(2))
    assert [key in column for key in ("a", ("a", 7), "nope", ("a", 8), None)] == [True, True, False, False, False]
    assert isinstance(column.get("a"), FlatSubsampleReader)
    assert next(column.items())[0] == 3
    assert {type(value) for value in column.values()} == {FlatSubsampleWriter}
    assert [sample.sample for sample in column.values()] == list(column.keys(local=True)) == [3, "a"]
    with pytest.raises(KeyError, match="whole numbers"):
        sample["x":"y"]


def test_what_is_not_there_is_named(column):
    for use, words in (
        (lambda: column["nope"], r"column 'fixed' has no sample 'nope'"),
        (lambda: column["nope", 0], r"column 'fixed' has no sample 'nope'"),
        (lambda: column["nope", ...], r"column 'fixed' has no sample 'nope'"),
        (lambda: column["a", "x"], r"column 'fixed', sample 'a' has no subsample 'x'"),
        (lambda: column["a"]["x"], r"column 'fixed', sample 'a' has no subsample 'x'"),
        (lambda: column["a"].__delitem__("x"), r"column 'fixed', sample 'a' has no subsample 'x'"),
        (lambda: column["a"].pop("x"), r"column 'fixed', sample 'a' has no subsample 'x'"),
        (lambda: column.__delitem__("nope"), r"column 'fixed' has no sample 'nope'"),
        (lambda: column.pop("nope"), r"column 'fixed' has no sample 'nope'"),
        (lambda: column.get_batch([("a", 0), ("a", "x")]), r"sample 'a' has no subsample 'x'"),
        (lambda: column.get_batch(["a"]), r"its values have keys \(sample, subsample\); this is not one: 'a'"),
        (lambda: column["a"][1.5], r"column 'fixed', sample 'a', subsample: .*is not suitable"),
        (lambda: column["a", 0, 1], r"is nested: its values have keys"),
        (lambda: column["nope"].__setitem__("x", array(1)), "has no sample 'nope'"),
        (lambda: column[...], "is not suitable"),
    ):
        with pytest.raises(KeyError, match=words) as caught:
            use()
        assert type(caught.value) is SampleNotFoundError
    assert column.pop("nope", 5) == column["a"].pop("x", 5) == column.pop(("a", "x"), 5) == 5
    assert column.num_subsamples == 4


def test_assigning_merges(column):
    given = {7: array(9), "new": array(10)}
    column["a"] = given
    assert list(given) == [7, "new"]
    assert list(column["a"]) == [0, 7, "0", "new"]
    assert same(column["a", 7], array(9))
    column["b"] = [("x", array(1))]
    column["c"] = column["b"]
    column["c"] = {}
    column["none"] = {}
    assert "none" not in column
    assert list(column["c"].data) == ["x"]


def test_update_append_and_pop(column):
    column.update({"a": {"u": array(5)}, "b": [(0, array(6))]}, kw={1: array(7)})
    column.update([("a", {"v": array(8)}), (4, {0: array(9)})])
    assert list(column) == [3, 4, "a", "b", "kw"]
    assert list(column["a"]) == [0, 7, "0", "u", "v"]
    sample = column["b"]
    sample.update({1: array(1)}, two=array(2))
    sample.update([("three", array(3))])
    fresh = [sample.append(array(4)) for _ in range(3)]
    assert sorted(fresh) == fresh
    assert set(sample) == {0, 1, "two", "three", *fresh}
    assert same(sample.pop("two"), array(2))
    assert "two" not in sample
    popped = column.pop("b")
    assert set(popped) == {0, 1, "three", *fresh}
    assert same(popped["three"], array(3))
    assert same(column.pop((3, "x")), array(3))
    assert list(column) == [4, "a", "kw"]


def test_a_sample_goes_with_its_last_subsample(column, nested):
    sample = column[3]
    del sample["x"]
    assert 3 not in column
    assert list(column) == ["a"]
    uses = [lambda: sample["x"], lambda: len(sample), lambda: sample.data, lambda: repr(sample), lambda: "x" in sample]
    uses += [lambda: sample.update(y=array(1)), lambda: sample.append(array(1))]
    uses += [lambda: sample.__setitem__("y", array(1))]
    for use in uses:
        with pytest.raises(KeyError, match="column 'fixed' has no sample 3 any more"):
            use()
    column[3, "y"] = array(4)
    assert list(sample) == ["y"], "the accessor works again once the sample is back"
    nested.commit("x")
    del column["a"]
    assert list(column) == [3]
    nested.commit("y")
    assert (list(column), column.num_subsamples) == ([3], 1)


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (lambda c: c.__setitem__("a", array(1)), InvalidSampleError, "sample 'a': the column is nested.*not ndarray"),
        (lambda c: c.__setitem__("a", 5), InvalidSampleError, "a mapping from subsample keys to values, not int"),
        (lambda c: c.__setitem__("a", "xy"), InvalidSampleError, "not str"),
        (lambda c: c.__setitem__("a", [5]), InvalidSampleError, "column 'fixed', sample 'a': update.. takes a mapping"),
        (lambda c: c.__setitem__("a", {1: array(1), 2: 5}), InvalidSampleError, "sample 'a', subsample 2: .*not int"),
        (lambda c: c.__setitem__("a b", {1: array(1)}), InvalidNameError, "column 'fixed': sample key 'a b'"),
        (lambda c: c.__setitem__("a", {-1: array(1)}), InvalidNameError, "sample 'a', subsample: .* -1 is not"),
        (lambda c: c.__setitem__(("a", ...), array(1)), InvalidNameError, "sample 'a', subsample: .*Ellipsis"),
        (lambda c: c.__setitem__(("a",), array(1)), InvalidNameError, r"\('a',\) is not suitable"),
        (lambda c: c.update({"new": {1: array(1)}, "a": {1: "x"}}), InvalidSampleError, "sample 'a', subsample 1"),
        (lambda c: c.update({"new": {1: array(1)}, "a": 7}), InvalidSampleError, "sample 'a': the column is nested"),
        (lambda c: c.update([("new", {1: array(1)}), ("a", {True: array(1)})]), InvalidNameError, "subsample: .*True"),
        (lambda c: c.update(5), InvalidSampleError, "column 'fixed': update.. takes a mapping"),
        (lambda c: c["a"].update({1: array(1), 2: np.ones(4, "f4")}), InvalidSampleError, "subsample 2: .*shape"),
        (lambda c: c["a"].__setitem__(("x", 1), array(1)), InvalidNameError, "sample 'a', subsample: "),
        (lambda c: c["a"].append("x"), InvalidSampleError, "sample 'a', subsample '.*takes numpy.ndarray, not str"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(column, nested, write, error, words):
    before = {key: {sub: value.tobytes() for sub, value in subs.items()} for key, subs in contents(column).items()}
    sequence = nested._staging._sequence
    with pytest.raises(ValueError, match=words) as caught:
        write(column)
    assert type(caught.value) is error
    after = {key: {sub: value.tobytes() for sub, value in subs.items()} for key, subs in contents(column).items()}
    assert (after, nested._staging._sequence) == (before, sequence)


def test_with_blocks_of_columns_samples_and_checkouts(column, nested):
    for block in (column, column["a"], nested):
        sequence = nested._staging._sequence
        with block as opened:
            assert opened is block
            column["a"]["w"] = array(1)
            column["b", 0] = array(2)
            assert same(column["a", "w"], array(1))
            assert nested._staging._sequence == sequence
            with pytest.raises(PermissionError, match="leave the block first"):
                nested.add_str_column("new")
        assert nested._staging._sequence > sequence


def test_writing_while_iterating(column, nested):
    nested.commit("x")
    seen = []
    for key, sample in column.items():
        seen.append(key)
        column[f"new-{key}"] = {0: array(1)}
        for sub, value in sample.items():
            sample[f"new-{sub}"] = value
    assert seen == [3, "a"]
    assert list(column) == [3, "a", "new-3", "new-a"]
    for _ in column["a"].items():
        nested["text", "k", "t"] = uuid4().hex
        nested.commit("between")
    assert list(column["a"]) == [0, 7, "0", "new-0", "new-7"]


def test_the_checkout_is_indexed(column, nested, empty):
    text = nested.add_str_column("flat")
    text.update({"0": "zero", "1": "one"})
    nested["fixed", "b", 0] = array(20)
    nested["fixed", "b"] = {1: array(21)}
    nested["flat", 5] = "five"
    nested.commit("x")
    for co in (nested, empty.checkout()):
        assert same(co["fixed", "b", 0], array(20))
        assert co["fixed", "b"].sample == "b"
        assert list(co["fixed", "b", ...]) == list(co["fixed", "b", :]) == [0, 1]
        assert list(co["fixed", "b", 0:1]) == [0]
        assert co["flat", ["0", "1"]] == ["zero", "one"]
        assert [value[0] for value in co["fixed", "b", [1, 0]]] == [21, 20]
        assert [sample.sample for sample in co["fixed", ["b", 3]]] == ["b", 3]
        assert [value[0] for value in co["fixed", [("b", 0), ("a", 7)]]] == [20, 2]
        mixed = co[("fixed", "b", 0), ("flat", "0"), ["fixed", "a", ...], ("fixed", "a"), ("flat",)]
        assert same(mixed[0], array(20))
        assert (mixed[1], list(mixed[2]), mixed[3].sample, len(mixed[4])) == ("zero", [0, 7, "0"], "a", 3)
        assert co[[("flat", "1"), ("flat", "0")]] == ["one", "zero"]
        for index in (("fixed", "b", 9), ("fixed", "q", 0), ("fixed", "q"), ("q", 0), ("q", 0, 0), ("fixed", "q", ...)):
            assert co.get(index) is None
            assert co.get(index, default=5) == 5
            assert co.get([index, ("flat", "0")], default=5) == [5, "zero"]
            with pytest.raises(KeyError):
                co[index]
            with pytest.raises(KeyError):
                co.get(index, except_missing=True)
        assert co.get(("flat", ["0", "nope"]), "none") == ["zero", "none"]
        assert [co.get(("fixed", "b", ["nope", 0]), 5)[0]] == [5]
        with pytest.raises(KeyError, match="'nope'"):
            co["flat", ["0", "nope"]]
        for wrong, words in (
            (("flat", "0", 1), "column 'flat' is flat, without subsamples"),
            (("fixed", "b", 0, 1), "column 'fixed' is nested: index it by"),
            ((("flat", "0"), ...), "each of several indices must be"),
            ((("flat", "0"), "flat"), "each of several indices must be"),
            ((("flat", "0"), (5, 6)), "each of several indices must be"),
            (5, "a checkout is indexed by"),
            ((), "a checkout is indexed by"),
        ):
            with pytest.raises(ValueError, match=words) as caught:
                co[wrong]
            assert type(caught.value) is InvalidArgumentError
    for place in ("flat", ("flat",), ("flat", "0", 1), ("fixed", "b", 0, 1), (("flat", "0"), ("flat", "1"))):
        with pytest.raises(ValueError, match=r"checkout is written to as|flat, without|is nested: index") as caught:
            nested[place] = "x"
        assert type(caught.value) is InvalidArgumentError


def test_readers_take_no_writes(column, nested, empty):
    nested.commit("x")
    reader = empty.checkout()
    for use in (
        lambda: reader["fixed"].__setitem__("a", {}),
        lambda: reader["fixed"].pop("a"),
        lambda: reader["fixed"]["a"].update({}),
        lambda: reader["fixed"]["a"].append(array(1)),
    ):
        with pytest.raises(AttributeError):
            use()
    with pytest.raises(TypeError):
        reader["fixed"]["a"][0] = array(1)


@pytest.mark.parametrize("writing", [False, True])
def test_nothing_is_used_after_close(column, nested, empty, writing):
    nested.commit("x")
    co = nested if writing else empty.checkout()
    column, sample = co["fixed"], co["fixed"]["a"]
    walks = [iter(column), column.items(), iter(sample), sample.items()]
    co.close()
    uses = [
        *[lambda walk=walk: next(walk) for walk in walks],
        *[lambda: column["a"], lambda: len(column), lambda: column.num_subsamples, lambda: "a" in column],
        *[lambda: list(column.values()), lambda: repr(column), lambda: str(column), lambda: column.get("a")],
        *[lambda: sample[0], lambda: sample[...], lambda: len(sample), lambda: sample.data, lambda: sample.sample],
        *[lambda: sample.column, lambda: 0 in sample, lambda: list(sample.items()), lambda: sample.get(0)],
        *[lambda: repr(sample), lambda: str(sample), lambda: sample.remote_reference_keys, lambda: sample.iswriteable],
        *[lambda: sample.contains_remote_references, sample.__enter__, lambda: pickle.dumps(sample)],
    ]
    if writing:
        uses += [lambda: sample.__setitem__(0, array(1)), lambda: sample.update({}), lambda: sample.append(array(1))]
        uses += [lambda: sample.__delitem__(0), lambda: sample.pop(0), lambda: column.update({})]
        uses += [lambda: column.pop("a"), lambda: column.__delitem__("a"), lambda: column.__setitem__("a", {})]
    for use in uses:
        with pytest.raises(PermissionError) as caught:
            use()
        assert type(caught.value) is ClosedError


def test_readers_pickle_and_writers_do_not(column, nested, empty):
    nested.commit("x")
    reader = empty.checkout()["fixed"]
    again = pickle.loads(pickle.dumps(reader))
    assert agree(again, contents(reader))
    sample = pickle.loads(pickle.dumps(reader["a"]))
    assert type(sample) is FlatSubsampleReader
    assert (sample.sample, list(sample)) == ("a", [0, 7, "0"])
    for one in (column, column["a"]):
        with pytest.raises(PermissionError, match="cannot be pickled"):
            pickle.dumps(one)


def test_reset_and_removed_columns(column, nested, empty):
    nested.commit("x")
    sample = column["a"]
    nested.columns.delete("fixed")
    for use in (lambda: column["a"], lambda: sample[0], lambda: repr(sample)):
        with pytest.raises(PermissionError):
            use()
    nested.reset_staging_area()
    assert list(empty.checkout()["fixed"]) == [3, "a"]
