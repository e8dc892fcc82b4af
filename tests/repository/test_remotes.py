"""Remotes: adding and removing them, clone, push, fetch, and what is refused."""

from __future__ import annotations

import multiprocessing
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
    ColumnNotFoundError,
    DataNotLocalError,
    HangarError,
    HeadMovedError,
    InvalidArgumentError,
    NotInitializedError,
    RefNotFoundError,
    RemoteExistsError,
    RemoteNotFoundError,
    RepositoryExistsError,
    StoreUnavailableError,
    UnsupportedStoreError,
)
from tests.repository.making import (
    add_commit,
    files_of,
    make_repository,
    read_all,
    same_columns,
    start_process,
    wait_for_line,
)
from tests.repository.test_processes import read_one

SAMPLE = np.zeros(3, np.float32)


def noise(number, size=5000):
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


@pytest.fixture
def images(tmp_path):
    """A local repository with 200 packed samples of 5,000 random bytes each."""
    repository = make_repository(tmp_path / "images")
    add_commit(repository, {number: noise(number) for number in range(200)}, column="images")
    return repository


@pytest.fixture
def pushed(images, s3_url, s3_options):
    """The same, pushed to its remote "origin" in S3."""
    images.remote.add("origin", s3_url, storage_options=s3_options)
    assert images.remote.push("origin", "master") == "master"
    return images


@pytest.fixture
def clone(pushed, s3_url, s3_options, tmp_path):
    made = Repository(tmp_path / "clone", exists=False)
    assert made.clone("Clone User", "clone@example.org", s3_url, storage_options=s3_options) == "master"
    return made


def counted(repository, remote="origin"):
    """Put a counting store before a remote."""
    counting = CountingStore(repository._storage.remote_store(remote))
    repository._storage._remote_stores[remote] = counting
    return counting


def test_add_list_and_remove(empty):
    remote = empty.remote
    assert remote.list_all() == []
    added = remote.add("origin", "s3://bucket/x")
    assert (added.name, added.address) == ("origin", "s3://bucket/x")
    remote.add("a-b_c.1", "any text is taken until it is used")
    assert [info.name for info in Repository(empty.path).remote.list_all()] == ["a-b_c.1", "origin"]
    assert "origin : s3://bucket/x" in repr(remote)
    with pytest.raises(ValueError, match="a remote 'origin' already, at s3://bucket/x; remove it first") as caught:
        remote.add("origin", "other")
    assert type(caught.value) is RemoteExistsError
    assert remote.remove("origin") == added
    assert [info.name for info in remote.list_all()] == ["a-b_c.1"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "..", None, 5], ids=repr)
def test_names_that_may_not_be_a_remote(empty, name):
    with pytest.raises(ValueError, match="remote name .* is not suitable"):
        empty.remote.add(name, "s3://bucket")
    assert empty.remote.list_all() == []


@pytest.mark.parametrize("address", ["", None, 5, b"s3://x", "\ud800"], ids=repr)
def test_addresses_that_cannot_be_one(empty, address):
    with pytest.raises(ValueError, match="address is a URL"):
        empty.remote.add("origin", address)
    assert empty.remote.list_all() == []


def test_unknown_remotes(committed):
    committed.remote.add("known", "/nowhere")
    for use in (
        lambda r: r.remove("nope"),
        lambda r: r.ping("nope"),
        lambda r: r.push("nope", "master"),
        lambda r: r.fetch("nope", "master"),
        lambda r: r.fetch_data("nope", "master"),
        lambda r: r.fetch_data_sample("nope", "array", 1, "master"),
    ):
        with pytest.raises(KeyError, match="no remote 'nope'; there is: known") as caught:
            use(committed.remote)
        assert type(caught.value) is RemoteNotFoundError


def test_an_address_that_cannot_be_opened_is_reported_when_it_is_used(committed):
    committed.remote.add("odd", "zz://bucket")
    for use in (
        lambda r: r.ping("odd"),
        lambda r: r.push("odd", "master"),
        lambda r: r.fetch("odd", "master"),
    ):
        with pytest.raises(UnsupportedStoreError, match="zz://"):
            use(committed.remote)
    assert committed.checkout()["array", 3][0] == 3, "local reading goes on"


def test_ping(pushed):
    assert 0 < pushed.remote.ping("origin") < 5


def test_a_clone(clone, pushed, s3_url):
    assert clone.list_branches() == ["master", "origin/master"]
    assert clone.remote.list_all()[0].address == s3_url
    assert clone.checkout().commit_hash == clone.checkout(branch="origin/master").commit_hash
    assert clone.log(return_contents=True)["order"] == pushed.log(return_contents=True)["order"]
    assert same_columns(read_all(clone), read_all(pushed))


def test_a_clone_moves_no_sample_and_no_record(clone):
    names = [path for path in files_of(clone.path) if "/packs/" in path or "/records/" in path]
    assert names == []


