"""Several processes and threads on one repository, and writers that are killed."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.making import add_commit, finish, make_repository, read_all, start_process, wait_for_line

READER = """
    import sys, time
    import numpy as np
    from hangar_cloud import Repository
    repository = Repository(sys.argv[1])
    print("ready", flush=True)
    seen, passes = set(), 0
    while True:
        checkout = repository.checkout()
        numbers = {key: value for key, value in checkout["numbers"].items()}
        for key, value in numbers.items():
            assert (value == value[0]).all() and checkout["numbers", key][0] == value[0]
        generation = {int(value[0]) for value in numbers.values()}
        assert len(generation) == 1, f"a commit is seen as a whole: {generation}"
        assert checkout["log"][0] == f"commit {generation.pop()}"
        seen.add(checkout.commit_hash)
        passes += 1
        last = checkout["log"][0]
        checkout.close()
        if last == f"commit {sys.argv[2]}":
            break
    print(passes, len(seen))
"""

WRITER = """
    import sys
    import numpy as np
    from hangar_cloud import Repository
    writer = Repository(sys.argv[1]).checkout(write=True)
    for generation in range(1, int(sys.argv[2]) + 1):
        with writer["numbers"] as numbers:
            for key in range(40):
                numbers[key] = np.full(500, generation, np.int64)
        writer["log"][0] = f"commit {generation}"
        writer.commit(f"commit {generation}")
    writer.close()
"""


def test_two_processes_read_while_a_third_writes_and_commits(tmp_path):
    repository = make_repository(tmp_path / "r")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("numbers", shape=(500,), dtype=np.int64).update(
        {k: np.zeros(500, np.int64) for k in range(40)}
    )
    writer.add_str_column("log")[0] = "commit 0"
    writer.commit("commit 0")
    writer.close()
    readers = [start_process(READER, repository.path, "15") for _ in range(2)]
    assert [wait_for_line(reader) for reader in readers] == ["ready", "ready"]
    finish(start_process(WRITER, repository.path, "15"))
    for reader in readers:
        passes, commits = map(int, finish(reader).split())
        assert passes >= commits >= 2
    assert len(repository.log(return_contents=True)["order"]) == 16


# Prints a number only after the sample of that number is durable.
KILLED_BETWEEN = """
    import sys
    import numpy as np
    from hangar_cloud import Repository
    writer = Repository(sys.argv[1]).checkout(write=True)
    column = writer["c"]
    for number in range(int(sys.argv[2]), 10**9):
        column[number] = np.full(700, number, np.int64)
        print(number, flush=True)
        if number % 50 == 49:
            writer.commit(str(number))
"""

KILLED_INSIDE = """
    import sys
    import numpy as np
    from hangar_cloud import Repository
    writer = Repository(sys.argv[1]).checkout(write=True)
    column = writer["c"]
    start = int(sys.argv[2])
    while True:
        with column:
            for number in range(start, start + 30):
                column[number] = np.full(700, number, np.int64)
        print(start + 29, flush=True)
        start += 30
        if start % 90 == 0:
            writer.commit(str(start))
"""


def killed_at_random(script, path, first, seconds):
    """Run a writer, kill it, and return the last number that it had reported as durable."""
    process = start_process(script, path, str(first))
    reported = wait_for_line(process)
    killer = threading.Timer(seconds, process.send_signal, [signal.SIGKILL])
    killer.start()
    for line in process.stdout:
        if line.endswith("\n"):
            reported = line
    process.communicate()
    killer.join()
    assert process.returncode == -signal.SIGKILL
    return int(reported)


@pytest.mark.parametrize("script", [KILLED_BETWEEN, KILLED_INSIDE], ids=["between blocks", "inside blocks"])
def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path, script):
    repository = make_repository(tmp_path / "r")
    add_commit(repository, {0: np.zeros(700, np.int64)}, column="c")
    generator = random.Random(1)
    durable = 0
    for _ in range(6):
        last = killed_at_random(script, repository.path, durable + 1, generator.uniform(0.01, 0.5))
        assert repository.writer_lock_held is False, "its lock died with it"
        writer = Repository(repository.path).checkout(write=True)
        column = writer["c"]
        keys = list(column)
        assert keys[: last + 1] == list(range(last + 1)), "everything reported as durable is there"
        assert len(column) == len(keys)
        for key in keys:
            value = column[key]
            assert value.shape == (700,)
            assert (value == key).all()
        durable = keys[-1]
        writer.close()
    writer = repository.checkout(write=True)
    if writer._working.dirty:
        writer.commit("what the dead left")
    writer.close()
    found = read_all(Repository(repository.path))["c"]
    assert list(found) == list(range(durable + 1))
    assert all((value == key).all() for key, value in found.items())


COMMITS = """
    import sys
    import numpy as np
    from hangar_cloud import Repository
    writer = Repository(sys.argv[1]).checkout(write=True)
    start = int(sys.argv[2])
    print("ready", flush=True)
    while True:
        writer["c"].update({n: np.full(3000, n, np.int32) for n in range(start, start + 20)})
        writer.commit(str(start))
        print(start + 19, flush=True)
        start += 20
