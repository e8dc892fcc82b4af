"""A walk through a long history in a bucket does not wait for each of its commits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.catalog.commits import commit_path, make_commit
from hangar_cloud.errors import CorruptDataError, UnsupportedStoreError
from hangar_cloud.storage import Storage

COMMITS = 400


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A bucket with a line of commits, and their digests, the newest first."""
    url = f"memory://long-{uuid4().hex}"
    repository = Repository(url, exists=False, cache_dir=tmp_path_factory.mktemp("writer"))
    repository.init("Writer", "writer@example.org")
    writer = repository.checkout(write=True)
    writer.add_str_column("text")["a"] = "one"
    digests = [writer.commit("one")]
    writer.close()
    storage = repository._storage
    trees = storage.commit(digests[0]).trees
    for number in range(COMMITS - 1):
        commit = make_commit((digests[-1],), trees, "Writer", "writer@example.org", f"number {number}")
        storage.store.put_if_absent(commit_path(commit.digest()), commit.encode())
        digests.append(commit.digest())
    log = storage.pointers("Writer")
    log.move("master", log.head("master"), digests[-1], "commit")
    return url, digests[::-1]


class _Waits:
    """Counts the calls of a store that are waited for, however many requests they send at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: Counter[str] = Counter()
        for name in ("get", "get_many", "list"):
            monkeypatch.setattr(CountingStore, name, self._counted(name, getattr(CountingStore, name)))

    def _counted(self, name: str, method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return method(*arguments, **options)

        return call


def opened(url: str, cache: Any) -> tuple[Repository, CountingStore]:
    repository = Repository(url, cache_dir=cache)
    storage: Storage = repository._storage
    storage.store = CountingStore(storage.store)
    return repository, storage.store


def test_a_log_is_fetched_many_commits_at_once(bucket, tmp_path, monkeypatch):
    url, digests = bucket
    waits = _Waits(monkeypatch)
    repository, store = opened(url, tmp_path)
    log = repository.log(return_contents=True)
    assert log["order"] == digests
    assert sum(waits.calls.values()) < 40, waits.calls
    assert store.requests["get"] < COMMITS + 20, "and none twice"
    offline = Repository(url, cache_dir=tmp_path, offline=True)
    assert offline.log(return_contents=True)["order"] == digests, "and all are kept"


def test_who_looks_at_few_commits_fetches_few(bucket, tmp_path):
    url, digests = bucket
    repository, store = opened(url, tmp_path)
    for digest in digests[:16]:
        assert repository._storage.commit(digest).message
    assert store.requests["list"] == 0
    assert store.requests["get"] <= 20


def test_a_store_that_cannot_list_is_walked_one_by_one(bucket, tmp_path, monkeypatch):
    url, digests = bucket
    repository, store = opened(url, tmp_path)

    def refused(*_: Any) -> Any:
        raise UnsupportedStoreError("no listing here")

    monkeypatch.setattr(store, "list", refused)
    assert repository.log(return_contents=True)["order"] == digests


def test_a_damaged_commit_ahead_is_complained_of_by_who_needs_it(bucket, tmp_path, monkeypatch):
    url, digests = bucket
    repository, store = opened(url, tmp_path)
    damaged = digests[200]
    inner = store.inner

    def spoiled(path: str, text: bytes | None) -> bytes | None:
        return text[:-9] + b"damaged}\n" if text is not None and damaged in path else text

    real_many, real_get = inner.get_many, inner.get
    monkeypatch.setattr(
        inner, "get_many", lambda paths: [spoiled(*pair) for pair in zip(paths, real_many(paths), strict=True)]
    )
    monkeypatch.setattr(inner, "get", lambda path: spoiled(path, real_get(path)))
    assert [repository._storage.commit(digest).message for digest in digests[:200]]
    with pytest.raises(CorruptDataError, match=damaged[:12]):
        repository._storage.commit(damaged)
    assert repository._storage.commit(digests[201]).message
    assert replace(repository._storage.commit(digests[300])).digest() == digests[300]


def test_what_the_cache_has_no_room_for_is_read_all_the_same(bucket, tmp_path, monkeypatch):
    url, digests = bucket
    repository, _ = opened(url, tmp_path)
    kept = repository._storage.source._kept

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "keep_whole", full)
    assert repository.log(return_contents=True)["order"] == digests
