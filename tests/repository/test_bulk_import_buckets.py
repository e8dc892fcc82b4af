"""Bulk import straight into a bucket: each worker uploads its packs, and one commit makes them part of history."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hangar_cloud.backends.store import CountingStore, open_store
from hangar_cloud.bulk_importer import UDF_Return, run_bulk_import
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import BulkImportError
from tests.repository import bulk_functions as functions
from tests.repository.making import files_of

ALL = {"grace": 0, "keep_reflog": 0}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol beside collections, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.3)


@pytest.fixture
def bucket(open_bucket):
    """A repository in S3 with columns, and two samples."""
    repository = open_bucket("one")
    checkout = repository.checkout(write=True)
    checkout.add_ndarray_column("picture", shape=(60, 60), dtype=np.uint8)
    checkout.add_str_column("text")
    for number in (1, 2):
        checkout["picture", number] = functions.picture(number)
    checkout.commit("columns")
    checkout.close()
    return repository


def stored(repository, kind="packs"):
    return {info.path: info.size for info in repository._storage.store.list(f"{kind}/")}


def uploaded_then(folder, url, options, known, finishing):
    """Item 0 is soon done, so that its worker uploads. Item 1, of another one, waits for that and for `folder/go`."""

    def udf(key):
        yield UDF_Return("picture", key, functions.picture(key + 1000))
        if key == 0:
            functions.wait_for((folder / "begun").exists)
        else:
            (folder / "begun").touch()
            store = open_store(url, options)
            functions.wait_for(lambda: len(list(store.list("packs/"))) > known)
            (folder / "uploaded").touch()
            functions.wait_for((folder / "go").exists)
            finishing()

    return udf


def test_workers_upload_and_others_read(bucket, open_bucket, tmp_path, s3_options):
    before = stored(bucket)
    bucket._storage.store = counting = CountingStore(bucket._storage.store)
    items = [{"numbers": [1, *range(100, 120)], "prefix": prefix} for prefix in "abcd"]
    digest = run_bulk_import(bucket, "master", ["picture"], functions.pictures, items, ncpus=2)
    assert counting.requests["upload"] == 0  # of packs by this process
    new = {name: size for name, size in stored(bucket).items() if name not in before}
    assert 1 <= len(new) <= 2
    assert sum(new.values()) < 20 * 3700 + 1000
    other = open_bucket("two")
    checkout = other.checkout()
    assert checkout.commit_hash == digest
    assert len(checkout["picture"]) == 2 + 4 * 21
    assert np.array_equal(checkout["picture", "d119"], functions.picture(119))
    assert np.array_equal(checkout["picture", "c1"], functions.picture(1))
    checkout.close()
    assert other.verify_repo_integrity()
    here = files_of(tmp_path / "one")
    assert {name.rpartition("/")[2] for name in new} <= {name.rpartition("/")[2] for name in here}
    assert [name for name, data in here.items() if s3_options["secret"].encode() in data] == []


def test_a_failed_import_leaves_only_what_a_collection_removes(bucket, s3_url, s3_options, tmp_path):
    before = stored(bucket), stored(bucket, "commits"), stored(bucket, "records")
    head = bucket.log(return_contents=True)["head"]

    def fails():
        raise OSError("the second half is missing")

    (tmp_path / "go").touch()
    udf = uploaded_then(tmp_path, s3_url, s3_options, len(before[0]), fails)
    with pytest.raises(BulkImportError, match="item 1 .*the second half is missing"):
        run_bulk_import(bucket, "master", ["picture"], udf, [{"key": 0}, {"key": 1}], ncpus=2, recheck=0)
    assert len(stored(bucket)) == len(before[0]) + 1
    assert bucket.log(return_contents=True)["head"] == head
    bucket.gc(**ALL)
    assert (stored(bucket), stored(bucket, "commits"), stored(bucket, "records")) == before
    checkout = bucket.checkout(write=True)
    assert checkout.diff.status() == "CLEAN"
    checkout.close()


def test_a_collection_beside_it_takes_nothing_from_it(bucket, open_bucket, s3_url, s3_options, tmp_path):
    """What was uploaded before there is a commit is garbage to it; that is noticed, and uploaded again."""
    known = set(stored(bucket))
    deleted = []

    def collect():
        functions.wait_for((tmp_path / "uploaded").exists)
        collector = open_bucket("three")
        collector.gc(**ALL)
        deleted.extend(name for name in known if name not in stored(collector))
        left.extend(stored(collector))
        (tmp_path / "go").touch()

    left: list[str] = []
    beside = threading.Thread(target=collect)
    beside.start()
    udf = uploaded_then(tmp_path, s3_url, s3_options, len(known), lambda: None)
    run_bulk_import(bucket, "master", ["picture"], udf, [{"key": 0}, {"key": 1}], ncpus=2, recheck=0)
    beside.join()
    assert (set(left), deleted) == (known, [])
    other = open_bucket("two")
    checkout = other.checkout()
    assert np.array_equal(checkout["picture", 0], functions.picture(1000))
    assert np.array_equal(checkout["picture", 1], functions.picture(1001))
    checkout.close()
    assert other.verify_repo_integrity()


def test_without_autocommit_nothing_is_uploaded(bucket):
    before = stored(bucket)
    items = [{"numbers": range(100, 120), "prefix": "p"}]
    run_bulk_import(bucket, "master", ["picture"], functions.pictures, items, autocommit=False)
    assert stored(bucket) == before
    checkout = bucket.checkout(write=True)
    assert np.array_equal(checkout["picture", "p119"], functions.picture(119))
    checkout.commit("now")
    checkout.close()
    assert len(stored(bucket)) == len(before) + 1


def long_pictures(begin, end):
    for number in range(begin, end):
        yield UDF_Return("long", number, np.random.default_rng(number).integers(0, 256, 3_000_000, np.uint8))


def test_packs_that_are_full_are_in_the_bucket_too(bucket, open_bucket):
    """A pack that the writer called full somewhat earlier than the log did was never sent, and the commit was made."""
    writer = bucket.checkout(write=True)
    writer.add_ndarray_column("long", shape=(3_000_000,), dtype=np.uint8)
    writer.commit("another column")
    writer.close()
    known = len(stored(bucket))
    arguments = [{"begin": n, "end": n + 6} for n in range(0, 36, 6)]
    run_bulk_import(bucket, "master", ["long"], long_pictures, arguments, ncpus=1)
    assert len(stored(bucket)) == known + 2
    elsewhere = open_bucket("two").checkout()
    for number in range(36):
        (value,) = long_pictures(number, number + 1)
        assert np.array_equal(elsewhere["long", number], value.data)
    elsewhere.close()
