"""Values that are in memory already are read in a short way: the same values, the same errors, nothing of it shared."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.making import make_repository

KEYS = [0, "0", 1, 7, 10**12, "a/b", "zz", *range(100, 9000)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Several leaves of every kind of column; texts and bytes inline and packed, empty ones too."""
    path = tmp_path_factory.mktemp("warm")
    writer = make_repository(path).checkout(write=True)
    rng = np.random.default_rng(1)
    samples = {
        "pixels": {key: rng.integers(0, 255, (5, 50), np.uint8) for key in KEYS},
        "label": {key: np.array(i) for i, key in enumerate(KEYS)},
        "text": {key: "é" * (i % 120) for i, key in enumerate(KEYS)},
        "raw": {key: bytes([i % 256]) * (i % 300) for i, key in enumerate(KEYS)},
        "points": {key: rng.random((i % 7 + 1, 3)) for i, key in enumerate(KEYS)},
    }
    writer.add_ndarray_column("pixels", prototype=samples["pixels"][0])
    writer.add_ndarray_column("label", prototype=samples["label"][0])
    writer.add_str_column("text")
    writer.add_bytes_column("raw")
    writer.add_ndarray_column("points", shape=(7, 3), dtype=np.float64, variable_shape=True)
    for name, values in samples.items():
        writer[name].update(values)
    writer.commit("all")
    writer.close()
    return path, samples


def equal(one, other):
    return type(one) is type(other) and (
        (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        if isinstance(one, np.ndarray)
        else one == other
    )


@pytest.mark.parametrize("name", ["pixels", "label", "text", "raw", "points"])
def test_the_second_and_the_third_time_a_value_is_the_same(path, name):
    column = Repository(path[0]).checkout()[name]
    wanted = path[1][name]
    for _ in range(3):
        for key in np.random.default_rng(2).permutation(len(KEYS))[:3000]:
            assert equal(column[KEYS[key]], wanted[KEYS[key]])
    for _ in range(2):
        found = dict(column.items())
        assert list(found) == list(column.keys())
        assert found.keys() == wanted.keys()
        assert all(equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", ["pixels", "label"])
def test_an_array_may_be_changed_and_nothing_else_with_it(path, name):
    column = Repository(path[0]).checkout()[name]
    for _ in range(3):
        value = column[7]
        assert value.flags.writeable
        value[...] = 0
    assert equal(column[7], path[1][name][7])
    for _ in range(2):
        for value in column.values():
            value[...] = 0
    assert equal(column[101], path[1][name][101])


@pytest.mark.parametrize("name", ["pixels", "label", "text"])
@pytest.mark.parametrize("key", [2, "1", "7", -1, 2**63, 2**70, 7.0, True, None, "é", "a b", "", b"0", (0, 1), [0]])
def test_what_is_not_there_is_a_key_error_however_warm(path, name, key):
    column = Repository(path[0]).checkout()[name]
    for known in KEYS[:50]:
        assert column[known] is not None
    with pytest.raises(KeyError):
        column[key]


def test_numbers_of_numpy_are_keys_too(path):
    column = Repository(path[0]).checkout()["label"]
    assert column[7] == column[np.int64(7)] == column[np.uint8(7)] == column[7]


def test_a_closed_checkout_is_closed_for_what_is_warm(path):
    checkout = Repository(path[0]).checkout()
    column = checkout["pixels"]
    assert column[7] is not None
    items = column.items()
    next(items)
    checkout.close()
    with pytest.raises(PermissionError):
        column[7]
    with pytest.raises(PermissionError):
        next(items)


def test_a_writer_sees_what_it_staged(tmp_path):
    repository = make_repository(tmp_path)
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("label", prototype=np.array(0))
    column.update({n: np.array(n) for n in range(10)})
    writer.commit("first")
    for n in range(3):
        assert column[5] == (5 if n == 0 else n + 99)
        column[5] = np.array(n + 100)
    del column[5]
    with pytest.raises(KeyError):
        column[5]
    assert [int(value) for value in column.values()] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    writer.close()


def test_many_threads_find_the_same(path):
    column = Repository(path[0]).checkout()["pixels"]
    wrong: list[object] = []

    def read(seed: int) -> None:
        for i in np.random.default_rng(seed).permutation(len(KEYS)):
            if not equal(column[KEYS[i]], path[1]["pixels"][KEYS[i]]):
                wrong.extend([KEYS[i]])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_little_memory_is_enough(path, monkeypatch):
    repository = Repository(path[0])
    monkeypatch.setattr(repository._storage.nodes, "_limit", 1)
    monkeypatch.setattr(repository._storage.packs, "_decoded_limit", 1)
    column = repository.checkout()["pixels"]
    for i in np.random.default_rng(3).permutation(len(KEYS))[:300]:
        assert equal(column[KEYS[i]], path[1]["pixels"][KEYS[i]])
    assert len(repository._storage.packs.decoded) <= 1
