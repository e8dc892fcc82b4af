"""Nested columns killed, on buckets, in clones, over many leaves, in other processes, and against dicts of dicts."""

from __future__ import annotations

import copy
import multiprocessing
import os
import shutil
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangar_cloud import Repository
from hangar_cloud.errors import DataNotLocalError, InvalidNameError, NothingToCommitError, SampleNotFoundError
from tests.repository.making import make_repository
from tests.repository.nesting import KINDS, add_columns, agree, array, contents, value_of

EXAMPLES = int(os.environ.get("HANGAR_MODEL_EXAMPLES", "25"))


def fill(repository: Repository) -> dict[str, dict[Any, dict[Any, Any]]]:
    """One commit of every kind of nested column."""
    co = repository.checkout(write=True)
    add_columns(co)
    expected = {}
    for kind in KINDS:
        expected[kind] = {s: {j: value_of(kind, 10 * i + j) for j in range(4)} for i, s in enumerate(["a", 0, "0"])}
        co[kind].update(expected[kind])
    co.commit("filled")
    co.close()
    return expected


@pytest.fixture
def lazy(tmp_path):
    """A clone that holds no data, and what it should hold."""
    original = make_repository(tmp_path / "original")
    expected = fill(original)
    original.remote.add("origin", f"file://{tmp_path}/remote")
    original.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Other", "other@example.org", f"file://{tmp_path}/remote")
    return clone, expected


def test_what_a_killed_writer_leaves(empty, tmp_path):
    expected = fill(empty)["fixed"]
    co = empty.checkout(write=True)
    column = co["fixed"]
    column["a"]["k"] = expected["a"]["k"] = array(8)
    del column["0"]
    del expected["0"]
    column["b"] = expected["b"] = {0: array(9)}
    shutil.copytree(empty.path, tmp_path / "killed")
    co.close()
    again = Repository(tmp_path / "killed", exists=False).checkout(write=True)
    assert agree(again["fixed"], expected)
    again.commit("after")
    assert agree(again["fixed"], expected)
    again.close()


def test_directly_on_a_bucket(tmp_path):
    url = f"memory://nested-{uuid4().hex}"
    expected = fill(make_repository(url, cache_dir=tmp_path / "one"))
    there = Repository(url, cache_dir=tmp_path / "two")
    co = there.checkout()
    assert all(agree(co[kind], expected[kind]) for kind in KINDS)
    co = there.checkout(write=True)
    co["big", "a", 9] = expected["big"]["a"][9] = value_of("big", 99)
    co.commit("more")
    co.close()
    assert agree(Repository(url, cache_dir=tmp_path / "three").checkout()["big"], expected["big"])


def test_two_writers_on_a_bucket_write_other_subsamples_of_one_sample(tmp_path):
    url = f"memory://nested-{uuid4().hex}"
    expected = fill(make_repository(url, cache_dir=tmp_path / "one"))["fixed"]
    one = Repository(url, cache_dir=tmp_path / "one").checkout(write=True)
    two = Repository(url, cache_dir=tmp_path / "two").checkout(write=True)
    one["fixed", "a", "one"] = expected["a"]["one"] = array(1)
    two["fixed", "a", "two"] = expected["a"]["two"] = array(2)
    one.commit("one")
    two.commit("two")
    assert agree(two["fixed"], expected)
    one.close()
    two.close()


def test_a_clone_fetches_when_it_reads(lazy):
    clone, expected = lazy
    co = clone.checkout()
    column = co["big"]
    assert column.contains_remote_references
    assert column.remote_reference_keys == (0, "0", "a")
    assert list(column.keys(local=True)) == []
    sample = column["a"]
    assert (sample.contains_remote_references, sample.remote_reference_keys) == (True, (0, 1, 2, 3))
    assert (list(sample.keys(local=True)), list(sample.items(local=True))) == ([], [])
    assert co.columns.remote_sample_keys["big"] == (0, "0", "a")
    assert agree(column, expected["big"])
    assert (column.contains_remote_references, sample.contains_remote_references) == (False, False)
    assert list(column.keys(local=True)) == [0, "0", "a"]
    assert all(agree(co[kind], expected[kind]) for kind in KINDS)