"""


def test_a_writer_killed_while_committing_has_committed_or_not(tmp_path):
    repository = make_repository(tmp_path / "r")
    add_commit(repository, {0: np.zeros(3000, np.int32)}, column="c")
    generator = random.Random(2)
    reported = 0
    for _ in range(6):
        last = wait = None
        process = start_process(COMMITS, repository.path, str(reported + 1))
        wait_for_line(process)
        wait = threading.Timer(generator.uniform(0.0, 0.25), process.send_signal, [signal.SIGKILL])
        wait.start()
        lines = [line for line in process.stdout if line.endswith("\n")]
        process.communicate()
        last = int(lines[-1]) if lines else reported
        committed = list(read_all(Repository(repository.path))["c"])
        assert committed[: last + 1] == list(range(last + 1)), "what was reported as committed is"
        writer = Repository(repository.path).checkout(write=True)
        if writer._working.dirty:
            writer.commit("the rest")
        found = dict(writer["c"].items())
        writer.close()
        reported = max(found)
        assert list(found) == list(range(reported + 1))
        assert all((value == key).all() for key, value in found.items())
        assert read_all(Repository(repository.path))["c"].keys() == found.keys()


def read_one(column, key):
    """For pools: the sum of one sample."""
    return float(column[key].sum())


def read_through_checkout(checkout, key):
    """For pools: text and array of one key, and a batch."""
    return (
        checkout["text", key],
        float(checkout["array", key].sum()),
        checkout["array"].get_batch([key, 0])[:, 0].tolist(),
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_columns_and_checkouts_in_pools(committed, method, recwarn):
    checkout = committed.checkout()
    column = checkout["array"]
    assert column[1][0] == 1, "used before the workers start"
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(read_one, [(column, key) for key in range(10)]) == [3.0 * key for key in range(10)]
        expected = [(f"text {key}", 3.0 * key, [key, 0]) for key in range(10)]
        assert pool.starmap(read_through_checkout, [(checkout, key) for key in range(10)]) == expected
    checkout.close()


def test_a_pickled_column_reads_the_commit_it_was_pickled_at(committed):
    checkout = committed.checkout()
    pickled = pickle.dumps((checkout, checkout["array"], checkout["text"]))
    checkout.close()
    add_commit(committed, {0: np.full(3, 99, np.float32)})
    again, array, text = pickle.loads(pickled)
    assert (array[0][0], again["array", 0][0], text[3]) == (0, 0, "text 3")
    again.close()
    with pytest.raises(PermissionError):
        again["array"]


def test_threads_share_a_checkout(tmp_path):
    repository = make_repository(tmp_path / "r")
    values = {n: np.full(2000, n, np.int16) for n in range(500)}
    add_commit(repository, values, column="c")
    checkout = Repository(repository.path).checkout()
    column = checkout["c"]

    def work(seed):
        keys = random.Random(seed).choices(range(500), k=200)
        assert all((column[key] == key).all() for key in keys)
        assert column.get_batch(keys)[:, 7].tolist() == keys
        assert checkout["c"] is column
        return len(list(column.keys()))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [500] * 16
    checkout.close()


def test_threads_open_and_close_checkouts(committed):
    def work(_):
        checkout = committed.checkout()
        total = sum(value[0] for value in checkout["array"].values())
        checkout.close()
        return total

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(40))) == [45.0] * 40


def test_a_reader_used_before_a_fork_works_after_it(committed):
    checkout = committed.checkout()
    assert checkout["blob", 3] == b"\3" * 200
    with multiprocessing.get_context("fork").Pool(2, initializer=time.sleep, initargs=(0,)) as pool:
        assert pool.map(checkout["blob"].__getitem__, range(10)) == [bytes([key]) * 200 for key in range(10)]
    assert checkout["blob", 4] == b"\4" * 200
    checkout.close()
