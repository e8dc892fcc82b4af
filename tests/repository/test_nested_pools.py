"""Nested columns read by other processes and by threads, from this machine and from a bucket."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from hangar_cloud import Repository
from tests.repository.making import counted, make_repository, same
from tests.repository.nesting import KINDS, add_columns, agree, contents, value_of

METHODS = ["fork", "forkserver", "spawn"]
SAMPLES = [0, 1, "a", "b/c"]


def expected_of(kind):
    return {s: {sub: value_of(kind, 10 * i + j) for j, sub in enumerate([0, 1, "x"])} for i, s in enumerate(SAMPLES)}


@pytest.fixture
def original(tmp_path):
    """A local repository with nested columns of every kind and a flat one."""
    repository = make_repository(tmp_path / "original")
    co = repository.checkout(write=True)
    add_columns(co)
    for kind in KINDS:
        co[kind].update(expected_of(kind))
    co.add_str_column("flat").update({sample: f"flat {sample}" for sample in SAMPLES})
    co.commit("filled")
    co.close()
    return repository


@pytest.fixture
def clone(original, s3_url, s3_options, tmp_path):
    """A clone of it from S3 that holds no data."""
    original.remote.add("origin", s3_url, storage_options=s3_options)
    original.remote.push("origin", "master")
    made = Repository(tmp_path / "clone", exists=False)
    made.clone("Clone User", "clone@example.org", s3_url, storage_options=s3_options)
    return made


def read_column(column):
    """For pools: whether a whole column is as it should be, by every way to ask."""
    return agree(column, expected_of(column.column))


def read_sample(sample):
    """For pools: the key of a sample, and its subsamples."""
    assert len(sample) == 3
    assert [key for key, _ in sample.items()] == list(sample)
    return sample.sample, sample.data


def read_checkout(checkout, sample):
    """For pools: values of several columns at once, nested and flat."""
    return checkout[("text", sample, "x"), ("blob", sample, 0), ("flat", sample)]


def read_everything(co, pool):
    """Use columns, samples and the checkout in the workers of a pool."""
    assert all(pool.map(read_column, [co[kind] for kind in KINDS]))
    for kind in ("big", "variable"):
        for sample, data in pool.map(read_sample, list(co[kind].values())):
            expected = expected_of(kind)[sample]
            assert data.keys() == expected.keys()
            assert all(same(data[sub], value) for sub, value in expected.items())
    found = pool.starmap(read_checkout, [(co, sample) for sample in SAMPLES])
    text, blob = expected_of("text"), expected_of("blob")
    assert found == [[text[sample]["x"], blob[sample][0], f"flat {sample}"] for sample in SAMPLES]


@pytest.mark.parametrize("method", METHODS)
def test_processes_read_nested_columns_of_this_machine(original, method):
    co = original.checkout()
    assert co["text"][0][1] == expected_of("text")[0][1], "used before the workers start"
    with multiprocessing.get_context(method).Pool(2) as pool:
        read_everything(co, pool)
    assert all(agree(co[kind], expected_of(kind)) for kind in KINDS)


@pytest.mark.parametrize("method", METHODS)
def test_processes_fetch_nested_columns_from_a_bucket(clone, method):
    co = clone.checkout()
    assert co.columns.contains_remote_references["big"]
    with multiprocessing.get_context(method).Pool(2) as pool:
        read_everything(co, pool)
    counting = counted(clone)
    again = clone.checkout()
    assert all(agree(again[kind], expected_of(kind)) for kind in KINDS)
    assert counting.requests["get_range"] == 0, "what the workers fetched is here"
    assert not again.columns.contains_remote_references["big"]


def test_a_fork_after_fetching_fetches_on(clone):
    co = clone.checkout()
    assert same(co["big", 0, 0], expected_of("big")[0][0])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        read_everything(co, pool)
    assert agree(co["big"], expected_of("big"))


@pytest.mark.parametrize("place", ["here", "in a bucket"])
def test_threads_share_nested_readers(original, clone, place):
    co = (clone if place == "in a bucket" else original).checkout()
    samples = list(co["big"].values())

    def work(seed):
        choice = random.Random(seed)
        for _ in range(30):
            kind, sample, sub = choice.choice(KINDS), choice.choice(SAMPLES), choice.choice([0, 1, "x"])
            expected = expected_of(kind)[sample][sub]
            assert same(co[kind, sample, sub], expected)
            assert same(co[kind][sample][sub], expected)
            assert same(co[kind].get_batch([(sample, sub)])[0], expected)
        assert {sample.sample: sample.data.keys() for sample in samples} == {key: {0, 1, "x"} for key in SAMPLES}
        return agree(co["text"], expected_of("text"))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))
    assert contents(co["text"]) == expected_of("text")
