"""Remotes: adding and removing them, clone, push, fetch, and what is refused."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import (
    ColumnNotFoundError,
    DataNotLocalError,
    HangarError,
    RemoteExistsError,
    RemoteNotFoundError,
    UnsupportedStoreError,
)
from tests.repository.making import (
    add_commit,
    counted,
    files_of,
    noise,
    read_all,
    same_columns,
)
from tests.repository.test_processes import read_one

SAMPLE = np.zeros(3, np.float32)


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
        assert pool.starmap(read_one, [(column, key) for key in range(8)]) == [
            float(noise(key).sum()) for key in range(8)
        ]


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
    with pytest.raises(ValueError, match="column .images.: .*is not suitable"):
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
