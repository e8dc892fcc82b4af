"""Garbage collection of a bucket in Google Cloud Storage: what is condemned, kept, swept, and still too young."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import GarbageCollectionError, RefNotFoundError
from tests.repository.making import add_commit, make_repository, noise, read_all
from tests.repository.stepping import Killed, kill_at, step_through

ALL = {"grace": 0, "keep_reflog": 0}
LONG = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 20.0)


@pytest.fixture
def open_bucket(gcs_url, gcs_options, tmp_path):
    """Opens one bucket, as if on a machine of the given name."""
    make_repository(gcs_url, storage_options=gcs_options, cache_dir=tmp_path / "maker")
    return lambda machine: Repository(gcs_url, storage_options=gcs_options, cache_dir=tmp_path / machine)


@pytest.fixture
def forked(open_bucket):
    """A bucket with master, and a deleted branch "side"."""
    repository = open_bucket("one")
    add_commit(repository, {n: noise(n) for n in range(4)})
    repository.create_branch("side")
    add_commit(repository, {n: noise(n + 50) for n in range(4, 8)}, branch="side")
    repository.remove_branch("side", force_delete=True)
    return repository


def writer_that_reuses(repository: Repository) -> Any:
    """A writer that finds a sample in the pack that only the deleted branch refers to, since it made that."""
    writer = repository.checkout(write=True)
    writer["array", 100] = noise(55)
    writer["array", 101] = noise(101)
    return writer


def packs(repository: Repository) -> set[str]:
    return {info.path for info in repository._storage.store.list("packs/")}


def check(repository: Repository, digest: str) -> None:
    found = read_all(repository, commit=digest)["array"]
    assert [found[100].tobytes(), found[101].tobytes()] == [noise(55).tobytes(), noise(101).tobytes()]
    assert repository.verify_repo_integrity()


def test_what_nothing_refers_to_goes_and_all_else_stays(forked, open_bucket):
    kept = read_all(forked)["array"]
    planned = forked.gc(True, **ALL)
    report = forked.gc(**ALL)
    assert sorted(report.names) == sorted(planned.names)
    assert report.total.objects == 3
    assert len(packs(forked)) == 1
    assert [info.path for info in forked._storage.store.list("gc/")] == ["gc/0000000000.done.json"]
    found = read_all(open_bucket("two"))["array"]
    assert {key: value.tobytes() for key, value in found.items()} == {k: v.tobytes() for k, v in kept.items()}
    assert forked.verify_repo_integrity()
    with pytest.raises(RefNotFoundError, match="any more"):
        forked.restore_branch("side")


def test_the_age_of_an_object_is_told_by_the_clock_of_the_bucket(forked, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7 * 24 * 3600)
    report = forked.gc(keep_reflog=0)
    assert (report.total.objects, report.young.objects) == (0, 3)
    monkeypatch.setattr(time, "time", lambda: real() - 7 * 24 * 3600)
    time.sleep(1.6)
    assert forked.gc(grace=1.5, keep_reflog=0).total.objects == 3


def test_what_a_writer_asks_for_before_the_sweep_is_kept(forked, open_bucket):
    writer = writer_that_reuses(forked)
    digests: list[str] = []

    def commit_before_the_sweep(step: int, operation: str, argument: Any) -> None:
        if operation == "put_if_absent" and str(argument).endswith(".sweep.json"):
            digests.append(writer.commit("just in time"))
            writer.close()

    collecting = open_bucket("three")
    step_through(collecting, commit_before_the_sweep)
    before = packs(forked)
    report = collecting.gc(**ALL)
    assert len(digests) == 1
    assert [name for name in report.rescued if name.startswith("packs/")]
    assert report.removed["packs"].objects == 0
    assert before < packs(forked)
    check(open_bucket("four"), digests[0])


def test_a_writer_waits_for_a_sweep_and_stores_anew_what_it_took(forked, open_bucket):
    writer = writer_that_reuses(forked)
    digests: list[str] = []
    thread = threading.Thread(target=lambda: digests.append(writer.commit("after the sweep")))
    came_too_early: list[bool] = []

    def commit_in_the_sweep(step: int, operation: str, argument: Any) -> None:
        if operation == "delete" and any(str(name).startswith("packs/") for name in argument):
            thread.start()
            thread.join(1.0)
            came_too_early.append(not thread.is_alive())

    collecting = open_bucket("three")
    step_through(collecting, commit_in_the_sweep)
    report = collecting.gc(**ALL)
    thread.join(LONG)
    assert came_too_early == [False]
    assert report.removed["packs"].objects == 1
    check(open_bucket("four"), digests[0])
    writer.close()


def test_a_collection_that_died_at_deleting_is_ended_by_the_next_one(forked, open_bucket, monkeypatch):
    counted = step_through(open_bucket("counted"), lambda *_: None)
    dying = open_bucket("two")
    steps: list[int] = []

    def die_after_the_first_deletion(step: int, operation: str, argument: Any) -> None:
        if operation == "delete" and any(str(name).startswith("commits/") for name in argument):
            steps.append(step)
        elif steps:
            kill_at(step)(step, operation, argument)

    step_through(dying, die_after_the_first_deletion)
    with pytest.raises(Killed):
        dying.gc(**ALL)
    with pytest.raises(GarbageCollectionError, match="is deleting, or died at it; run gc again in"):
        open_bucket("three").gc(**ALL)
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 0.0)
    open_bucket("three").gc(**ALL)
    assert len(packs(forked)) == 1
    assert [name for name in counted.list_children("gc") if not name.startswith("clock-")] == ["0000000001.done.json"]
    assert forked.verify_repo_integrity()
    assert sorted(read_all(open_bucket("four"))["array"]) == [0, 1, 2, 3]
