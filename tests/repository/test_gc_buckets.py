"""Garbage collection of a bucket: what goes, what stays, and what it says to those who are in the way."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore, ObjectStore, open_store
from hangar_cloud.catalog import condemned, tombstones
from hangar_cloud.errors import (
    AccessDeniedError,
    CorruptDataError,
    GarbageCollectionError,
    RefNotFoundError,
    StoreUnavailableError,
)
from tests.repository.making import add_commit, finish, noise, read_all, start_process
from tests.repository.stepping import Killed, step_through

ALL = {"grace": 0, "keep_reflog": 0}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.3)


@pytest.fixture
def forked(open_bucket):
    """A bucket with master, and a deleted branch "side"; and the tip of that."""
    repository = open_bucket("one")
    add_commit(repository, {n: noise(n) for n in range(5)})
    repository.create_branch("side")
    tip = add_commit(repository, {n: noise(n + 50) for n in range(3, 8)}, branch="side")
    repository.remove_branch("side", force_delete=True)
    return repository, tip


def data_of(store: ObjectStore) -> dict[str, int]:
    """Sizes of all commits, records and packs."""
    return {info.path: info.size for kind in ("commits", "records", "packs") for info in store.list(f"{kind}/")}


def test_a_bucket_is_as_small_as_a_fresh_push_of_the_same_branches(forked, s3_url, s3_options, tmp_path):
    repository, tip = forked
    planned = repository.gc(True, **ALL)
    report = repository.gc(**ALL)
    assert sorted(planned.names) == sorted(report.names)
    assert report.total.objects == 3
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("C", "c@example.org", s3_url, storage_options=s3_options)
    clone.remote.add("fresh", f"{s3_url}-fresh", storage_options=s3_options)
    clone.remote.push("fresh", "master")
    fresh = open_store(f"{s3_url}-fresh", s3_options)
    assert data_of(repository._storage.store) == data_of(fresh)
    assert repository.verify_repo_integrity()
    assert [info.path for info in fresh.list("gc/")] == []
    assert [info.path for info in repository._storage.store.list("gc/")] == ["gc/0000000000.done.json"]
    with pytest.raises(RefNotFoundError, match=rf"commit {tip[:12]} is not in .* any more"):
        repository.restore_branch("side")


def test_a_second_machine_reads_on_and_brings_nothing_dead_back(forked, open_bucket):
    repository, tip = forked
    other = open_bucket("two")
    assert other.checkout(commit=tip)["array"][7].tobytes() == noise(57).tobytes()
    repository.gc(**ALL)
    assert sorted(read_all(other)["array"]) == [0, 1, 2, 3, 4]
    for bring_back in (
        lambda: other.create_branch("again", tip),
        lambda: other.create_tag("again", tip),
        lambda: other.reset_branch("master", tip),
        lambda: other.restore_branch("side"),
    ):
        with pytest.raises(RefNotFoundError, match=rf"commit {tip[:12]} is not in .* any more"):
            bring_back()
    assert other.list_branches() == ["master"]


def test_the_grace_time_is_of_the_clock_of_the_store(forked):
    repository, _ = forked
    report = repository.gc(keep_reflog=0)
    assert report.total.objects == 0
    assert report.young.objects == 3
    assert repository.gc(grace=timedelta(seconds=60), keep_reflog=0).total.objects == 0
    time.sleep(2.1)
    assert repository.gc(grace=1, keep_reflog=0).total.objects == 3


def test_equal_samples_are_stored_once_while_their_pack_is_there(forked):
    repository, _ = forked
    counting = CountingStore(repository._storage.store)
    writer = repository.checkout(write=True)
    writer._committer.publisher._store = counting
    writer["array", 100] = noise(55)
    writer["array", 1] = noise(1)
    writer.commit("the same again")
    writer.close()
    assert counting.requests["upload"] == 0
    assert repository.gc(**ALL).removed["packs"].objects == 0
    assert repository.verify_repo_integrity()


@pytest.mark.parametrize("die", [False, True])
def test_samples_outlive_the_pack_that_they_were_found_in(forked, open_bucket, die):
    repository, _ = forked
    writer = repository.checkout(write=True)
    writer["array", 100] = noise(55)
    writer["array", 101] = noise(101)
    assert open_bucket("two").gc(**ALL).removed["packs"].objects == 1
    if die:  # and go on from what was staged
        writer.close()
        writer = open_bucket("one").checkout(write=True)
    digest = writer.commit("outlived")
    writer.close()
    found = read_all(open_bucket("three"), commit=digest)["array"]
    assert [found[100].tobytes(), found[101].tobytes()] == [noise(55).tobytes(), noise(101).tobytes()]
    assert repository.verify_repo_integrity()
    before = data_of(repository._storage.store)
    add_commit(open_bucket("one"), {200: noise(55), 201: noise(101)})
    after = data_of(repository._storage.store)
    assert [name for name in after if name.startswith("packs/") and name not in before] == []


def test_samples_under_their_own_keys_are_not_copied(forked):
    repository, _ = forked
    writer = repository.checkout(write=True)
    with writer["array"] as column:
        column[1] = noise(1)
    assert writer._staging.spares() == {}
    with column:
        column[77] = noise(2)
    assert len(writer._staging.spares()) == 1
    writer.reset_staging_area()


def test_a_stash_outlives_the_pack_that_it_was_found_in(forked, open_bucket):
    repository, _ = forked
    writer = repository.checkout(write=True)
    writer["array", 100] = noise(55)
    writer.stash("later")
    open_bucket("two").gc(**ALL)
    writer.stash.pop("later")
    writer.commit("popped")
    writer.close()
    assert read_all(open_bucket("three"))["array"][100].tobytes() == noise(55).tobytes()
    assert repository.verify_repo_integrity()


def test_a_merge_of_a_branch_that_is_deleted_meanwhile(forked, open_bucket):
    repository, _ = forked
    repository.restore_branch("side")
    tip = repository.reflog("side", 1)[0].commit
    add_commit(repository, {20: noise(20)})
    other = open_bucket("two")
    done: list[Any] = []

    def delete(step: int, operation: str, argument: Any) -> None:
        if operation == "put_if_absent" and str(argument).startswith("commits/") and not done:
            done.append(True)
            other.remove_branch("side", force_delete=True)
            other.gc(**ALL)

    merging = open_bucket("three")
    step_through(merging, delete)
    writer = merging.checkout(write=True)
    with pytest.raises(StoreUnavailableError, match=f"commits/{tip}.json vanished from the bucket"):
        writer.merge("too late", tip)
    writer.close()
    assert done
    assert open_bucket("four").verify_repo_integrity()
    assert sorted(read_all(open_bucket("five"))["array"]) == [0, 1, 2, 3, 4, 20]


def test_two_collections_at_once(forked, open_bucket):
    repositories = [open_bucket("two"), open_bucket("three"), open_bucket("four")]
    outcomes: list[Any] = []

    def collect(repository: Repository) -> None:
        try:
            outcomes.append(repository.gc(**ALL))
        except GarbageCollectionError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=collect, args=[repository]) for repository in repositories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 3
    repository, _ = forked
    assert repository.verify_repo_integrity()
    repository.gc(**ALL)
    assert len(data_of(repository._storage.store)) == 3


def test_one_that_is_still_deleting_is_not_disturbed(forked, open_bucket, monkeypatch):
    repository = open_bucket("two")
    deletes = [0]

    def die(step: int, operation: str, argument: Any) -> None:
        if operation == "delete" and str(argument).startswith("['commits/"):
            deletes[0] += 1
            raise Killed

    step_through(repository, die)
    with pytest.raises(Killed):
        repository.gc(**ALL)
    with pytest.raises(GarbageCollectionError, match=r"is deleting, or died at it; run gc again in \d+ seconds"):
        open_bucket("three").gc(**ALL)
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 0.0)
    assert open_bucket("three").gc(**ALL).total.objects == 3


def test_a_writer_waits_until_a_dead_collection_is_over(forked, open_bucket, monkeypatch):
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 3.0)
    monkeypatch.setattr(condemned, "SWEEP_SECONDS", 1.0)
    repository, _ = forked
    writer = repository.checkout(write=True)
    writer["array", 100] = noise(55)
    dying = open_bucket("two")

    def die(step: int, operation: str, argument: Any) -> None:
        if operation == "delete" and str(argument).startswith("['packs/"):
            raise Killed

    step_through(dying, die)
    with pytest.raises(Killed):
        dying.gc(**ALL)
    started = time.monotonic()
    writer.commit("patient")
    writer.close()
    assert time.monotonic() - started > 2.5
    assert open_bucket("three").verify_repo_integrity()
    assert open_bucket("three").gc(**ALL).removed["packs"].objects == 0
    assert open_bucket("three").verify_repo_integrity()


def test_one_that_slept_through_its_time_deletes_nothing(forked, open_bucket, monkeypatch):
    repository = open_bucket("two")
    before = data_of(repository._storage.store)
    clock = [0.0]
    monkeypatch.setattr("hangar_cloud.sweep.passing_seconds", lambda: clock[0])

    def sleep(step: int, operation: str, argument: Any) -> None:
        if operation == "list_children" and argument == "refs/tags":
            clock[0] += condemned.SWEEP_SECONDS + 1

    step_through(repository, sleep)
    with pytest.raises(GarbageCollectionError, match="is too slow: .* Nothing was deleted"):
        repository.gc(**ALL)
    assert data_of(repository._storage.store) == before


def test_one_that_was_taken_for_dead_deletes_nothing(forked, open_bucket):
    repository = open_bucket("two")
    other: list[Any] = []

    def overtake(step: int, operation: str, argument: Any) -> None:
        if operation == "put_if_absent" and str(argument).endswith("sweep.json") and not other:
            other.append(open_bucket("three").gc(**ALL))

    step_through(repository, overtake)
    with pytest.raises(GarbageCollectionError, match="took this one for dead and went on without it"):
        repository.gc(**ALL)
    assert other[0].total.objects == 3
    assert open_bucket("four").verify_repo_integrity()
    assert [i.path for i in repository._storage.store.list("gc/")] == ["gc/0000000001.done.json"]


def test_what_a_writer_once_asked_for_is_forgotten_after_a_day(forked, monkeypatch):
    repository, tip = forked
    store = repository._storage.store
    path = condemned.new_keep_path()
    store.put_if_absent(path, condemned.Keep(frozenset(), tip).encode())
    report = repository.gc(**ALL)
    assert report.total.objects == 0
    assert len(report.rescued) == 3
    assert "Rescued      : 3" in repr(report)
    monkeypatch.setattr(condemned, "KEEP_SECONDS", -1.0)
    assert repository.gc(**ALL).total.objects == 3


def test_a_bucket_out_of_reach_or_without_permission(forked, s3_url, s3_options, tmp_path, monkeypatch):
    repository, _ = forked
    offline = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "one", offline=True)
    with pytest.raises(StoreUnavailableError, match="offline=True"):
        offline.gc()

    def refuse(*_: Any) -> bool:
        raise AccessDeniedError("no writing here")

    monkeypatch.setattr(type(repository._storage.store), "put_if_absent", refuse)
    assert repository.gc(True, **ALL).total.objects == 3
    with pytest.raises(PermissionError, match="no writing here"):
        repository.gc(**ALL)


def test_a_record_that_is_missing_in_the_bucket_is_noticed_in_spite_of_the_cache(forked):
    repository, _ = forked
    store = repository._storage.store
    head = repository._storage.commit(repository._branches.commit_of("master"))
    root = head.columns["array"].root
    assert root is not None
    store.delete([f"records/{root.place.object.hex()}.parquet"])
    before = data_of(store)
    with pytest.raises(CorruptDataError, match="is referred to and is missing at .*: nothing was deleted"):
        repository.gc(**ALL)
    assert data_of(store) == before


def test_other_processes_write_while_it_runs_again_and_again(forked, open_bucket, s3_url, s3_options, tmp_path):
    script = """
        import sys, json
        import numpy as np
        from hangar_cloud import Repository
        from hangar_cloud.catalog import condemned
        condemned.SETTLE_SECONDS = 2.0
        url, options, cache, number = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
        repository = Repository(url, storage_options=options, cache_dir=cache)
        writer = repository.checkout(write=True)
        for turn in range(4):
            data = np.random.default_rng(turn).integers(0, 256, 5000, np.uint8)
            writer["array", f"{number}-{turn}"] = data
            writer.commit(f"{number} {turn}")
        print(writer.commit_hash)
    """
    import json

    condemned.SETTLE_SECONDS = 2.0
    writers = [
        start_process(script, s3_url, json.dumps(s3_options), str(tmp_path / f"writer-{n}"), str(n)) for n in range(2)
    ]
    while any(writer.poll() is None for writer in writers):
        open_bucket("collector").gc(**ALL)
    for writer in writers:
        finish(writer)
    found = read_all(open_bucket("reader"))["array"]
    assert {f"{n}-{turn}" for n in range(2) for turn in range(4)} <= found.keys()
    assert open_bucket("reader").verify_repo_integrity()


def test_a_commit_looks_for_collections_once(forked, monkeypatch):
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 10.0)
    repository, _ = forked
    looks: list[int] = []

    def count(step: int, operation: str, argument: Any) -> None:
        if operation in ("list", "list_children") and argument != tombstones.FOLDER:  # which is looked into once
            assert argument == condemned.FOLDER
            looks[-1] += 1

    step_through(repository, count)
    writer = repository.checkout(write=True)
    for number in range(3):
        looks.append(0)
        writer["array", 300 + number] = noise(300 + number)
        writer.commit("one more")
    writer.close()
    assert looks == [2, 1, 1]


def test_a_damaged_wish_of_a_writer_stops_it_and_holds_up_nobody(forked):
    repository, _ = forked
    store = repository._storage.store
    before = data_of(store)
    store.put_if_absent(condemned.new_keep_path(), b'{"names": 5}\n')
    with pytest.raises(CorruptDataError, match=r"gc/keep-[0-9a-f]{32}.json is damaged"):
        repository.gc(**ALL)
    assert data_of(store) == before
    writer = repository.checkout(write=True)
    writer["array", 100] = noise(55)
    writer.commit("at once")
    writer.close()
    assert repository.verify_repo_integrity()


def test_children_are_deleted_before_their_parents(open_bucket):
    repository = open_bucket("one")
    add_commit(repository, {0: noise(0)})
    repository.create_branch("a")
    for number in range(1, 4):
        add_commit(repository, {number: noise(number)}, branch="a")
    repository.create_branch("b", "a@{1}")
    add_commit(repository, {9: noise(9)}, branch="b")
    repository.merge("both", "a", "b")
    commits = {d: c.parents for d, c in repository._storage._commits.items()}
    for branch in ("a", "b"):
        repository.remove_branch(branch, force_delete=True)
    gone: list[str] = []

    def watch(step: int, operation: str, argument: Any) -> None:
        if operation == "delete" and str(argument).startswith("['commits/"):
            batch = [name.removeprefix("commits/").removesuffix(".json") for name in argument]
            for digest in batch:
                children = [child for child, parents in commits.items() if digest in parents]
                assert set(children) <= set(gone)
            gone.extend(batch)

    step_through(repository, watch)
    repository.gc(**ALL)
    assert len(gone) == 5
