"""Clones, fetches and pushes between repositories of which either was repacked."""

from __future__ import annotations

from typing import Any

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import open_store
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import DataNotLocalError
from tests.repository.making import add_commit, make_repository, noise, read_all, same_columns
from tests.repository.test_repack import ALL, assert_held, moves_of, objects, small_commits


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.05)


@pytest.fixture
def local(tmp_path, s3_url, s3_options):
    """A local repository of six small commits, with the remote "origin", to which nothing was pushed."""
    repository = make_repository(tmp_path / "local")
    small_commits(repository, range(6))
    repository.remote.add("origin", s3_url, storage_options=s3_options)
    return repository


@pytest.fixture
def held(local):
    """What each of its commits holds, by digest, the first one first."""
    digests = reversed(local.log(return_contents=True)["order"])
    return {digest: read_all(local, commit=digest) for digest in digests}


@pytest.fixture
def open_bucket(s3_url, s3_options, tmp_path):
    """Opens the remote itself, as if on a machine of the given name."""
    return lambda machine: Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / machine)


@pytest.fixture
def clone(s3_url, s3_options, tmp_path):
    """Makes clones of the remote."""

    def make(name: str) -> Repository:
        repository = Repository(tmp_path / name, exists=False)
        repository.clone("C", "c@example.org", s3_url, storage_options=s3_options)
        return repository

    return make


def reopen(repository: Repository, **options: Any) -> Repository:
    """The same repository, with nothing in memory."""
    location, storage_options, *_ = repository._storage.parameters
    remotes = repository._storage._remote_options
    return Repository(location, storage_options=next(iter(remotes.values()), storage_options), **options)


def shrink(repository: Repository) -> None:
    """Repack, and delete what that replaced."""
    repository.repack()
    assert repository.gc(**ALL).total.objects > 0


def test_a_repacked_repository_is_pushed_whole_to_an_empty_bucket(local, held, open_bucket, clone):
    shrink(local)
    local.remote.push("origin", "master")
    bucket = open_bucket("one")
    assert len(objects(bucket, "packs")) == len(objects(bucket, "records")) == 1
    assert_held(bucket, held)
    assert bucket.verify_repo_integrity()
    assert bucket.gc(**ALL).total.objects == 0
    other = clone("clone")
    other.remote.fetch_data("origin", branch="master")
    assert_held(reopen(other), held)
    assert other.verify_repo_integrity()


def test_only_what_the_pushed_branch_needs_is_sent(local, open_bucket, s3_url, s3_options):
    local.create_branch("secret")
    add_commit(local, {77: noise(77, 500)}, branch="secret")
    shrink(local)
    local.remote.push("origin", "master")
    store = open_store(s3_url, s3_options)
    stored = b"".join(store.get(info.path) for info in store.list())
    assert noise(5, 500).tobytes() in stored
    assert noise(77, 500).tobytes() not in stored
    local.remote.push("origin", "secret")
    assert read_all(open_bucket("two"), branch="secret")["array"][77].tobytes() == noise(77, 500).tobytes()
    assert open_bucket("three").verify_repo_integrity()


def test_a_bucket_that_has_some_of_the_old_objects_gets_the_rest(local, held, open_bucket):
    local.remote.push("origin", "master")
    packs = objects(open_bucket("one"), "packs")
    more = small_commits(local, range(10, 14))
    shrink(local)
    local.remote.push("origin", "master")
    bucket = open_bucket("two")
    assert packs.items() <= objects(bucket, "packs").items()
    assert len(objects(bucket, "packs")) == len(packs) + 1
    assert_held(bucket, held | more)
    assert bucket.verify_repo_integrity()


def test_pushing_again_sends_nothing_again(local, open_bucket):
    shrink(local)
    local.remote.push("origin", "master")
    add_commit(local, {50: noise(50, 500)})
    local.remote.push("origin", "master")
    bucket = open_bucket("one")
    assert len(objects(bucket, "packs")) == 2
    assert len(moves_of(bucket)) == 1
    assert read_all(bucket)["array"].keys() == {*range(6), 50}


