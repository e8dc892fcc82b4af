"""Batches in key order of long samples: read from here and fetched, whole and in part, whatever size they have."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hangar_cloud import Repository, set_read_ahead
from hangar_cloud.backends import direct_writes
from hangar_cloud.errors import CorruptDataError
from hangar_cloud.reading import READ_AHEAD_BYTES
from tests.repository.making import clone_of, counted, make_repository, noise

COUNT, NBYTES = 130, 40_000


def value(number: int) -> np.ndarray:
    """Some values are those of several keys, and so stored once."""
    return noise(number % 100, NBYTES)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with long samples, and with many short ones in several leaves."""
    path = tmp_path_factory.mktemp("source")
    writer = make_repository(path).checkout(write=True)
    with writer:
        writer.add_ndarray_column("long", shape=(200, 100), dtype=np.int16).update(
            {n: value(n).view(np.int16).reshape(200, 100) for n in range(COUNT)}
        )
        writer.add_ndarray_column("short", shape=(300,), dtype=np.uint8).update({n: noise(n, 300) for n in range(9000)})
    writer.commit("all")
    writer.close()
    return path


@pytest.fixture
def clone(source, tmp_path):
    """A clone that has neither records nor samples."""
    return clone_of(source, tmp_path / "clone")


@pytest.fixture(autouse=True)
def usual_read_ahead():
    yield
    set_read_ahead(READ_AHEAD_BYTES)


def assert_all(batches, size, count=COUNT, last=True):
    """That batches have every value once, in the order of keys."""
    keys = []
    for names, values in batches:
        assert values.shape[0] == len(names) <= size
        assert values.flags.writeable
        for name, got in zip(names, values, strict=True):
            assert got.tobytes() == value(name).tobytes()
        keys += names
    assert keys == list(range(count if last else count - count % size))


@pytest.mark.parametrize("read_ahead", [0, 100_000, READ_AHEAD_BYTES])
@pytest.mark.parametrize("size", [1, 7, 65, COUNT, 10**9])
def test_batches_of_any_size_have_every_sample_once(clone, source, size, read_ahead):
    set_read_ahead(read_ahead)
    counting = counted(clone)
    column = clone.checkout()["long"]
    assert_all(column.iter_batches(size), size)
    fetched = counting.bytes_received
    assert fetched < 1.1 * 100 * NBYTES + 200_000, "each once"
    assert_all(column.iter_batches(size), size)
    assert counting.bytes_received == fetched
    assert_all(Repository(source).checkout()["long"].iter_batches(size), size)


@pytest.mark.parametrize(("size", "batches"), [(7, 18), (130, 1), (131, 0)])
def test_a_last_batch_that_is_left_out_is_not_read(clone, size, batches):
    set_read_ahead(0)
    counting = counted(clone)
    column = clone.checkout()["long"]
    found = list(column.iter_batches(size, drop_last=True))
    assert [len(keys) for keys, _ in found] == [size] * batches
    assert sum(len(keys) for keys, _ in found) == batches * size
    assert (counting.bytes_received < 200_000) == (not batches)


def test_batches_that_are_held_stay_as_they_were(clone):
    column = clone.checkout()["long"]
    for _ in range(2):
        held = []
        for number, (keys, batch) in enumerate(column.iter_batches(30)):
            if number % 3:
                held.append((keys, batch[1:, ::2]))
            else:
                batch[:] = 0  # it is the caller's
        for keys, part in held:
            for key, got in zip(keys[1:], part, strict=True):
                assert np.array_equal(got, value(key).view(np.int16).reshape(200, 100)[::2])


def test_two_at_once_and_one_that_is_broken_off_do_not_disturb_each_other(clone):
    counting = counted(clone)
    column = clone.checkout()["long"]
    broken = column.iter_batches(20)
    next(broken)
    for (names, first), (others, second) in zip(column.iter_batches(20), column.iter_batches(20), strict=True):
        assert names == others
        assert np.array_equal(first, second)
        assert not np.shares_memory(first, second)
    broken.close()
    assert_all(column.iter_batches(20), 20)
    assert counting.bytes_received < 2.2 * 100 * NBYTES