@pytest.mark.parametrize(
    ("samples", "fetched"),
    [
        ([("a", 1)], {"a": [1]}),
        ([("a", 1), (0, 2), (0, 3)], {"a": [1], 0: [2, 3]}),
        ([("a", ...)], {"a": [0, 1, 2, 3]}),
        (["a", (0, 2)], {"a": [0, 1, 2, 3], 0: [2]}),
        ("a", {"a": [0, 1, 2, 3]}),
        (0, {0: [0, 1, 2, 3]}),
        ([("a",)], {"a": [0, 1, 2, 3]}),
    ],
    ids=repr,
)
def test_fetching_some_samples(lazy, samples, fetched):
    clone, expected = lazy
    digest = clone.checkout().commit_hash
    assert clone.remote.fetch_data_sample("origin", "big", samples, branch="master") == digest
    with pytest.warns(UserWarning, match="not all data of commit"):
        column = Repository(clone.path, offline=True).checkout()["big"]
    for sample, subs in fetched.items():
        # Neighbours in a shared block may come along.
        assert set(subs) <= set(column[sample].keys(local=True))
        assert agree_on(column[sample], expected["big"][sample], subs)


def agree_on(sample: Any, expected: dict[Any, Any], subs: list[Any]) -> bool:
    return all(np.array_equal(sample[sub], expected[sub]) for sub in subs)


def test_fetching_samples_that_are_not_there(lazy):
    clone, _ = lazy
    for samples in (["nope"], [("a", 9)], [("nope", ...)], [("nope", 0)]):
        with pytest.raises(KeyError, match="column 'big' has no sample") as caught:
            clone.remote.fetch_data_sample("origin", "big", samples, branch="master")
        assert type(caught.value) is SampleNotFoundError
    for wrong in ([("a", 0, 1)], [None], [(..., 0)]):
        with pytest.raises(ValueError, match="column .big.*not suitable") as refused:
            clone.remote.fetch_data_sample("origin", "big", wrong, branch="master")
        assert type(refused.value) is InvalidNameError


def test_what_is_missing_offline_is_named(lazy):
    clone, _ = lazy
    list(clone.checkout()["big"])
    with pytest.warns(UserWarning, match="not all data of commit"):
        column = Repository(clone.path, offline=True).checkout()["big"]
    for use in (lambda: column["a", 0], lambda: column["a"][0], lambda: column["a"].data, lambda: column.get(("a", 0))):
        with pytest.raises(FileNotFoundError, match="column 'big', sample 'a', subsample 0: ") as caught:
            use()
        assert type(caught.value) is DataNotLocalError


def _read_sample(sample: Any) -> tuple[Any, list[Any], float]:
    return sample.sample, list(sample), float(sample[0].sum())


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_accessors_are_read_in_other_processes(empty, method):
    expected = fill(empty)["fixed"]
    column = empty.checkout()["fixed"]
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.map(_read_sample, list(column.values()))
    assert found == [(key, [0, 1, 2, 3], float(expected[key][0].sum())) for key in (0, "0", "a")]


def test_a_sample_over_many_leaves(empty):
    count = 40_000
    co = empty.checkout(write=True)
    column = co.add_ndarray_column("many", shape=(), dtype=np.int64, contains_subsamples=True)
    column["before"] = {0: np.array(-1)}
    column["m"] = {i: np.array(i) for i in range(count)}
    column["n"] = {0: np.array(-2)}
    assert (len(column), len(column["m"]), column.num_subsamples) == (3, count, count + 2)
    co.commit("many")
    reader = empty.checkout()["many"]
    nodes = reader._nodes
    leaves = len(list(nodes.leaves(reader._entry.root)))
    assert leaves >= 4
    nodes.forget()
    nodes.loaded = 0
    assert list(reader) == ["before", "m", "n"]
    assert len(reader["m"]) == count
    assert nodes.loaded < leaves, "leaves within one sample are not read"
    data = reader["m"].data
    assert list(data) == list(range(count))
    assert all(int(data[i]) == i for i in range(0, count, 97))
    assert [int(value) for value in reader["m"][count - 2 :].values()] == [count - 2, count - 1]
    sample = column["m"]
    with sample:
        for i in range(100, 300, 2):
            del sample[i]
    assert len(sample) == count - 100
    assert list(sample)[98:103] == [98, 99, 101, 103, 105]
    del column["m"]
    assert list(column) == ["before", "n"]
    co.commit("less")
    assert contents(empty.checkout()["many"]) == {"before": {0: -1}, "n": {0: -2}}
    co.close()


