"""Integrity of repositories in buckets, past their caches."""

from __future__ import annotations

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.errors import StoreUnavailableError
from tests.repository.filling import fill, noise
from tests.repository.forging import flip, kinds
from tests.repository.making import add_commit, files_of, make_repository


@pytest.fixture
def cached(tmp_path):
    """A repository in a bucket that is not on this disk, all of it cached on this machine."""
    return fill(make_repository(f"memory://{tmp_path.name}-cached", cache_dir=tmp_path / "cache"), big=False)


def test_a_bucket_is_read_itself_and_not_its_cache(cached):
    store = cached._storage.store
    for info in list(store.list("packs/")):
        data = bytearray(store.get(info.path))
        data[100] ^= 1
        store.put(info.path, bytes(data))
    assert "damaged" in kinds(cached)
    assert kinds(cached, level="records") == set()


@pytest.mark.parametrize("folder", ["packs/", "records/", "commits/"])
def test_an_object_gone_from_a_bucket_is_missing_though_it_is_cached(cached, folder):
    store = cached._storage.store
    store.delete([info.path for info in store.list(folder)])
    assert kinds(cached) == {"missing"}


@pytest.mark.parametrize("folder", ["packs/", "records/"])
def test_an_object_cut_short_in_a_bucket(cached, folder):
    store = cached._storage.store
    for info in list(store.list(folder)):
        store.put(info.path, store.get(info.path)[:-1])
    assert kinds(cached)
    assert kinds(cached, level="records")


def test_damage_in_a_cache_is_not_the_buckets(cached):
    for path in cached._storage.root.rglob("*.pack"):
        flip(path, 100)
    assert cached.fsck() == []


def test_an_offline_bucket_cannot_be_verified(cached, tmp_path):
    assert Repository(cached.path, cache_dir=tmp_path / "cache").initialized
    offline = Repository(cached.path, cache_dir=tmp_path / "cache", offline=True)
    with pytest.raises(StoreUnavailableError, match="offline=True"):
        offline.fsck()


def test_checking_a_bucket_leaves_nothing_on_this_machine(cached):
    before = files_of(cached._storage.root)
    assert cached.fsck() == []
    assert files_of(cached._storage.root) == before


def test_a_bucket_that_stops_answering_is_an_error_and_no_finding(cached, monkeypatch):
    def silent(*_, **__):
        raise StoreUnavailableError("no network")

    monkeypatch.setattr(cached._storage.store, "get_ranges", silent)
    with pytest.raises(StoreUnavailableError):
        cached.fsck()
    monkeypatch.undo()
    monkeypatch.setattr(cached._storage.store, "download", silent)
    with pytest.raises(StoreUnavailableError):
        cached.fsck()
    monkeypatch.undo()
    assert cached.fsck() == []


def test_the_level_without_samples_reads_nothing_of_packs_but_their_ends(tmp_path):
    repository = make_repository(f"memory://{tmp_path.name}-counted", cache_dir=tmp_path / "cache")
    add_commit(repository, {n: noise(n, 1_000_000) for n in range(8)}, column="array")
    storage = repository._storage
    storage.store = CountingStore(storage.store)
    assert repository.fsck(level="records") == []
    ends = 128 * 1024
    assert storage.store.bytes_received < ends + 50_000
    assert storage.store.requests["download"] == 0
    storage.store.reset()
    assert repository.fsck() == []
    assert storage.store.bytes_received > 8_000_000
