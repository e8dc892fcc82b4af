"""Blocks that lie within one stretch of a pack, and what is left unused for that, through all that packs go through."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository, make_numpy_dataset
from hangar_cloud.backends import packs
from hangar_cloud.backends.packs import STRETCH, read_index
from hangar_cloud.backends.store.s3 import S3Store
from tests.repository.making import make_repository, noise

SHORT = 64 * 1024
SIZES = [700, 9_000, 20_000, 40_001]


@pytest.fixture
def short(monkeypatch):
    """Stretches of 64 KiB."""
    monkeypatch.setattr(packs, "STRETCH", SHORT)


def filled(path, count=120):
    repository = make_repository(path)
    writer = repository.checkout(write=True)
    column = writer.add_bytes_column("blob")
    for begin in range(0, count, 7):
        column.update({n: value(n) for n in range(begin, min(begin + 7, count))})
    return repository, writer


def value(number):
    return noise(number, SIZES[number % len(SIZES)]).tobytes()


def extents(path):
    found = []
    for file in sorted(path.rglob("*.pack")):
        with file.open("rb") as opened:
            found.append(read_index(opened))
    return found


def check(path, count=120):
    repository = Repository(path)
    checkout = repository.checkout()
    assert {key: checkout["blob"][key] for key in checkout["blob"]} == {n: value(n) for n in range(count)}
    assert repository.verify_repo_integrity()
    checkout.close()


def in_two_stretches(found):
    return [e for e in found if e.offset // SHORT != (e.offset + e.stored - 1) // SHORT]


def test_no_block_lies_in_two_stretches_and_little_is_unused(short, tmp_path):
    _, writer = filled(tmp_path)
    writer.commit("all")
    writer.close()
    check(tmp_path)
    (found,) = extents(tmp_path)
    assert found[-1].offset > 20 * SHORT
    # What would fit behind a block's header alone is not left unused.
    assert len(in_two_stretches(found)) <= 2
    unused = sum(e.stored for e in found) - sum(len(value(n)) for n in range(120))
    assert unused < found[-1].offset // 3, "half of the longest block in each stretch"


def test_without_it_blocks_would(monkeypatch, tmp_path):
    monkeypatch.setattr(packs, "MOST_UNUSED", 0)
    _, writer = filled(tmp_path)
    writer.commit("all")
    writer.close()
    (found,) = extents(tmp_path)
    assert len(in_two_stretches(found)) > 10


def test_what_is_staged_is_gone_on_with(short, tmp_path):
    _, writer = filled(tmp_path, 60)
    writer.close()
    writer = Repository(tmp_path).checkout(write=True)
    writer["blob"].update({n: value(n) for n in range(60, 120)})
    writer.commit("all")
    writer.close()
    check(tmp_path)
    assert len(in_two_stretches(extents(tmp_path)[0])) <= 2


def test_collected_repacked_and_copied(short, tmp_path):
    """What is unused is nobody's sample: it is not missed by any of these."""
    repository, writer = filled(tmp_path / "here")
    writer.commit("all")
    writer["blob"][1000] = noise(1000, 30_000).tobytes()
    writer.commit("one more")
    del writer["blob"][1000]
    writer.commit("gone")
    writer.close()
    repository.gc(grace=0)
    repository.repack()
    check(tmp_path / "here")
    clone = Repository(tmp_path / "there", exists=False)
    clone.clone("a", "a@b.c", str(tmp_path / "here"))
    clone.remote.fetch_data("origin", branch="master")
    check(tmp_path / "there")


def test_a_loader_asks_for_stretches(s3_server, s3_url, tmp_path, monkeypatch):
    count, nbytes = 500, 100_000
    maker = make_repository(s3_url, storage_options=s3_server.storage_options, cache_dir=tmp_path / "maker")
    writer = maker.checkout(write=True)
    values = np.random.default_rng(0).integers(0, 256, (count, nbytes), np.uint8)
    writer.add_ndarray_column("image", prototype=values[0]).update(enumerate(values))
    writer.commit("images")
    writer.close()
    asked = []

    def read(self, path, offset, lengths, real=S3Store._read_pieces):
        asked.append((path, offset, offset + sum(lengths)))
        return real(self, path, offset, lengths)

    monkeypatch.setattr(S3Store, "_read_pieces", read)
    reader = Repository(s3_url, storage_options=s3_server.storage_options, cache_dir=tmp_path / "reader")
    checkout = reader.checkout()
    dataset = make_numpy_dataset(checkout["image"], batch_size=50, window=80, memory=80_000_000)
    found = np.concatenate([batch["image"] for batch in dataset])
    assert np.array_equal(found[np.lexsort(found[:, :4].T)], values[np.lexsort(values[:, :4].T)])
    of_packs = [one for one in asked if "packs/" in one[0] and one[2] - one[1] > nbytes]
    assert sum(end - begin for _, begin, end in of_packs) >= count * nbytes
    assert all(begin // STRETCH == (end - 1) // STRETCH for _, begin, end in of_packs)
    assert len(of_packs) <= count * nbytes // STRETCH + 3
    begun = iter(dataset)
    assert len(next(begun)["image"]) == 50
    state = dataset.state_dict()
    rest = [batch["image"] for batch in begun]
    again = make_numpy_dataset(checkout["image"], batch_size=50, window=80, memory=60_000_000)
    again.load_state_dict(state)
    assert np.array_equal(np.concatenate([batch["image"] for batch in again]), np.concatenate(rest))
    checkout.close()