def test_what_a_repacked_bucket_has_elsewhere_is_not_pushed_again(local, open_bucket):
    local.remote.push("origin", "master")
    shrink(open_bucket("one"))
    before = objects(open_bucket("one"), "packs")
    add_commit(local, {60: noise(60, 500)})
    local.remote.push("origin", "master")
    after = objects(open_bucket("two"), "packs")
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()
    assert read_all(open_bucket("three"))["array"].keys() == {*range(6), 60}
    assert open_bucket("three").verify_repo_integrity()


def test_both_sides_were_repacked(local, held, open_bucket, clone):
    local.remote.push("origin", "master")
    shrink(open_bucket("one"))
    shrink(local)
    more = small_commits(local, range(20, 23))
    shrink(local)
    local.remote.push("origin", "master")
    shrink(open_bucket("two"))
    bucket = open_bucket("three")
    assert len(objects(bucket, "packs")) == 1
    assert_held(bucket, held | more)
    assert_held(clone("late"), held | more)
    assert bucket.verify_repo_integrity()


def test_a_lazy_clone_reads_across_a_repack_and_then_offline(local, held, open_bucket, clone):
    local.remote.push("origin", "master")
    other = clone("clone")
    assert read_all(other)["array"][2].tobytes() == noise(2, 500).tobytes()
    tip = add_commit(local, {30: noise(30, 500)})
    local.remote.push("origin", "master")
    shrink(open_bucket("one"))
    other.remote.fetch("origin", "master")
    other.merge("take over", "master", "origin/master")
    fresh = reopen(other)
    newest = read_all(fresh, commit=tip)
    assert newest["array"][30].tobytes() == noise(30, 500).tobytes()
    offline = reopen(other, offline=True)
    assert same_columns(read_all(offline, commit=tip), newest)
    assert fresh.verify_repo_integrity()
    first = next(iter(held))
    with pytest.warns(UserWarning, match="not all data"), pytest.raises(DataNotLocalError):
        read_all(offline, commit=first)
    assert_held(fresh, held)
    assert fresh.fsck(fetch=True) == []


def test_data_is_fetched_from_a_repacked_bucket_and_counts_as_here(local, open_bucket, clone, s3_url, s3_options):
    local.remote.push("origin", "master")
    shrink(open_bucket("one"))
    other = clone("clone")
    assert not [finding for finding in other.fsck() if finding.is_damage]
    other.remote.fetch_data("origin", branch="master")
    store = open_store(s3_url, s3_options)
    store.delete([info.path for info in store.list("packs/")])
    found = read_all(reopen(other))
    assert sorted(found["array"]) == list(range(6))


def test_a_clone_pushes_on_what_it_never_fetched(local, open_bucket, clone):
    local.remote.push("origin", "master")
    other = clone("clone")
    shrink(open_bucket("one"))
    add_commit(other, {40: noise(40, 500)})
    other.remote.push("origin", "master")
    assert read_all(open_bucket("two"))["array"].keys() == {*range(6), 40}
    assert open_bucket("two").verify_repo_integrity()


def test_a_clone_of_a_repacked_bucket_is_pushed_elsewhere(
    local, held, open_bucket, clone, s3_url, s3_options, tmp_path
):
    local.remote.push("origin", "master")
    shrink(open_bucket("one"))
    other = clone("clone")
    other.remote.add("second", f"{s3_url}-second", storage_options=s3_options)
    other.remote.push("second", "master")
    second = Repository(f"{s3_url}-second", storage_options=s3_options, cache_dir=tmp_path / "second")
    assert len(objects(second, "packs")) == 1
    assert_held(second, held)
    assert second.verify_repo_integrity()


def test_a_lazy_clone_can_be_repacked_itself(local, held, open_bucket, clone):
    local.remote.push("origin", "master")
    other = clone("clone")
    mine = small_commits(other, range(50, 54))
    shrink(other)
    assert len(objects(other, "packs")) == 1
    assert_held(reopen(other), held | mine)
    other.remote.push("origin", "master")
    assert_held(open_bucket("one"), held | mine)
