"""Batches of samples that are too long to share a block, out of a clone that has none of them."""

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.making import make_repository

SIZE = 50_000


@pytest.fixture
def column(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (60, SIZE), np.uint8)
    writer = make_repository(tmp_path / "source").checkout(write=True)
    writer.add_ndarray_column("big", shape=(SIZE,), dtype=np.uint8).update(dict(enumerate(data)))
    writer.commit("all")
    writer.close()
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Clone", "clone@example.org", str(tmp_path / "source"))
    return clone.checkout()["big"], data


def test_batches_are_the_same_each_time_and_gathered_when_they_come_again(column):
    values, data = column
    keys = [3, 59, 7, 7, 0]
    for _ in range(3):
        assert np.array_equal(values.get_batch(keys), data[keys])
    assert values._spots.known(values._spots.find(keys)).all(), "what is read again is kept where batches are made"


def test_a_column_read_once_in_batches_is_not_copied_in_memory(column):
    values, data = column
    for start in range(0, 60, 10):
        assert np.array_equal(values.get_batch(range(start, start + 10)), data[start : start + 10])
    assert values._packs.arenas.nbytes == 0


def test_what_was_handed_out_can_be_changed_without_harm(column):
    values, data = column
    for _ in range(3):
        values.get_batch([1, 2])[:] = 0
        values[1][:] = 0
    assert np.array_equal(values.get_batch([1, 2]), data[[1, 2]])
