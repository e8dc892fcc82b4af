"""How often a reader waits for a bucket: on a real one each wait is some 30 ms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Barrier, Event, current_thread, local
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import hangar_cloud.storage
from hangar_cloud import Repository, make_numpy_dataset
from hangar_cloud.backends.errors import StoreUnavailableError
from hangar_cloud.backends.store import ObjectStore, open_store
from hangar_cloud.catalog.hint import HINT_PATH
from hangar_cloud.catalog.sealed_json import seal, unseal

READS = ("get", "get_many", "get_range", "get_ranges", "stat", "exists", "list", "list_children", "download")
ROWS = 120_000


class _Waits:
    """Calls of the store port from outside; each is one wait, however many requests it sends at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.inside = local()
        self.together: Barrier | None = None

    def watch(self, store: ObjectStore) -> ObjectStore:
        for name in READS:
            setattr(store, name, self._counted(name, getattr(store, name)))
        return store

    def _counted(self, name: str, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if hasattr(self.inside, "call"):
                return method(*args, **kwargs)
            # What is fetched meanwhile in the background is no wait of its own.
            if current_thread().name != "hangar-background":
                self.calls.append(name)
            self.inside.call = name
            try:
                if self.together is not None:
                    self.together.wait(20)
                return method(*args, **kwargs)
            finally:
                del self.inside.call

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


def test_a_fresh_reader_waits_five_times_for_its_first_sample(bucket: str, tmp_path: Path, waits: _Waits) -> None:
    checkout = Repository(bucket, cache_dir=tmp_path).checkout()
    assert checkout["images"][60_000][0, 0] == 60_000 % 251
    assert len(waits.calls) <= 5, waits.calls


@pytest.mark.parametrize("hint", [None, "older", "missing commit", "another branch's commit", "damaged commit"])
def test_a_hint_that_names_another_commit_costs_one_wait_and_nothing_else(
    bucket: str, tmp_path: Path, waits: _Waits, hint: str | None
) -> None:
    store = open_store(bucket)
    kept = store.get(HINT_PATH)
    members = unseal(kept, "hint")
    head = members["commits"]["master"]
    older = Repository(bucket, cache_dir=tmp_path / "a").log(return_contents=True)["order"][3]
    named = {"older": older, "missing commit": "0" * 64, "another branch's commit": older, "damaged commit": "1" * 64}
    store.put(f"commits/{'1' * 64}.json", store.get(f"commits/{head}.json"))
    members["commits"] = {} if hint is None else {"master": named[hint]}
    waits.calls.clear()
    try:
        store.put(HINT_PATH, seal(members))
        checkout = Repository(bucket, cache_dir=tmp_path / "b").checkout()
        assert checkout.commit_hash == head
        assert checkout["images"][60_000][0, 0] == 60_000 % 251
        assert len(waits.calls) <= 6, waits.calls
    finally:
        store.put(HINT_PATH, kept)


def test_the_commit_that_the_hint_names_is_fetched_beside_the_pointers(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Barrier(2)
    real = type(open_store(bucket)).get_many

    def get_many(store: ObjectStore, paths: Sequence[str]) -> Any:
        if paths[0].startswith(("commits/", "refs/heads/")):
            both.wait(20)
        return real(store, paths)

    monkeypatch.setattr(type(open_store(bucket)), "get_many", get_many)
    assert Repository(bucket, cache_dir=tmp_path).checkout()["labels"][39] == "39"


@pytest.mark.parametrize("how", ["fails", "never answers"])
def test_nobody_waits_for_a_commit_that_the_hint_names_in_vain(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store, over = open_store(bucket), Event()
    kept = store.get(HINT_PATH)
    older = Repository(bucket, cache_dir=tmp_path / "a").log(return_contents=True)["order"][3]
    real = type(store).get_many

    def get_many(store: ObjectStore, paths: Sequence[str]) -> Any:
        if paths[0] == f"commits/{older}.json":
            if how == "fails":
                raise StoreUnavailableError("of all objects this one")
            over.wait(60)
        return real(store, paths)

    try:
        store.put(HINT_PATH, seal({**unseal(kept, "hint"), "commits": {"master": older}}))
        monkeypatch.setattr(type(store), "get_many", get_many)
        checkout = Repository(bucket, cache_dir=tmp_path / "b").checkout()
        assert checkout.commit_hash != older
        assert checkout["labels"][39] == "39"
    finally:
        over.set()
        store.put(HINT_PATH, kept)


def test_a_loader_waits_for_the_records_of_all_columns_at_once(tmp_path: Path, waits: _Waits) -> None:
    """Each column's one after the other took twice as many waits as there are columns."""
    url, names = f"memory://columns-{uuid4().hex}", [f"column_{i}" for i in range(6)]
    repository = Repository(url, exists=False, cache_dir=tmp_path / "writer")
    repository.init("Writer", "writer@example.org")
    writer = repository.checkout(write=True)
    for number, name in enumerate(names):
        column = writer.add_ndarray_column(name, shape=(), dtype=np.int64)
        column.update((i, np.array(i * (number + 1))) for i in range(20_000))
    writer.commit("columns")
    writer.close()
    checkout = Repository(url, cache_dir=tmp_path / "reader").checkout()
    waits.calls.clear()
    waits.together = Barrier(len(names))  # lets none through before one of each column is there
    dataset = make_numpy_dataset([checkout[name] for name in names], batch_size=1000)
    waits.together = None
    assert len(waits.calls) == 2 * len(names), waits.calls
    assert sum(int(batch["column_5"].sum()) for batch in dataset) == 6 * sum(range(20_000))


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


def test_a_store_that_fails_is_not_asked_for_the_records_of_each_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each column's were tried again and again before the error was told."""
    url, names = f"memory://failing-{uuid4().hex}", [f"column_{i:02}" for i in range(40)]
    repository = Repository(url, exists=False, cache_dir=tmp_path / "writer")
    repository.init("Writer", "writer@example.org")
    writer = repository.checkout(write=True)
    for name in names:
        writer.add_ndarray_column(name, shape=(), dtype=np.int64)[0] = np.array(int(name[-2:]))
    writer.commit("columns")
    writer.close()
    checkout = Repository(url, cache_dir=tmp_path / "reader").checkout()
    asked: list[object] = []

    def fail(store: ObjectStore, requests: object) -> Any:
        asked.append(requests)
        raise StoreUnavailableError("the store is away")

    monkeypatch.setattr(type(open_store(url)), "get_ranges", fail)
    with pytest.raises(StoreUnavailableError, match="away"):
        make_numpy_dataset([checkout[name] for name in names], batch_size=1)
    assert len(asked) <= 8 + 1, len(asked)
