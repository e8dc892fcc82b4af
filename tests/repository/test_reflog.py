"""The log of a branch's moves: looking back, and bringing back what was deleted or moved away."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.catalog.pointers import PointerLog
from hangar_cloud.errors import InvalidArgumentError, ProtectedBranchError, RefExistsError, RefNotFoundError
from tests.repository.making import add_commit, make_repository, read_all

SAMPLE = np.arange(3, dtype=np.float32)


@pytest.fixture
def three(tmp_path):
    """A repository with three commits on master, their digests, and the moments after each of them."""
    repository = make_repository(tmp_path / "three")
    digests, moments = [], []
    for number in range(3):
        digests.append(add_commit(repository, {number: SAMPLE + number}))
        moments.append(datetime.now(timezone.utc))
        time.sleep(0.002)
    return repository, digests, moments


def test_every_move_of_a_branch_is_told(three):
    repository, digests, _ = three
    log = repository.reflog("master")
    assert [entry.action for entry in log] == ["commit", "commit", "commit", "init"]
    assert [entry.commit for entry in log] == [*reversed(digests), ""]
    assert [entry.name for entry in log] == [f"master@{{{n}}}" for n in range(4)]
    assert all(entry.time.tzinfo is not None and "Test User" in entry.author for entry in log[:3])
    assert [entry.time for entry in log] == sorted((entry.time for entry in log), reverse=True)
    assert repository.reflog() == log
    assert repository.reflog("master", limit=2) == log[:2]
    assert repository.reflog(limit=0) == []


def test_a_commit_can_be_named_by_what_a_branch_was(three):
    repository, digests, _ = three
    assert repository.checkout(commit="master@{1}").commit_hash == digests[1]
    assert repository.create_branch("back", "master@{2}").digest == digests[0]
    assert repository.create_tag("t", "master@{0}").digest == digests[2]
    for name in ("master@{3}", "master@{4}", "master@{9999999999}"):
        with pytest.raises(RefNotFoundError, match=r"names no commit; reflog\('master'\) shows"):
            repository.checkout(commit=name)
    with pytest.raises(RefNotFoundError, match="there never was a branch 'nix'"):
        repository.checkout(commit="nix@{1}")


def test_a_branch_moved_away_is_found_again(three):
    repository, digests, _ = three
    moved = repository.reset_branch("master", digests[0])
    assert (moved.name, moved.digest) == ("master", digests[0])
    assert list(read_all(repository)["array"]) == [0]
    assert [entry.action for entry in repository.reflog()][:2] == ["reset", "commit"]
    assert repository.reset_branch("master", "master@{1}").digest == digests[2]
    assert list(read_all(repository)["array"]) == [0, 1, 2]
    before = repository.reflog()
    repository.reset_branch("master", digests[2])
    assert repository.reflog() == before, "a move to where it is writes nothing"


def test_staged_changes_go_on_top_of_where_a_branch_was_reset(three):
    repository, digests, _ = three
    writer = repository.checkout(write=True)
    writer["array", 77] = SAMPLE
    with pytest.raises(ProtectedBranchError, match="branch 'master' cannot be moved while a writer checkout is open"):
        repository.reset_branch("master", digests[0])
    writer.close()
    repository.reset_branch("master", digests[0])
    writer = repository.checkout(write=True)
    writer.commit("on top")
    writer.close()
    assert list(read_all(repository)["array"]) == [0, 77]


def test_a_deleted_branch_comes_back_by_its_name(three):
    repository, _, _ = three
    repository.create_branch("side")
    tip = add_commit(repository, {5: SAMPLE}, branch="side")
    repository.checkout(write=True, branch="master").close()
    repository.remove_branch("side", force_delete=True)
    assert repository.reflog("side")[0].action == "delete"
    with pytest.raises(RefNotFoundError, match="there is no branch 'side'"):
        repository.checkout(branch="side")
    assert repository.restore_branch("side").digest == tip
    assert 5 in Repository(repository.path).checkout(branch="side")["array"]
    with pytest.raises(RefExistsError, match="branch 'side' was not deleted; it is at"):
        repository.restore_branch("side")
    with pytest.raises(RefNotFoundError, match="there never was a branch 'other'; there is or was: master, side"):
        repository.restore_branch("other")


def test_a_branch_as_of_a_time(three):
    repository, digests, moments = three
    for digest, moment in zip(digests, moments, strict=True):
        assert repository.checkout(as_of=moment).commit_hash == digest
        assert repository.checkout(branch="master", as_of=moment.isoformat()).commit_hash == digest
        local = moment.astimezone().replace(tzinfo=None)
        assert repository.checkout(as_of=local).commit_hash == digest
        east = moment.astimezone(timezone(timedelta(hours=9)))
        assert repository.checkout(as_of=east).commit_hash == digest
    repository.reset_branch("master", digests[0])
    assert repository.checkout(as_of=moments[2]).commit_hash == digests[2]
    assert repository.checkout(as_of=datetime.now(timezone.utc)).commit_hash == digests[0]


def test_a_deleted_branch_as_of_a_time(three):
    repository, digests, _ = three
    repository.create_branch("side")
    then = datetime.now(timezone.utc)
    time.sleep(0.002)
    repository.remove_branch("side")
    assert repository.checkout(branch="side", as_of=then).commit_hash == digests[2]
    with pytest.raises(RefNotFoundError, match="branch 'side' was deleted at"):
        repository.checkout(branch="side", as_of=datetime.now(timezone.utc))


def test_times_at_which_there_was_nothing(three):
    repository, _, moments = three
    with pytest.raises(RefNotFoundError, match="branch 'master' was not made yet at 2001-01-01"):
        repository.checkout(as_of="2001-01-01")
    with pytest.raises(RefNotFoundError, match="there never was a branch 'nix'"):
        repository.checkout(branch="nix", as_of=moments[0])
    for wrong in (5, "yesterday", b"2001", ""):
        with pytest.raises(InvalidArgumentError, match="as_of"):
            repository.checkout(as_of=wrong)
    with pytest.raises(InvalidArgumentError, match="give it without write and commit"):
        repository.checkout(write=True, as_of=moments[0])
    with pytest.raises(InvalidArgumentError, match="give it without write and commit"):
        repository.checkout(commit="master@{0}", as_of=moments[0])


def test_a_time_is_found_in_a_long_log_with_few_reads(three):
    repository, digests, _ = three
    log = PointerLog(repository._storage.store, "writer")
    moments = []
    for number in range(200):
        log.move("master", log.head("master"), digests[number % 3], "reset")
        moments.append(datetime.now(timezone.utc))
    counting = CountingStore(repository._storage.store)
    reader = PointerLog(counting)
    assert reader.as_of("master", moments[20]).commit == digests[20 % 3]
    assert sum(counting.requests.values()) < 30
    assert [pointer.seq for pointer in reader.entries("master", 203)] == list(range(203, -1, -1))


def test_times_do_not_decrease_where_clocks_differ(three):
    repository, digests, _ = three
    log = repository._storage.pointers("writer")
    head = log.head("master")
    ahead = type(head)(**{**vars(head), "time": "2099-01-01T00:00:00.000000+00:00"})
    moved = log.move("master", ahead, digests[0], "reset")
    assert moved.time == ahead.time
    assert repository.reflog(limit=1)[0].time.year == 2099


def test_a_push_by_force_can_be_undone(three, tmp_path, s3_url, s3_options):
    repository, digests, _ = three
    repository.remote.add("origin", s3_url, storage_options=s3_options)
    repository.remote.push("origin", "master")
    repository.reset_branch("master", digests[0])
    other = add_commit(repository, {9: SAMPLE})
    with pytest.raises(RuntimeError, match="has commits that this one has not"):
        repository.remote.push("origin", "master")
    assert repository.remote.push("origin", "master", force=True) == "master"
    bucket = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    assert list(read_all(bucket)["array"]) == [0, 9]
    assert [(entry.action, entry.commit) for entry in bucket.reflog("master")][:2] == [
        ("force-push", other),
        ("push", digests[2]),
    ]
    assert bucket.reset_branch("master", "master@{1}").digest == digests[2]
    assert list(read_all(bucket)["array"]) == [0, 1, 2]
    repository.reset_branch("master", digests[0])
    assert repository.remote.push("origin", "master", force=True) == "master"
    assert list(read_all(bucket)["array"]) == [0]


def test_a_reflog_entry_that_is_missing_is_told(three):
    repository, _, _ = three
    (Path(repository.path) / ".hangar/store/refs/heads/master/0000000001.json").unlink()
    with pytest.raises(ValueError, match="pointer 1 of branch 'master' is missing at .*, though number 2 is there"):
        Repository(repository.path).reflog("master")


@pytest.mark.parametrize("limit", [-1, 1.5, "all"])
def test_limits_that_cannot_be_meant(three, limit):
    with pytest.raises(InvalidArgumentError, match="limit must be a whole number"):
        three[0].reflog(limit=limit)
