"""Large numbers of samples, and large samples."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from filelock import FileLock

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from tests.repository.making import files_of, finish, make_repository, same, start_process

COUNT = 1_000_000
VALUES = np.random.default_rng(5).integers(0, 2**62, COUNT)


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    """A repository with a million scalars in one column, made once for all test processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    path = shared / "million"
    with FileLock(shared / "million.lock"):
        if not path.exists():
            _make_million(path)
    return path


def _make_million(path):
    """In another process, which reports how much its memory grew."""
    make_repository(path)
    script = """
        import resource, sys
        import numpy as np
        from hangar_cloud import Repository
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer = Repository(sys.argv[1]).checkout(write=True)
        values = np.random.default_rng(5).integers(0, 2**62, int(sys.argv[2]))
        with writer.add_ndarray_column("scalars", shape=(), dtype=np.int64) as column:
            for key in range(len(values)):
                column[key] = values[key, ...]
        assert len(column) == len(values)
        writer.commit("a million")
        writer.close()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    grown = int(finish(start_process(script, str(path), str(COUNT)))) * 1024
    assert grown < 1500 * COUNT, f"{grown / COUNT:.0f} bytes of memory a staged sample"


def test_a_million_scalars_are_all_there(million):
    checkout = Repository(million).checkout()
    column = checkout["scalars"]
    assert len(column) == COUNT
    batch = column.get_batch(range(0, COUNT, 1000))
    assert np.array_equal(batch, VALUES[::1000])
    keys = np.fromiter(column, np.int64, COUNT)
    assert np.array_equal(keys, np.arange(COUNT))
    assert COUNT - 1 in column
    assert COUNT not in column
    with pytest.raises(KeyError):
        column[COUNT]
    assert Repository(million).size_nbytes < 40 * COUNT
    checkout.close()


def test_opening_does_not_read_the_records(million):
    repository = Repository(million)
    nodes = repository._storage.nodes
    checkout = repository.checkout()
    column = checkout["scalars"]
    text = repr(checkout) + repr(checkout.columns) + repr(column) + str(column)
    assert "1000000" in text
    assert (len(column), len(checkout), "scalars" in checkout) == (COUNT, 1, True)
    assert column.contains_remote_references is False
    repository.log(return_contents=True)
    repository.summary()
    assert nodes.loaded == 0
    assert 777_777 in column
    assert nodes.loaded == 1
    assert column[777_777] == VALUES[777_777]
    assert nodes.loaded == 1
    assert next(iter(column)) == 0
    assert nodes.loaded <= 3
    checkout.close()


def test_opening_and_one_read_move_few_bytes(million, tmp_path):
    clone = Repository(tmp_path / "clone", exists=False)
    address = str(million / ".hangar" / "store")
    clone.clone("a", "b@c", address)
    counting = CountingStore(clone._storage.remote_store("origin"))
    clone._storage._remote_stores["origin"] = counting
    checkout = clone.checkout()
    column = checkout["scalars"]
    assert (len(column), len(checkout), column.contains_remote_references) == (COUNT, 1, True)
    assert repr(column)
    assert counting.bytes_received == 0
    assert column[123_456] == VALUES[123_456]
    total = sum(len(data) for data in files_of(address).values())
    assert counting.bytes_received < 200_000 < total / 30
    assert sum(counting.requests.values()) <= 6
    assert 123_457 in column
    checkout.close()


def test_one_more_sample_is_a_small_commit(million, tmp_path):
    """In a copy: the tests beside this one count on the million being a million."""
    place = tmp_path / "copy"
    shutil.copytree(million, place)
    repository = Repository(place)
    before = files_of(place)
    writer = repository.checkout(write=True)
    writer["scalars"]["one-more"] = np.array(5)
    writer.commit("one more")
    loaded = repository._storage.nodes.loaded
    writer.close()
    new = {
        path: data
        for path, data in files_of(place / ".hangar" / "store").items()
        if f".hangar/store/{path}" not in before
    }
    assert sum(map(len, new.values())) < 300_000
    assert loaded < 10
    repository.checkout(commit=repository.log(return_contents=True)["order"][1]).close()


def test_a_sample_of_300_megabytes(tmp_path):
    repository = make_repository(tmp_path / "r")
    value = np.random.default_rng(0).integers(0, 2**63, 37_500_000, np.int64).reshape(3, 12_500_000)
    value[1] = 7
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("big", prototype=value)
    column["k"] = value
    column["again"] = value
    writer.commit("big")
    assert same(column["k"], value)
    writer.close()
    size = sum(path.stat().st_size for path in (tmp_path / "r").rglob("*") if path.is_file())
    assert size < value.nbytes * 1.1, "stored once, and staged pack files are gone"
    checkout = Repository(repository.path).checkout()
    assert same(checkout["big", "again"], value)
    assert same(checkout["big"].get_batch(["k"])[0], value)
    checkout.close()
