"""One checkout for writing, used by several threads at once."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hangar_cloud.errors import MergeUnderWayError, StagingError
from tests.forked import passes_forked
from tests.repository.making import add_commit, make_repository, read_all

THREADS = 5


@pytest.fixture(autouse=True)
def _often_interrupted():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path)


def at_once(*works):
    """Run functions in threads of their own; the first error of any is raised."""
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result(60)


def image(number):
    return np.full(4000, number, np.int64)


def of_threads(work):
    """`work`, called with 0, 1, ... for each thread."""
    return [lambda each=each: work(each) for each in range(THREADS)]


def test_no_sample_is_lost_or_mixed_up_that_threads_write_in_a_block(repository):
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("images", prototype=image(0))

    def write(thread):
        for number in range(thread * 1000, thread * 1000 + 500):
            column[number] = image(number)

    with column:
        at_once(*of_threads(write))
        assert len(column) == THREADS * 500
    writer.commit("all")
    writer.close()
    assert repository.verify_repo_integrity()
    found = read_all(repository)["images"]
    assert len(found) == THREADS * 500
    assert all((value == key).all() for key, value in found.items())


def test_single_writes_and_deletions_of_threads_take_turns(repository):
    writer = repository.checkout(write=True)
    column = writer.add_str_column("text")
    nested = writer.add_str_column("nested", contains_subsamples=True)

    def write(thread):
        for number in range(8):
            column[f"{thread}-{number}"] = f"of {thread}"
            nested[thread, number] = f"of {thread}"
            writer.metadata[f"{thread}-{number}"] = "said"
        del column[f"{thread}-0"]
        nested[thread].pop(0)

    at_once(*of_threads(write))
    writer.commit("all")
    assert len(writer.metadata) == THREADS * 8
    writer.close()
    found = read_all(repository)
    assert found["text"] == {f"{t}-{n}": f"of {t}" for t in range(THREADS) for n in range(1, 8)}
    reader = repository.checkout()
    assert {key: len(reader["nested"][key]) for key in reader["nested"]} == dict.fromkeys(range(THREADS), 7)


def test_threads_that_extend_a_column_get_keys_of_their_own(repository):
    writer = repository.checkout(write=True)
    flat = writer.add_ndarray_column("flat", shape=(), dtype=np.int64)
    nested = writer.add_ndarray_column("nested", shape=(), dtype=np.int64, contains_subsamples=True)
    nested["a", 0] = np.array(-1)
    keys = []

    def extend(thread):
        for _ in range(5):
            keys.extend(flat.extend(np.full(7, thread)))
            nested["a"].extend(np.full(7, thread))

    at_once(*of_threads(extend))
    assert sorted(keys) == list(range(THREADS * 35))
    assert len(nested["a"]) == THREADS * 35 + 1


def test_what_is_written_beside_commits_is_in_one_of_them_and_can_be_read_all_the_time(repository):
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("images", prototype=image(0))
    column[0] = image(0)
    writing = threading.Event()

    def write(thread):
        for number in range(thread * 1000 + 1, thread * 1000 + 40):
            column[number] = image(number)

    def commit():
        for number in range(6):
            writer.metadata["commit"] = str(number)
            writer.commit(f"commit {number}")
        writing.wait(30)
        writer.metadata["commit"] = "last"
        writer.commit("last")

    def read():
        while not writing.is_set():
            for key, value in column.items():
                assert (value == key).all()
            for key in list(column):
                assert (column[key] == key).all()

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(commit), pool.submit(read)]
        try:
            at_once(*(lambda thread=thread: write(thread) for thread in range(3)))
        finally:
            writing.set()
        for other in others:
            other.result(60)
    writer.close()
    found = read_all(repository)["images"]
    assert len(found) == 1 + 3 * 39
    assert all((value == key).all() for key, value in found.items())


def test_columns_that_threads_add_are_all_there(repository):
    writer = repository.checkout(write=True)

    def add(thread):
        for number in range(4):
            writer.add_str_column(f"c{thread}-{number}")["x"] = "y"

    at_once(*of_threads(add))
    writer.commit("columns")
    writer.close()
    assert read_all(repository) == {f"c{t}-{n}": {"x": "y"} for t in range(THREADS) for n in range(4)}


@pytest.mark.parametrize("how", ["extend", "update", "update_batch", "nested update", "nested update_batch"])
def test_values_that_were_made_for_another_schema_are_refused(repository, how):
    writer = repository.checkout(write=True)
    nested = how.startswith("nested")
    column = writer.add_ndarray_column("x", shape=(4,), dtype=np.int32, contains_subsamples=nested)
    key = ("a", 99) if nested else 99
    column[key] = np.ones(4, np.int32)

    def values():
        for number in range(5):
            if number == 1:
                at_once(lambda: writer.columns.alter("x", dtype=np.float32))
            yield np.full(4, number, np.int32)

    given = [("a", number) for number in range(5)] if nested else range(5)
    with pytest.raises(StagingError, match="was altered while the values to be written were made or read"):
        if how == "extend":
            column.extend(values())
        elif how == "update":
            column.update(zip(given, values(), strict=True))
        elif how == "nested update":
            column.update({"a": enumerate(values())})
        else:
            column.update_batch(given, values())
    column = writer.columns["x"]
    assert column[key].dtype == np.float32
    assert (len(column), (column[key] == 1).all()) == (1, True)
    writer.commit("altered")
    assert repository.verify_repo_integrity()


def test_writes_beside_alterations_are_stored_as_they_were_meant_or_refused(repository):
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("x", shape=(4,), dtype=np.int32)
    written, ended = {}, threading.Event()

    def write(thread):
        number = thread * 100_000
        while not ended.is_set():
            number += 1
            column = writer.columns["x"]
            value = np.full(4, number, column.dtype)
            try:
                if number % 2:
                    column[number] = value
                else:
                    column.update({number: value})
            except (ValueError, RuntimeError):
                continue
            written[number] = True

    def alter():
        try:
            for number in range(12):
                writer.columns.alter("x", dtype=np.float64 if number % 2 == 0 else np.int32)
        finally:
            ended.set()

    at_once(*(lambda thread=thread: write(thread) for thread in range(3)), alter)
    writer.commit("all")
    writer.close()
    assert repository.verify_repo_integrity()
    found = read_all(repository)["x"]
    assert found.keys() == written.keys()
    assert all((value == key).all() for key, value in found.items())


def test_a_strategy_may_read_the_checkout_in_threads_but_none_may_write(repository):
    add_commit(repository, {0: image(0), 1: image(1)})
    repository.create_branch("other")
    add_commit(repository, {0: image(10)})
    add_commit(repository, {0: image(20)}, branch="other")
    writer = repository.checkout(write=True, branch="master")

    def write():
        with pytest.raises(MergeUnderWayError):
            writer["array", 5] = image(5)

    def strategy(column, key, ancestor, ours, theirs):
        at_once(lambda: np.testing.assert_array_equal(writer["array", 1], image(1)), write)
        return theirs

    writer.merge("merged", "other", strategy=strategy)
    writer.close()
    assert (read_all(repository)["array"][0] == 20).all()


def test_a_child_that_is_forked_amid_a_write_is_refused_and_does_not_wait(repository):
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("images", prototype=image(0))
    stop = threading.Event()

    def write():
        number = 0
        with column:
            while not stop.is_set():
                column[number % 50] = image(number)
                number += 1

    def is_refused():
        with pytest.raises(PermissionError):
            column[1] = image(1)
        return True

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            assert passes_forked(is_refused)
    finally:
        stop.set()
        thread.join()
    writer.close()