def test_reading_fetches_what_is_read(clone):
    counting = counted(clone)
    checkout = clone.checkout()
    column = checkout["images"]
    assert column.contains_remote_references is True
    assert checkout.columns.contains_remote_references == {"images": True}
    assert len(column.remote_reference_keys) == 200
    counting.reset()
    assert np.array_equal(column[42], noise(42))
    assert counting.bytes_received < 20_000
    counting.reset()
    assert np.array_equal(clone.checkout()["images", 42], noise(42))
    assert counting.bytes_received == 0, "it is here now"
    assert 42 in list(column.keys(local=True))
    assert 42 not in column.remote_reference_keys
    assert len(column.remote_reference_keys) < 200
    assert all(np.array_equal(value, noise(key)) for key, value in column.items(local=True))
    assert counting.bytes_received == 0
    assert np.array_equal(column.get_batch(range(0, 200, 2))[50], noise(100))
    assert counting.requests["get_range"] < 20
    checkout.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_fetch_with_the_credentials_of_the_clone(clone, method):
    column = clone.checkout()["images"]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(read_one, [(column, key) for key in range(8)]) == [float(noise(key).sum()) for key in range(8)]


def test_fetch_data_and_offline(clone, pushed):
    head = clone.checkout().commit_hash
    assert clone.remote.fetch_data("origin", "master") == [head]
    assert clone.checkout()["images"].contains_remote_references is False
    counting = counted(clone)
    assert clone.remote.fetch_data("origin", commit=head[:8]) == [head]
    assert counting.bytes_received == 0, "nothing is fetched twice"
    offline = Repository(clone.path, offline=True)
    assert same_columns(read_all(offline), read_all(pushed))


def test_fetch_data_by_column_and_size(pushed, s3_url, s3_options, tmp_path):
    first = pushed.checkout().commit_hash
    second = add_commit(pushed, {n: noise(n + 1000) for n in range(200)}, column="other")
    third = add_commit(pushed, {n: noise(n + 2000) for n in range(200)}, column="images")
    pushed.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("a", "b", s3_url, storage_options=s3_options)
    assert clone.remote.fetch_data("origin", "master", column_names=["other"]) == [third]
    checkout = clone.checkout()
    assert checkout.columns.contains_remote_references == {"images": True, "other": False}
    clone.remote.fetch_data("origin", "master", column_names="images", max_num_bytes=300_000)
    local = len(list(checkout["images"].keys(local=True)))
    assert 40 <= local <= 60
    checkout.close()
    assert clone.remote.fetch_data("origin", "master", retrieve_all_history=True) == [third, second, first]
    offline = Repository(clone.path, offline=True)
    for commit in (first, second, third):
        assert same_columns(read_all(offline, commit=commit), read_all(pushed, commit=commit))


def test_fetch_data_sample(clone):
    head = clone.checkout().commit_hash
    remote = clone.remote
    for samples, keys in ((3, [3]), ([50, 51], [50, 51]), (np.int64(99), [99]), (range(120, 123), [120, 121, 122])):
        assert remote.fetch_data_sample("origin", "images", samples, branch="master") == head
        offline = Repository(clone.path, offline=True)
        with pytest.warns(UserWarning, match="not all data"):
            checkout = offline.checkout()
        for key in keys:
            assert np.array_equal(checkout["images", key], noise(key))
        checkout.close()
    with pytest.raises(KeyError, match="'images' has no sample 'nope'"):
        remote.fetch_data_sample("origin", "images", "nope", branch="master")
    with pytest.raises(KeyError, match="no column 'nope'") as caught:
        remote.fetch_data_sample("origin", "nope", 1, branch="master")
    assert type(caught.value) is ColumnNotFoundError
    with pytest.raises(ValueError, match="is not suitable"):
        remote.fetch_data_sample("origin", "images", 1.5, branch="master")


def test_what_fetch_data_refuses(clone):
    for arguments, words in (
        ({}, "either a branch or a commit"),
        ({"branch": "master", "commit": "abcd"}, "either a branch or a commit"),
        ({"branch": "nope"}, "no branch 'nope'"),
        ({"commit": "abcdef"}, "no commit"),
        ({"branch": "master", "column_names": ["nope"]}, "no column 'nope'.*images"),
        ({"branch": "master", "max_num_bytes": -1}, "max_num_bytes"),
        ({"branch": "master", "max_num_bytes": "5"}, "max_num_bytes"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            clone.remote.fetch_data("origin", **arguments)
        assert isinstance(caught.value, HangarError)


def test_offline_with_missing_data(clone):
    clone.checkout()["images", 7]
    offline = Repository(clone.path, offline=True)
    with pytest.warns(UserWarning, match=r"not all data of commit .*columns: images.*fetch_data"):
        checkout = offline.checkout()
    assert np.array_equal(checkout["images", 7], noise(7))
    for use in (lambda c: c[190], lambda c: c.get(190), lambda c: c.get_batch([7, 190]), lambda c: list(c.values())):
        with pytest.raises(FileNotFoundError, match=r"images.*190|images.*offline=True") as caught:
            use(checkout["images"])
        assert type(caught.value) is DataNotLocalError
    assert "Partial Remote Data Refs : True" in str(checkout["images"])
    checkout.close()
    for use in (
        lambda r: r.ping("origin"),
        lambda r: r.push("origin", "master"),
        lambda r: r.fetch("origin", "master"),
        lambda r: r.fetch_data("origin", "master"),
    ):
        with pytest.raises(ConnectionError, match="offline=True"):
            use(offline.remote)


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