def test_many_samples_of_few_subsamples(empty):
    co = empty.checkout(write=True)
    column = co.add_str_column("many", contains_subsamples=True)
    expected = {i: {"x": f"{i}", i: "y"} for i in range(10_000)}
    column.update(expected)
    assert (len(column), column.num_subsamples) == (10_000, 20_000)
    co.commit("many")
    reader = empty.checkout()["many"]
    assert contents(reader) == expected == contents(column)
    assert (len(reader), reader.num_subsamples) == (len(column), column.num_subsamples) == (10_000, 20_000)
    co.close()


SAMPLES = st.one_of(st.integers(0, 4), st.sampled_from(["0", "1", "s/t"]))
SUBSAMPLES = st.one_of(st.integers(0, 4), st.sampled_from(["0", "1", "x.png"]))
MAPPINGS = st.dictionaries(SUBSAMPLES, st.integers(0, 500), max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("set"), SAMPLES, SUBSAMPLES, st.integers(0, 500)),
    st.tuples(st.just("merge"), SAMPLES, MAPPINGS),
    st.tuples(st.just("update"), st.dictionaries(SAMPLES, MAPPINGS, max_size=3)),
    st.tuples(st.just("delete sample"), SAMPLES),
    st.tuples(st.just("delete"), SAMPLES, SUBSAMPLES),
    st.tuples(st.just("in block"), SAMPLES, st.lists(st.tuples(SUBSAMPLES, st.integers(0, 500)), max_size=4)),
    st.sampled_from([("commit",), ("reopen",), ("kill",)]),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(KINDS), steps=st.lists(STEPS, min_size=1, max_size=20))
def test_a_nested_column_is_a_dict_of_dicts(tmp_path_factory, kind, steps):
    folder = tmp_path_factory.mktemp("model")
    place = folder / "0"
    co = make_repository(place).checkout(write=True)
    add_columns(co)
    model: dict[Any, dict[Any, Any]] = {}
    committed: list[tuple[str, dict[Any, dict[Any, Any]]]] = []
    for number, (step, *given_) in enumerate(steps):
        column = co[kind]
        if step == "set":
            sample, sub, seed = given_
            if sample in model:
                column[sample][sub] = value_of(kind, seed)
            else:
                with pytest.raises(KeyError):
                    column[sample][sub] = value_of(kind, seed)
                co[kind, sample, sub] = value_of(kind, seed)
            model.setdefault(sample, {})[sub] = value_of(kind, seed)
        elif step in {"merge", "update"}:
            wanted = {given_[0]: given_[1]} if step == "merge" else given_[0]
            values = {s: {sub: value_of(kind, seed) for sub, seed in subs.items()} for s, subs in wanted.items()}
            if step == "merge":
                column[given_[0]] = values[given_[0]]
            else:
                column.update(values)
            for sample, subs in values.items():
                if subs:
                    model.setdefault(sample, {}).update(subs)
        elif step == "delete sample":
            if given_[0] in model:
                popped = column.pop(given_[0])
                assert popped.keys() == model.pop(given_[0]).keys()
            assert given_[0] not in column
        elif step == "delete":
            sample, sub = given_
            if sub in model.get(sample, {}):
                del column[sample][sub]
                del model[sample][sub]
                if not model[sample]:
                    del model[sample]
            assert (sample, sub) not in column
        elif step == "in block":
            with column:
                for sub, seed in given_[1]:
                    column[given_[0], sub] = value_of(kind, seed)
                    model.setdefault(given_[0], {})[sub] = value_of(kind, seed)
        elif step == "commit":
            try:
                committed.append((co.commit("model"), copy.deepcopy(model)))
            except NothingToCommitError:
                assert committed
                assert agree(column, committed[-1][1])
        else:
            if step == "kill":
                shutil.copytree(place, folder / str(number + 1))
            co.close()
            place = folder / str(number + 1) if step == "kill" else place
            co = Repository(place, exists=False).checkout(write=True)
        assert agree(co[kind], model)
    co.close()
    for digest, expected in committed:
        assert agree(Repository(place).checkout(commit=digest)[kind], expected)
    shutil.rmtree(folder)
