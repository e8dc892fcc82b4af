"""Repacking a bucket while others read it, write to it, collect its garbage and repack it too."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.moves import moves_path
from hangar_cloud.backends.store import CountingStore, open_store
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import GarbageCollectionError, HangarError
from tests.repository.making import add_commit, finish, make_repository, noise, read_all, start_process, wait_for_line
from tests.repository.stepping import Killed, step_through
from tests.repository.test_repack import ALL, assert_held, moves_of, objects, small_commits

SIZE = 500


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.2)


@pytest.fixture
def open_memory(tmp_path):
    """Opens a bucket in this process's memory, as if on a machine of the given name."""
    url = f"memory://repack-{uuid4().hex}"
    make_repository(url, cache_dir=tmp_path / "maker")
    return lambda machine: Repository(url, cache_dir=tmp_path / machine)


def many_commits(repository: Repository, count: int) -> list[str]:
    """That many commits of one sample each, by one writer."""
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("array", prototype=noise(0, SIZE))
    digests = []
    for n in range(count):
        column[n] = noise(n, SIZE)
        digests.append(writer.commit(f"sample {n}"))
    writer.close()
    return digests


READ_ALL = """
    import sys, json
    from hangar_cloud import Repository
    url, options, cache = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    repository = Repository(url, storage_options=options, cache_dir=cache)
    found = {}
    for digest in json.loads(sys.stdin.read()):
        column = repository.checkout(commit=digest)["array"]
        found[digest] = [[key, int(value.astype(int).sum())] for key, value in column.items()]
    print(json.dumps(found))
"""


@pytest.mark.timeout(600)
def test_120_small_commits_become_few_objects_and_each_is_read_cold_from_another_process(
    open_bucket, s3_url, s3_options, tmp_path
):
    repository = open_bucket("one")
    digests = many_commits(repository, 120)
    log = repository.log(return_contents=True)
    before = {kind: len(objects(repository, kind)) for kind in ("packs", "records")}
    assert before == {"packs": 120, "records": 120}
    report = repository.repack()
    assert {kind: count.objects for kind, count in report.made.items()} == {"packs": 1, "records": 1}
    assert repository.gc(**ALL).total == report.freed
    assert {kind: len(objects(repository, kind)) for kind in before} == {"packs": 1, "records": 1}
    assert len(moves_of(repository)) == 1
    fresh = open_bucket("two")
    assert fresh.log(return_contents=True) == log
    assert fresh.verify_repo_integrity()
    process = start_process(READ_ALL, s3_url, json.dumps(s3_options), str(tmp_path / "three"))
    found = json.loads(finish(process, json.dumps(digests)))
    sums = [int(noise(n, SIZE).astype(int).sum()) for n in range(120)]
    for n, digest in enumerate(digests):
        assert found[digest] == [[key, sums[key]] for key in range(n + 1)]


def test_a_reader_in_another_process_reads_on_throughout(open_bucket, s3_url, s3_options, tmp_path):
    script = """
        import sys, json, itertools
        from hangar_cloud import Repository
        url, options, cache = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
        stop = False
        import threading
        def wait():
            global stop
            sys.stdin.readline()
            stop = True
        threading.Thread(target=wait, daemon=True).start()
        kept = Repository(url, storage_options=options, cache_dir=cache + "/kept").checkout()
        count = 0
        for n in itertools.count():
            fresh = Repository(url, storage_options=options, cache_dir=f"{cache}/{n}").checkout()
            for key in range(n % 7, 30, 7):
                assert (fresh["array", key] == kept["array", key]).all()
                count += 1
            fresh.close()
            print("read", flush=True)
            if stop:
                break
        print(count)
    """
    repository = open_bucket("one")
    many_commits(repository, 30)
    process = start_process(script, s3_url, json.dumps(s3_options), str(tmp_path / "reader"))
    wait_for_line(process)
    for n in range(3):
        repository.repack()
        repository.gc(**ALL)
        wait_for_line(process)
        add_commit(repository, {1000 + n: noise(n + 1000, SIZE)})
    assert int(finish(process, "stop\n").split()[-1]) >= 4
    assert len(moves_of(repository)) == 3


def test_what_is_cold_after_a_repack_costs_three_round_trips_more_once(open_memory):
    """The object that is not there, the log of moves, which of the places are there; then everything is known."""
    repository = open_memory("one")
    many_commits(repository, 10)

    def requests(machine: str) -> tuple[int, int]:
        fresh = open_memory(machine)
        counting = CountingStore(fresh._storage.store)
        fresh._storage.store = counting
        checkout = fresh.checkout()
        assert checkout["array", 3].tobytes() == noise(3, SIZE).tobytes()
        first = counting.requests.total()
        counting.reset()
        assert checkout["array", 7].tobytes() == noise(7, SIZE).tobytes()
        return first, counting.requests.total()

    before = requests("cold")
    repository.repack()
    assert requests("repacked") == before
    repository.gc(**ALL)
    after = requests("collected")
    assert after[1] == before[1]
    assert after[0] <= before[0] + 6


