"""Fetching many packs at once: all of it, as much as was allowed, and what happens if one of them is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.errors import CorruptDataError

COMMITS = 6


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A folder used as a bucket, with a pack for each commit."""
    repository = Repository(tmp_path / "maker", exists=False)
    repository.init("Maker", "maker@example.org")
    checkout = repository.checkout(write=True)
    column = checkout.add_ndarray_column("values", shape=(20_000,), dtype=np.uint8)
    random = np.random.default_rng(0)
    for number in range(COMMITS):
        column[number] = random.integers(0, 255, 20_000, np.uint8)
        checkout.commit(str(number))
    checkout.close()
    place = tmp_path / "bucket"
    repository.remote.add("origin", f"file://{place}")
    repository.remote.push("origin", "master")
    return place


def clone_of(remote: Path, folder: Path) -> Repository:
    repository = Repository(folder, exists=False)
    repository.clone("Reader", "reader@example.org", f"file://{remote}")
    return repository


def packs_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.pack"))


def test_all_packs_are_fetched_and_read_without_the_remote(remote: Path, tmp_path: Path) -> None:
    repository = clone_of(remote, tmp_path / "clone")
    repository.remote.fetch_data("origin", branch="master")
    assert len(packs_in(tmp_path / "clone")) == len(packs_in(remote)) == COMMITS
    remote.rename(tmp_path / "gone")
    assert sum(len(value) for value in repository.checkout()["values"].values()) == COMMITS * 20_000


def test_a_limit_is_kept_and_packs_come_in_the_order_of_samples(remote: Path, tmp_path: Path) -> None:
    repository = clone_of(remote, tmp_path / "clone")
    size = packs_in(remote)[0].stat().st_size
    repository.remote.fetch_data("origin", branch="master", max_num_bytes=int(size * 2.5))
    assert len(packs_in(tmp_path / "clone")) == 2


def test_a_damaged_pack_is_told_and_the_others_are_whole(remote: Path, tmp_path: Path) -> None:
    damaged = packs_in(remote)[2]
    damaged.chmod(0o644)
    data = bytearray(damaged.read_bytes())
    data[5_000] ^= 1
    damaged.write_bytes(data)
    repository = clone_of(remote, tmp_path / "clone")
    with pytest.raises(CorruptDataError, match=damaged.stem):
        repository.remote.fetch_data("origin", branch="master")
    fetched = packs_in(tmp_path / "clone")
    assert damaged.name not in [file.name for file in fetched]
    for file in fetched:
        assert file.read_bytes() == next(remote.rglob(file.name)).read_bytes()
