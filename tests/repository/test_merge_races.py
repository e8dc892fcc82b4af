"""Merging a branch of a bucket while others commit to it."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository, merging
from hangar_cloud.catalog import backoff
from hangar_cloud.catalog.pointers import PointerLog
from hangar_cloud.errors import HeadMovedError, MergeConflictError
from tests.repository.making import add_commit, make_repository, read_all

SAMPLE = np.arange(3, dtype=np.float32)


@pytest.fixture
def bucket(tmp_path, s3_url, s3_options):
    """A repository in S3 with branches "master" and "dev", each with a commit of its own."""
    repository = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    add_commit(repository, {number: SAMPLE + number for number in range(10)})
    repository.create_branch("dev")
    add_commit(repository, {20: SAMPLE * 2, 5: SAMPLE * 2}, branch="dev")
    add_commit(repository, {30: SAMPLE * 3}, branch="master")
    return repository


@pytest.fixture
def overtaken(monkeypatch, bucket, tmp_path, s3_url, s3_options):
    """Give a list of samples: each is committed by another machine just when a merge is about to move the branch."""
    monkeypatch.setattr(backoff, "_SECONDS", 0.0)
    other = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "other")
    waiting: list[dict[int, np.ndarray]] = []
    move = PointerLog.move

    def move_late(self, branch, expected, commit, action, *arguments, **named):
        if action == "merge" and waiting:
            add_commit(other, waiting.pop(0), branch="master")
        return move(self, branch, expected, commit, action, *arguments, **named)

    monkeypatch.setattr(PointerLog, "move", move_late)
    return waiting


def test_a_merge_that_lost_races_is_made_anew(bucket, overtaken):
    overtaken += [{40: SAMPLE}, {41: SAMPLE}]
    digest = bucket.merge("together", "master", "dev")
    assert sorted(read_all(bucket, commit=digest)["array"]) == [*range(10), 20, 30, 40, 41]
    assert bucket.checkout(branch="master").commit_hash == digest
    assert bucket.verify_repo_integrity()


def test_a_fast_forward_that_lost_a_race_becomes_a_merge(bucket, overtaken):
    root = bucket.log(branch="master", return_contents=True)["order"][-1]
    bucket.remove_branch("master", force_delete=True)
    bucket.create_branch("master", base_commit=root)
    overtaken += [{40: SAMPLE}]
    digest = bucket.merge("together", "master", "dev")
    assert len(bucket.log(branch="master", return_contents=True)["ancestors"][digest]) == 2


def test_a_function_settles_what_came_in_between_too(bucket, overtaken):
    overtaken += [{5: SAMPLE * 9}]
    asked = []

    def larger(column, key, ancestor, ours, theirs):
        asked.append((column, key))
        return ours.get() + theirs.get()

    digest = bucket.merge("together", "master", "dev", strategy=larger)
    assert asked == [("array", 5)]
    assert np.array_equal(read_all(bucket, commit=digest)["array"][5], SAMPLE * 11)


def test_a_conflict_that_came_in_between_is_told(bucket, overtaken):
    overtaken += [{5: SAMPLE * 9}]
    with pytest.raises(MergeConflictError, match="5"):
        bucket.merge("together", "master", "dev")
    assert np.array_equal(read_all(bucket, branch="master")["array"][5], SAMPLE * 9)
    with bucket.checkout(write=True, branch="master") as writer:
        assert writer.diff.status() == "CLEAN"


def test_a_merge_that_always_loses_gives_up_and_changes_nothing(bucket, overtaken, monkeypatch):
    monkeypatch.setattr(merging, "ATTEMPTS", 5)
    overtaken += [{100 + number: SAMPLE} for number in range(5)]
    with pytest.raises(HeadMovedError):
        bucket.merge("together", "master", "dev")
    assert not overtaken
    assert 20 not in read_all(bucket, branch="master")["array"]