def test_a_writer_commits_and_reuses_old_places_during_a_repack_and_after_the_collection(open_memory):
    repository = open_memory("one")
    many_commits(repository, 6)
    writer = open_memory("two").checkout(write=True)
    writer["array", 100] = noise(2, SIZE)
    committed = []

    def commit(step: int, operation: str, argument: Any) -> None:
        if operation == "put_if_absent" and str(argument).startswith("moves/") and not committed:
            committed.append(writer.commit("during"))

    step_through(repository, commit)
    repository.repack()
    assert committed
    writer["array", 101] = noise(3, SIZE)
    writer["array", 102] = noise(102, SIZE)
    repository = open_memory("one")
    repository.gc(**ALL)
    writer.commit("after")
    writer.close()
    packs = objects(repository, "packs")
    fresh = open_memory("two")
    writer = fresh.checkout(write=True)
    writer["array", 103] = noise(4, SIZE)
    writer.commit("found where it was moved to")
    writer.close()
    assert objects(repository, "packs") == packs
    repository.gc(**ALL)
    found = read_all(open_memory("three"))["array"]
    for key, number in {100: 2, 101: 3, 102: 102, 103: 4, **{n: n for n in range(6)}}.items():
        assert found[key].tobytes() == noise(number, SIZE).tobytes()
    assert repository.verify_repo_integrity()


def test_a_writer_finds_at_commit_that_what_it_reuses_was_moved_and_collected(open_memory):
    repository = open_memory("one")
    first = many_commits(repository, 2)[-1]
    repository.create_branch("side", first)
    add_commit(repository, {5: noise(5, SIZE)}, branch="side")
    writer = repository.checkout(write=True, branch="master")
    writer["array", 50] = noise(5, SIZE)
    other = open_memory("two")
    other.repack()
    other.gc(**ALL)
    before = objects(repository, "packs")
    writer.commit("reused")
    writer.close()
    assert objects(repository, "packs") == before
    repository.remove_branch("side", force_delete=True)
    repository.gc(**ALL)
    assert read_all(open_memory("three"))["array"][50].tobytes() == noise(5, SIZE).tobytes()
    assert repository.verify_repo_integrity()


@pytest.fixture
def copies(open_memory, monkeypatch):
    """Makes copies of a bucket with three small commits; opens each as if on a machine of its own."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.01)
    original = open_memory("original")
    held = small_commits(original, range(3))
    store = original._storage.store

    def copy():
        url = f"memory://repack-copy-{uuid4().hex}"
        target = open_store(url)
        for info in list(store.list()):
            target.put(info.path, store.get(info.path))
        return lambda machine: Repository(url, cache_dir=original._storage.root.parent / f"{url[-8:]}-{machine}")

    return copy, held


def each_step(copies, work, meanwhile):
    """Do `work`, and at each of its steps in turn, each time in another copy of the bucket, `meanwhile`.

    Yields the copy after each time; the end is where there was no such step.
    """
    number = 0
    happened = True
    while happened:
        number += 1
        happened = False
        copy = copies[0]()

        def interrupt(step: int, operation: str, argument: Any, copy: Any = copy, at: int = number) -> None:
            nonlocal happened
            if step == at:
                happened = True
                meanwhile(copy)

        repository = copy("one")
        step_through(repository, interrupt)
        with suppress(Killed):
            work(repository)
        yield copy
    assert number > 10


def kill(copy) -> None:
    raise Killed


def collect(copy) -> None:
    copy("two").gc(**ALL)


def repack(copy) -> None:
    copy("two").repack()


def repack_and_collect(copy) -> None:
    repack(copy)
    collect(copy)


def test_a_repack_that_is_killed_before_any_of_its_steps_can_be_run_again(copies):
    for copy in each_step(copies, Repository.repack, kill):
        assert_held(copy("cold"), copies[1])
        repository = copy("one")
        repository.repack()
        repository.gc(**ALL)
        assert len(objects(repository, "packs")) == len(objects(repository, "records")) == 1
        assert_held(copy("colder"), copies[1])


@pytest.mark.parametrize("meanwhile", [repack, repack_and_collect, collect])
def test_others_repack_and_collect_at_any_step_of_a_repack(copies, meanwhile):
    for copy in each_step(copies, Repository.repack, meanwhile):
        assert_held(copy("cold"), copies[1])
        copy("three").gc(**ALL)
        assert len(objects(copy("one"), "packs")) == 1
        assert copy("four").verify_repo_integrity()


def test_a_repack_at_any_step_of_a_collection_loses_nothing(copies):
    for copy in each_step(copies, lambda repository: repository.gc(**ALL), repack):
        assert_held(copy("cold"), copies[1])
        assert copy("four").verify_repo_integrity()


def test_repacks_and_collections_at_once_beside_a_writer(open_memory):
    small_commits(open_memory("one"), range(4))
    errors: list[HangarError] = []
    stop = threading.Event()

    def repeat(machine: str, action: Any) -> None:
        while not stop.is_set():
            try:
                action(open_memory(machine))
            except GarbageCollectionError:
                continue
            except HangarError as error:
                errors.append(error)
                return

    actions = {"a": Repository.repack, "b": Repository.repack, "c": lambda r: r.gc(**ALL), "d": read_all}
    threads = [threading.Thread(target=repeat, args=item) for item in actions.items()]
    for thread in threads:
        thread.start()
    try:
        held = small_commits(open_memory("writer"), range(10, 18))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert_held(open_memory("last"), held)
    assert open_memory("last").verify_repo_integrity()


def test_a_bucket_that_is_out_of_reach_is_not_repacked(open_bucket, s3_url, s3_options, tmp_path):
    repository = open_bucket("one")
    many_commits(repository, 3)
    offline = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "one", offline=True)
    with pytest.raises(ConnectionError, match=r"cannot repack a bucket: .*offline=True"):
        offline.repack()
    assert not repository._storage.store.exists(moves_path(0))