def test_batches_go_across_leaves(clone, monkeypatch):
    """Samples of 40,000 bytes would take a quarter of a gigabyte for that; short ones are read the same way here."""
    monkeypatch.setattr("hangar_cloud.batches.MOST_SHARED", 0)
    monkeypatch.setattr("hangar_cloud.fetching_ahead._LOOK_BYTES", 100_000)
    column = clone.checkout()["short"]
    assert len(list(column._leaves())) > 1
    for _ in range(2):
        found = list(column.iter_batches(1000))
        assert [key for keys, _ in found for key in keys] == list(range(9000))
        assert np.array_equal(np.concatenate([batch for _, batch in found]), [noise(n, 300) for n in range(9000)])
        column = Repository(clone.path).checkout()["short"]


@pytest.mark.parametrize("fetched", [True, False])
def test_batches_before_a_damaged_sample_come_and_then_it_is_named(tmp_path, fetched):
    repository = make_repository(tmp_path / "made")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("long", shape=(NBYTES,), dtype=np.uint8).update({n: noise(n, NBYTES) for n in range(60)})
    writer.commit("all")
    writer.close()
    pack = max((tmp_path / "made/.hangar/store/packs").rglob("*.pack"), key=os.path.getsize)
    data = bytearray(pack.read_bytes())
    data[35 * (NBYTES + 24) + 500] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    reader = Repository(tmp_path / "made")
    if fetched:
        reader = clone_of(tmp_path / "made", tmp_path / "clone")
    column, seen = reader.checkout()["long"], []
    with pytest.raises(CorruptDataError, match="column 'long', sample 35"):
        for keys, batch in column.iter_batches(10):
            assert np.array_equal(batch, [noise(n, NBYTES) for n in keys])
            seen += keys
    assert seen == list(range(30))
    assert np.array_equal(column.get_batch(range(40, 60)), [noise(n, NBYTES) for n in range(40, 60)])


def test_what_is_not_here_is_told_offline(clone, tmp_path):
    set_read_ahead(0)
    column = clone.checkout()["long"]
    next(column.iter_batches(40))
    with pytest.warns(UserWarning, match="repository is offline"):
        column = Repository(clone.path, offline=True).checkout()["long"]
    stream = column.iter_batches(40)
    keys, batch = next(stream)
    assert [got.tobytes() for got in batch] == [value(n).tobytes() for n in keys]
    with pytest.raises(FileNotFoundError, match="column 'long', sample 40"):
        next(stream)


def test_a_closed_checkout_gives_no_further_batch(clone):
    checkout = clone.checkout()
    stream = checkout["long"].iter_batches(30)
    next(stream)
    checkout.close()
    with pytest.raises(PermissionError):
        next(stream)


def test_what_was_held_is_not_kept_once_it_was_used(clone):
    column = clone.checkout()["long"]
    assert_all(column.iter_batches(7), 7)
    assert column._packs.decoded_bytes <= 40 * NBYTES, "of some 30 samples that come twice"


def test_what_is_held_until_it_is_used_goes_past_the_systems_memory_and_can_be_read_later(clone, monkeypatch):
    wrote = []

    def spy(self, offset, data, real=direct_writes.WritesPastMemory.write):
        wrote.append(real(self, offset, data))
        return wrote[-1]

    monkeypatch.setattr(direct_writes.WritesPastMemory, "write", spy)
    monkeypatch.setattr(direct_writes, "_SLOW_SECONDS", 1000)
    monkeypatch.setattr(direct_writes, "_unfit", {})
    assert_all(clone.checkout()["long"].iter_batches(50), 50)
    assert wrote
    assert any(wrote) or direct_writes._unfit  # of a file system that has no such writes
    with pytest.warns(UserWarning, match="columns: short"):
        checkout = Repository(clone.path, offline=True).checkout()
    assert_all(checkout["long"].iter_batches(50), 50)


def test_what_is_read_from_the_cache_at_once_goes_the_usual_way(clone, monkeypatch):
    monkeypatch.setattr("hangar_cloud.backends.kept_objects.WritesPastMemory", None)
    assert sum(1 for _ in clone.checkout()["long"].values()) == COUNT
