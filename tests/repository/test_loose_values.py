"""Writes outside of blocks: durable by one wait for the disk, in packs by the commit."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import InvalidSampleError
from tests.repository.making import make_repository, noise, read_all, same, start_process


@pytest.fixture
def images(writer):
    return writer.add_ndarray_column("images", shape=(5000,), dtype=np.uint8)


def packs_of(writer) -> list[str]:
    return sorted(path.name for path in writer._staging.folder.glob("*.pack"))


def placed(writer, name: str) -> list[bool]:
    rows = writer._working.columns[name].staged.values()
    return [row.place is not None for row in rows if row is not None]


def test_are_in_packs_after_the_commit_and_read_alike_before_and_after(writer, images, empty):
    for key in range(30):
        images[key] = noise(key)
    images["0"] = noise(0)
    writer["text"][0] = "x" * 500
    assert packs_of(writer) == []
    assert same(images[7], noise(7))
    assert [key for key, _ in images.items()] == [*range(30), "0"]
    writer.commit("images")
    assert same(images[7], noise(7))
    assert writer["text"][0] == "x" * 500
    writer.close()
    reader = empty.checkout()
    rows = [reader["images"]._find(key) for key in [*range(30), "0"]]
    assert all(row.place is not None and row.value is None for row in rows)
    assert reader["text"]._find(0).place is not None
    reader.close()
    assert empty.fsck() == []


def test_are_there_after_the_process_was_killed(empty):
    writer = empty.checkout(write=True)
    writer.add_ndarray_column("images", shape=(5000,), dtype=np.uint8)
    writer.close()
    script = """
        import os, signal, sys
        from hangar_cloud import Repository
        from tests.repository.making import noise
        writer = Repository(sys.argv[1]).checkout(write=True)
        for key in range(5):
            writer["images", key] = noise(key)
        del writer["images"][3]
        writer["images", 4] = noise(40)
        writer["images", 9] = noise(9)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with start_process(script, str(empty.path)) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert Repository(empty.path).fsck() == []
    writer = Repository(empty.path).checkout(write=True)
    expected = {0: noise(0), 1: noise(1), 2: noise(2), 4: noise(40), 9: noise(9)}
    assert list(writer["images"]) == list(expected)
    writer.commit("what was left")
    assert packs_of(writer) == []
    assert all(same(writer["images"][key], value) for key, value in expected.items())
    writer.close()
    assert all(same(value, expected[key]) for key, value in read_all(empty)["images"].items())


def test_overwritten_and_deleted_ones_are_not_packed(writer, images):
    for key in range(4):
        images[key] = noise(key)
    with images:
        images[0] = noise(100)
    del images[1]
    images[2] = noise(200)
    writer._working.flush()
    assert placed(writer, "images") == [True, True, True]
    writer.commit("two and one")
    assert all(same(images[key], noise(seed)) for key, seed in [(0, 100), (2, 200), (3, 3)])
    assert len(images) == 3


def test_a_disk_that_is_full_when_they_are_packed_loses_none(writer, images, empty, monkeypatch):
    for key in range(4):
        images[key] = noise(key)
    real = os.pwrite

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="space"):
        writer.commit("no")
    monkeypatch.setattr(os, "pwrite", real)
    assert len(images) == 4
    writer.commit("yes")
    assert all(row.place is not None for row in map(images._find, range(4)))
    writer.close()
    assert empty.fsck() == []


def test_deleting_one_packs_none_of_the_others(writer, images, empty):
    for key in range(4):
        images[key] = noise(key)
    del images[1]
    del images[2]
    images[2] = noise(20)
    assert packs_of(writer) == []
    assert placed(writer, "images") == [False, False, False]
    writer.commit("three")
    assert all(same(images[key], noise(seed)) for key, seed in [(0, 0), (2, 20), (3, 3)])
    assert (list(images), len(images)) == ([0, 2, 3], 3)
    writer.close()
    assert empty.fsck() == []


def test_large_ones_and_arrays_in_tiles_go_to_packs_at_once(writer):
    large = writer.add_ndarray_column("large", shape=(2**17,), dtype=np.uint8)
    large[0] = np.arange(2**17).astype(np.uint8)
    assert placed(writer, "large") == [True]
    tiled = writer.add_ndarray_column("tiled", shape=(64, 64), dtype=np.uint8, backend="t0")
    tiled[0] = np.zeros((64, 64), np.uint8)
    assert placed(writer, "tiled") == [True]


def test_many_are_packed_before_the_commit(writer, monkeypatch):
    from hangar_cloud.catalog import working_column

    monkeypatch.setattr(working_column, "FLUSH_BYTES", 20_000)
    images = writer.add_ndarray_column("images", shape=(5000,), dtype=np.uint8)
    for key in range(9):
        images[key] = noise(key)
    assert placed(writer, "images").count(True) == 8


def test_a_stash_and_another_backend(writer, images, empty):
    images[0] = noise(0)
    writer["text"][0] = "y" * 300
    writer.stash("away")
    assert "images" not in writer
    writer.stash.pop("away")
    images = writer["images"]
    images[1] = noise(1)
    images.change_backend("i0")
    images[2] = noise(2)
    writer.columns.rename("images", "pictures")
    writer.commit("renamed")
    assert all(same(writer["pictures"][key], noise(key)) for key in range(3))
    writer.close()
    assert empty.fsck() == []


def test_purged_samples_are_refused_where_they_are_assigned(tmp_path):
    repository = make_repository(tmp_path / "repository")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("images", shape=(5000,), dtype=np.uint8).extend(np.stack([noise(0), noise(1)]))
    writer.commit("two")
    writer.close()
    repository.purge(column="images", key=0, reason="asked to")
    writer = repository.checkout(write=True)
    with pytest.raises(InvalidSampleError, match="purged"):
        writer["images", 5] = noise(0)
    with pytest.raises(InvalidSampleError, match="purged"):
        writer["images"].extend(np.stack([noise(2), noise(0)]))
    assert 5 not in writer["images"]
    writer["images", 5] = noise(5)
    writer.close()
