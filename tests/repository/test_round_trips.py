"""How often a reader waits for a bucket: on a real one each wait is some 30 ms."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import hangar_cloud.storage
from hangar_cloud import Repository
from hangar_cloud.backends.store import ObjectStore, open_store

READS = ("get", "get_many", "get_range", "get_ranges", "stat", "exists", "list", "list_children", "download")
ROWS = 120_000


class _Waits:
    """Calls of the store port from outside; each is one wait, however many requests it sends at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.inside = False

    def watch(self, store: ObjectStore) -> ObjectStore:
        for name in READS:
            setattr(store, name, self._counted(name, getattr(store, name)))
        return store

    def _counted(self, name: str, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return method(*args, **kwargs)
            self.calls.append(name)
            self.inside = True
            try:
                return method(*args, **kwargs)
            finally:
                self.inside = False

        return call


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"memory://round-trips-{uuid4().hex}"
    repository = Repository(url, exists=False, cache_dir=tmp_path_factory.mktemp("writer"))
    repository.init("Writer", "writer@example.org")
    checkout = repository.checkout(write=True)
    images = checkout.add_ndarray_column("images", shape=(10, 10), dtype=np.uint8)
    with images:
        for i in range(ROWS):
            images[i] = np.full((10, 10), i % 251, np.uint8)
    checkout.commit("images")
    labels = checkout.add_str_column("labels")
    for i in range(40):
        labels[i] = str(i)
        checkout.commit(f"label {i}")
    checkout.close()
    return url


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> _Waits:
    counter = _Waits()
    monkeypatch.setattr(hangar_cloud.storage, "open_store", lambda *args: counter.watch(open_store(*args)))
    return counter


def test_a_fresh_reader_waits_six_times_for_its_first_sample(bucket: str, tmp_path: Path, waits: _Waits) -> None:
    checkout = Repository(bucket, cache_dir=tmp_path).checkout()
    assert checkout["images"][60_000][0, 0] == 60_000 % 251
    assert len(waits.calls) <= 6, waits.calls


def test_a_batch_over_many_leaves_is_read_in_few_waits(bucket: str, tmp_path: Path, waits: _Waits) -> None:
    checkout = Repository(bucket, cache_dir=tmp_path).checkout()
    images = checkout["images"]
    waits.calls.clear()
    keys = list(range(0, ROWS, 500))
    batch = images.get_batch(keys)
    assert [int(image[0, 0]) for image in batch] == [key % 251 for key in keys]
    assert len(waits.calls) <= 4, waits.calls


def test_a_warm_cache_asks_only_where_the_branch_is(bucket: str, tmp_path: Path, waits: _Waits) -> None:
    Repository(bucket, cache_dir=tmp_path).checkout()["images"][7]
    waits.calls.clear()
    assert Repository(bucket, cache_dir=tmp_path).checkout()["images"][7][0, 0] == 7
    assert len(waits.calls) <= 2, waits.calls
