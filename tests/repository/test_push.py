"""Pushing and fetching branches: what is sent, what is refused, and being killed."""

from __future__ import annotations

import random
import signal
import threading
import time

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore, open_store
from hangar_cloud.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    HeadMovedError,
    InvalidArgumentError,
    NotInitializedError,
    RefNotFoundError,
    RepositoryExistsError,
    StoreUnavailableError,
    UnsupportedStoreError,
)
from tests.repository.making import (
    add_commit,
    counted,
    files_of,
    make_repository,
    noise,
    read_all,
    same_columns,
    start_process,
    wait_for_line,
)

SAMPLE = np.zeros(3, np.float32)


def test_push_uploads_only_what_is_lacking(pushed):
    counting = counted(pushed)
    with pytest.warns(UserWarning, match="'master' at .* is up to date; nothing to push"):
        assert pushed.remote.push("origin", "master") == "master"
    assert counting.bytes_sent == 0
    add_commit(pushed, {"new": noise(9999)}, column="images")
    pushed.remote.push("origin", "master")
    assert 5_000 < counting.bytes_sent < 60_000
    pushed.create_branch("dev")
    counting.reset()
    pushed.remote.push("origin", "dev")
    assert counting.bytes_sent < 2_000


def test_fetch(pushed, clone):
    with pytest.warns(UserWarning, match="up to date; nothing to fetch"):
        assert clone.remote.fetch("origin", "master") == "origin/master"
    newer = add_commit(pushed, {"new": noise(9999)}, column="images")
    pushed.remote.push("origin", "master")
    counting = counted(clone)
    assert clone.remote.fetch("origin", "master") == "origin/master"
    assert counting.bytes_received < 5_000, "history only"
    assert clone.checkout(branch="origin/master").commit_hash == newer
    assert clone.checkout(branch="master").commit_hash != newer
    assert np.array_equal(clone.checkout(branch="origin/master")["images", "new"], noise(9999))
    with pytest.warns(UserWarning, match="ahead of this one; nothing to push"):
        clone.remote.push("origin", "master")
    with pytest.raises(ValueError, match="has no branch 'nope' with a commit") as caught:
        clone.remote.fetch("origin", "nope")
    assert type(caught.value) is RefNotFoundError


def test_push_behind_without_a_fetch(pushed, clone):
    add_commit(pushed, {"new": noise(9999)}, column="images")
    pushed.remote.push("origin", "master")
    with pytest.warns(UserWarning, match="ahead of this one; nothing to push"):
        clone.remote.push("origin", "master")


def test_diverged_histories_are_refused(pushed, clone):
    theirs = add_commit(pushed, {"theirs": noise(1)}, column="images")
    pushed.remote.push("origin", "master")
    add_commit(clone, {"ours": noise(2)}, column="images")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"Nothing was pushed: fetch it, merge it") as caught:
            clone.remote.push("origin", "master")
        assert type(caught.value) is HeadMovedError
        assert pushed._storage.remote_store("origin") is not None
        clone.remote.fetch("origin", "master") if _ == 0 else None
    assert clone.checkout(branch="origin/master").commit_hash == theirs
    assert clone.create_branch("aside", clone.checkout(branch="master").commit_hash)
    assert clone.remote.push("origin", "aside") == "aside"


def test_a_clone_writes_and_pushes(clone, s3_url, s3_options, tmp_path):
    digest = add_commit(clone, {"from-the-clone": noise(5)}, column="images")
    clone.remote.push("origin", "master")
    other = Repository(tmp_path / "other", exists=False)
    other.clone("a", "b", s3_url, storage_options=s3_options)
    assert other.checkout().commit_hash == digest
    assert np.array_equal(other.checkout()["images", "from-the-clone"], noise(5))
    assert len(other.checkout()["images"]) == 201


def test_a_clone_reopened_needs_the_options_again(clone, s3_options):
    again = Repository(clone.path, storage_options=s3_options)
    assert np.array_equal(again.checkout()["images", 3], noise(3))


def test_a_clone_of_a_remote_without_master(images, tmp_path):
    images.create_branch("trunk")
    images.create_branch("a-dev")
    images.remote.add("origin", str(tmp_path / "remote"))
    images.remote.push("origin", "trunk")
    clone = Repository(tmp_path / "clone", exists=False)
    assert clone.clone("a", "b", str(tmp_path / "remote")) == "trunk"
    assert clone.list_branches() == ["trunk", "origin/trunk"]
    assert len(clone.checkout()["images"]) == 200
    add_commit(clone, {"new": noise(1)}, column="images")
    assert clone.remote.push("origin", "trunk") == "trunk"


