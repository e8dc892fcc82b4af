"""Packs that are full go to the bucket while more is written; whatever becomes of that, the commit is whole."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends import pack_writer
from hangar_cloud.backends.errors import StoreUnavailableError
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.catalog import condemned
from tests.repository.making import make_repository, read_all, same

PER_PACK = 20
SAMPLES = {key: np.random.default_rng(key).integers(0, 256, 5000, np.uint8) for key in range(6 * PER_PACK)}


class SlowStore(CountingStore):
    """Keeps the names of packs that are sent, and when; may hold them up, or fail."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.sent: list[str] = []
        self.failing = 0
        self.gate = threading.Event()
        self.gate.set()

    def upload(self, path, source, *, progress=None):
        self.gate.wait(20)
        if self.failing:
            self.failing -= 1
            raise StoreUnavailableError("the bucket is out of reach")
        super().upload(path, source, progress=progress)
        self.sent.append(path)


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr(pack_writer, "PACK_BYTES", PER_PACK * 5000)
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.15)


@pytest.fixture
def url():
    return f"memory://early-{uuid4().hex}"


@pytest.fixture
def opened(url, tmp_path):
    """A writer of a bucket, its store, and a column that is ready for samples."""
    repository = make_repository(url, cache_dir=tmp_path / "cache")
    repository._storage.store = store = SlowStore(repository._storage.store)
    repository._storage.forget()
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("images", shape=(5000,), dtype=np.uint8)
    yield writer, store, column
    store.gate.set()
    if writer._alive.open:
        writer.close()


def write(column, keys=SAMPLES) -> None:
    """Write so that each pack is full before the next begins."""
    for start in range(0, len(keys), PER_PACK):
        some = list(keys)[start : start + PER_PACK]
        column.update_batch(some, [SAMPLES[key] for key in some])


def until(condition) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def assert_committed(url, tmp_path, keys=SAMPLES) -> None:
    repository = Repository(url, cache_dir=tmp_path / uuid4().hex)
    found = read_all(repository)["images"]
    assert list(found) == list(keys)
    assert all(same(found[key], SAMPLES[key]) for key in keys)
    assert repository.fsck() == []


def test_full_packs_are_there_before_the_commit_and_sent_once(opened, url, tmp_path):
    writer, store, column = opened
    write(column)
    until(lambda: len(store.sent) == 5)
    writer.commit("six packs")
    assert len(store.sent) == len(set(store.sent)) == 6
    assert_committed(url, tmp_path)


def test_a_commit_waits_for_those_that_are_on_their_way(opened, url, tmp_path):
    writer, store, column = opened
    store.gate.clear()
    write(column)
    assert store.sent == []
    threading.Timer(0.3, store.gate.set).start()
    writer.commit("six packs")
    assert len(store.sent) == len(set(store.sent)) == 6
    assert_committed(url, tmp_path)


def test_what_fails_in_the_background_is_sent_by_the_commit(opened, url, tmp_path):
    writer, store, column = opened
    store.failing = 3
    write(column)
    until(lambda: store.failing == 0)
    writer.commit("six packs")
    assert len(set(store.sent)) == 6
    assert_committed(url, tmp_path)


def test_what_fails_time_and_again_is_told_by_the_commit_and_kept(opened, url, tmp_path):
    writer, store, column = opened
    store.failing = 10**6
    write(column)
    with pytest.raises(OSError, match="out of reach"):
        writer.commit("no")
    assert len(column) == len(SAMPLES)
    store.failing = 0
    writer.commit("six packs")
    assert_committed(url, tmp_path)


def test_a_checkout_that_is_closed_sends_no_more_and_the_next_one_commits(opened, url, tmp_path):
    writer, store, column = opened
    store.gate.clear()
    write(column)
    threading.Timer(0.2, store.gate.set).start()
    writer.close()
    sent = len(store.sent)
    assert sent <= 2
    time.sleep(0.2)
    assert len(store.sent) == sent
    again = Repository(url, cache_dir=tmp_path / "cache").checkout(write=True)
    assert len(again["images"]) == len(SAMPLES)
    again.commit("six packs")
    again.close()
    assert_committed(url, tmp_path)


def test_packs_that_a_collection_takes_before_the_commit_are_sent_again(opened, url, tmp_path):
    writer, store, column = opened
    write(column)
    until(lambda: len(store.sent) == 5)
    Repository(url, cache_dir=tmp_path / "other").gc(grace=0, keep_reflog=0)
    assert not store.exists(store.sent[0])
    writer.commit("six packs")
    assert_committed(url, tmp_path)


def test_samples_that_were_given_up_are_not_in_the_commit(opened, url, tmp_path):
    writer, _store, column = opened
    write(column)
    for key in list(SAMPLES)[PER_PACK:]:
        del column[key]
    writer.commit("one pack")
    assert_committed(url, tmp_path, list(SAMPLES)[:PER_PACK])


def test_a_reset_and_another_start(opened, url, tmp_path):
    writer, store, column = opened
    store.gate.clear()
    write(column)
    threading.Timer(0.2, store.gate.set).start()
    writer.reset_staging_area()
    again = Repository(url, cache_dir=tmp_path / "cache").checkout(write=True)
    column = again.add_ndarray_column("images", shape=(5000,), dtype=np.uint8)
    write(column)
    again.commit("six packs")
    again.close()
    assert_committed(url, tmp_path)