def test_push_to_a_bucket_that_is_used_directly(pushed, s3_url, s3_options, tmp_path):
    direct = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    assert same_columns(read_all(direct), read_all(pushed))
    add_commit(direct, {"direct": noise(7)}, column="images")
    pushed.remote.fetch("origin", "master")
    assert np.array_equal(pushed.checkout(branch="origin/master")["images", "direct"], noise(7))


def test_a_remote_that_holds_another_repository(pushed, tmp_path, s3_url, s3_options):
    other = make_repository(tmp_path / "other")
    add_commit(other, {0: noise(0)}, column="images")
    other.remote.add("origin", s3_url, storage_options=s3_options)
    before = {info.path for info in open_store(s3_url, s3_options).list()}
    for use in (lambda: other.remote.push("origin", "master"), lambda: other.remote.fetch("origin", "master")):
        with pytest.raises(ValueError, match=r"holds another repository.*use another URL, or clone") as caught:
            use()
        assert type(caught.value) is InvalidArgumentError
    assert {info.path for info in open_store(s3_url, s3_options).list()} == before


def test_clones_that_are_refused(pushed, s3_url, s3_options, s3_server, tmp_path):
    fresh = Repository(tmp_path / "fresh", exists=False)
    no_server = s3_server.options_for("http://127.0.0.1:9")
    for address, options, kind, words in (
        (f"{s3_url}/nothing-here", s3_options, NotInitializedError, "no Hangar repository at .*push one there first"),
        ("s3://no-such-bucket-here/x", s3_options, BucketNotFoundError, "no-such-bucket-here"),
        (s3_url, {**s3_options, "secret": "wrong"}, AccessDeniedError, "credentials were refused"),
        (s3_url, no_server, StoreUnavailableError, "cannot be reached"),
        ("zz://x", None, UnsupportedStoreError, "zz://"),
        ("", None, InvalidArgumentError, "address is a URL"),
        (None, None, InvalidArgumentError, "address is a URL"),
    ):
        started = time.monotonic()
        with pytest.raises(kind, match=words):
            fresh.clone("a", "b", address, storage_options=options)
        assert time.monotonic() - started < 15
        assert fresh.initialized is False
    assert fresh.clone("a", "b", s3_url, storage_options=s3_options) == "master"
    with pytest.raises(FileExistsError, match="clone into another folder, or give remove_old") as caught:
        fresh.clone("a", "b", s3_url, storage_options=s3_options)
    assert type(caught.value) is RepositoryExistsError
    with pytest.raises(ValueError, match="user_name must be text"):
        fresh.clone("", "b", s3_url)
    assert len(fresh.checkout()["images"]) == 200


def test_a_clone_over_an_old_clone_of_another_address(images, clone, tmp_path):
    other = make_repository(tmp_path / "other")
    add_commit(other, {0: noise(77)}, column="else")
    other.remote.add("origin", str(tmp_path / "remote"))
    other.remote.push("origin", "master")
    clone.checkout()["images", 0]
    clone.clone("a", "b", str(tmp_path / "remote"), remove_old=True)
    assert np.array_equal(clone.checkout()["else", 0], noise(77))
    assert list(clone.checkout()) == ["else"]


def test_pushing_nothing(empty, s3_url, s3_options):
    empty.remote.add("origin", s3_url, storage_options=s3_options)
    with pytest.raises(RuntimeError, match="nothing is committed on branch 'master' yet"):
        empty.remote.push("origin", "master")
    with pytest.raises(ValueError, match="no branch 'nope'"):
        empty.remote.push("origin", "nope")
    assert not list(open_store(s3_url, s3_options).list())


def test_errors_of_a_remote_come_fast_and_leave_all_in_place(images, s3_url, s3_options, s3_server):
    before = read_all(images)
    no_server = s3_server.options_for("http://127.0.0.1:9")
    images.remote.add("denied", s3_url, storage_options={**s3_options, "secret": "wrong"})
    images.remote.add("absent", "s3://no-such-bucket-here/x", storage_options=s3_options)
    images.remote.add("down", s3_url, storage_options=no_server)
    for name, kind in (("denied", AccessDeniedError), ("absent", BucketNotFoundError), ("down", StoreUnavailableError)):
        for use in (lambda r, n: r.push(n, "master"), lambda r, n: r.fetch(n, "master"), lambda r, n: r.ping(n)):
            started = time.monotonic()
            with pytest.raises(kind):
                use(images.remote, name)
            assert time.monotonic() - started < 15
    assert images.list_branches() == ["master"]
    assert same_columns(read_all(images), before)


PUSH = """
    import sys, json
    from hangar_cloud import Repository
    repository = Repository(sys.argv[1], storage_options=json.loads(sys.argv[2]))
    print("ready", flush=True)
    repository.remote.push("origin", "master")
    print("pushed", flush=True)
"""


def test_a_push_that_is_killed_again_and_again_ends_complete(tmp_path, s3_server, s3_url, s3_options, s3_proxy):
    import json

    repository = make_repository(tmp_path / "r")
    for part in range(4):
        add_commit(repository, {n: noise(1000 * part + n, 40_000) for n in range(100)}, column=f"part{part}")
    s3_proxy.delay = 0.05
    options = s3_server.options_for(s3_proxy.url)
    repository.remote.add("origin", s3_url)
    generator = random.Random(3)
    killed = 0
    for attempt in range(12):
        process = start_process(PUSH, repository.path, json.dumps(options))
        wait_for_line(process)
        if attempt < 6:
            timer = threading.Timer(generator.uniform(0.1, 1.6), process.send_signal, [signal.SIGKILL])
            timer.start()
        output, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        killed += 1
        store = open_store(s3_url, s3_options)
        if store.exists("hangar.json"):
            broken = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / f"cache{attempt}")
            heads = [name for name, head in broken._branches.heads().items() if head]
            assert heads == [], "the branch comes last"
        store.close()
    assert "pushed" in output
    assert killed >= 2
    total = sum(len(data) for path, data in files_of(repository.path).items() if "/store/" in path)
    assert s3_proxy.bytes_up < 2.5 * total, "packs that had arrived were not sent again"
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("a", "b", s3_url, storage_options=s3_options)
    assert same_columns(read_all(clone), read_all(repository))


def test_a_push_sends_no_pack_twice(tmp_path, images):
    images.remote.add("origin", str(tmp_path / "remote"))
    counting = counted(images)
    images.remote.push("origin", "master")
    store = open_store(str(tmp_path / "remote"))
    store.delete([info.path for info in store.list("refs/")])
    store.delete([info.path for info in store.list("commits/")])
    counting.reset()
    images.remote.push("origin", "master")
    assert counting.bytes_sent < 3_000, "packs and records were there"
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("a", "b", str(tmp_path / "remote"))
    assert same_columns(read_all(clone), read_all(images))


def test_two_repositories_that_push_to_one_empty_bucket(tmp_path):
    """The second came to know that the bucket is taken only after it had looked."""
    one, two = make_repository(tmp_path / "one"), make_repository(tmp_path / "two")
    for number, repository in enumerate((one, two)):
        add_commit(repository, {0: noise(number)}, column="images")
        repository.remote.add("origin", str(tmp_path / "remote"))

    class Slow(CountingStore):
        def upload(self, path, source, *, progress=None):
            if not self.inner.exists("hangar.json"):
                one.remote.push("origin", "master")
            self.inner.upload(path, source, progress=progress)

    two._storage._remote_stores["origin"] = Slow(two._storage.remote_store("origin"))
    with pytest.raises(ValueError, match="holds another repository"):
        two.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("a", "b", str(tmp_path / "remote"))
    assert same_columns(read_all(clone), read_all(one))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"force": "no"}, "force must be True or False, not 'no'"),
        ({"attempts": True}, "attempts must be a whole number of at least 1, and is True"),
        ({"attempts": 0}, "attempts must be a whole number of at least 1, and is 0"),
    ],
)
def test_arguments_that_cannot_be_meant_push_nothing(tmp_path, wrong, message):
    repository = make_repository(tmp_path / "one")
    add_commit(repository, {1: SAMPLE})
    bucket = (tmp_path / "bucket").as_uri()
    repository.remote.add("origin", bucket)
    with pytest.raises(InvalidArgumentError, match=message):
        repository.remote.push("origin", "master", **wrong)
    assert not files_of(tmp_path / "bucket")
