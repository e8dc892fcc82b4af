"""Fetching before reading: what is asked for ahead, what is read in order, and that neither outlives its checkout."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from hangar_cloud import Repository, set_read_ahead, set_read_memory
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.reading import READ_AHEAD_BYTES, READ_MEMORY_BYTES
from tests.forked import passes_forked
from tests.repository.making import add_commit, clone_of, counted, make_repository, noise, same

COUNT = 3000


class Gate(CountingStore):
    """A store whose ranges are given out only while the gate is open."""

    def __init__(self, inner):
        super().__init__(inner)
        self.opened = threading.Event()
        self.asked = threading.Event()

    def get_ranges(self, requests):
        self.asked.set()
        assert self.opened.wait(60)
        return super().get_ranges(requests)

    def get_views(self, requests, *, together=False):
        return self.get_ranges(requests)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A repository in a folder: a column of small samples in many blocks, one of larger ones, texts, a nested one."""
    path = tmp_path_factory.mktemp("source")
    writer = make_repository(path).checkout(write=True)
    images = writer.add_ndarray_column("images", shape=(1000,), dtype=np.uint8)
    images.update({n: noise(n, 1000) for n in range(COUNT)})
    big = writer.add_ndarray_column("big", shape=(50_000,), dtype=np.uint8)
    big.update({n: noise(n, 50_000) for n in range(20)})
    writer.add_str_column("text").update({n: f"{n} " * 300 for n in range(500)})
    scans = writer.add_ndarray_column("scans", shape=(1000,), dtype=np.uint8, contains_subsamples=True)
    for sample in ("a", "b"):
        scans[sample] = {n: noise(n, 1000) for n in range(100)}
    writer.commit("all")
    writer.close()
    return path


@pytest.fixture
def clone(source, tmp_path):
    """A clone of it that has neither records nor samples."""
    return clone_of(source, tmp_path / "clone")


@pytest.fixture
def gate(clone):
    gate = clone._storage.wrap_remote("origin", Gate)
    yield gate
    gate.opened.set()


@pytest.fixture(autouse=True)
def quiet():
    """Nothing is left over from a test, in threads or settings; nor from tests elsewhere that were run before."""
    wait_until(lambda: not background_threads())
    yield
    set_read_ahead(READ_AHEAD_BYTES)
    set_read_memory(READ_MEMORY_BYTES)
    wait_until(lambda: not background_threads())


def background_threads():
    return [thread for thread in threading.enumerate() if thread.name == "hangar-background"]


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")


def test_what_was_prefetched_is_read_without_a_request(clone):
    counting = counted(clone)
    column = clone.checkout()["images"]
    keys = [5, 2999, 17, 1500, 17]
    handle = column.prefetch(iter(keys))
    assert handle.wait(60)
    assert handle.done
    counting.reset()
    assert all(same(column[key], noise(key, 1000)) for key in keys)
    again = Repository(clone.path).checkout()["images"]
    assert np.array_equal(again.get_batch(keys), [noise(key, 1000) for key in keys])
    assert counting.bytes_received == 0


def test_prefetch_joins_requests_and_fetches_nothing_twice(clone):
    counting = counted(clone)
    column = clone.checkout()["images"]
    assert column.prefetch(range(COUNT)).wait(60)
    assert counting.requests["get_range"] < 20
    fetched = counting.bytes_received
    assert 1000 * COUNT < fetched < 1200 * COUNT
    assert column.prefetch(range(COUNT)).wait(60)
    assert np.array_equal(column.get_batch(range(COUNT))[-1], noise(COUNT - 1, 1000))
    assert counting.bytes_received == fetched


def test_prefetch_returns_at_once_and_who_reads_meanwhile_waits_for_it(clone, gate):
    gate.opened.set()
    column = clone.checkout()["images"]
    assert same(column[0], noise(0, 1000)), "the records are here"
    gate.opened.clear()
    gate.asked.clear()
    handle = column.prefetch(range(2000, 2010))
    assert gate.asked.wait(60)
    assert not handle.done
    assert not handle.wait(0.01)
    gate.reset()
    found = []
    reading = threading.Thread(target=lambda: found.append(column.get_batch(range(2000, 2010))))
    reading.start()
    time.sleep(0.2)
    assert reading.is_alive()
    gate.opened.set()
    reading.join(60)
    assert np.array_equal(found[0], [noise(n, 1000) for n in range(2000, 2010)])
    assert handle.wait(60)
    assert gate.bytes_received < 40_000, "once for both"


def test_closing_the_checkout_ends_it(clone, gate):
    gate.opened.set()
    checkout = clone.checkout()
    column = checkout["big"]
    assert same(column[0], noise(0, 50_000))
    gate.opened.clear()
    gate.asked.clear()
    gate.reset()
    images = checkout["images"]
    handles = [column.prefetch(range(20)), images.prefetch(range(COUNT))]
    assert gate.asked.wait(60)
    checkout.close()
    gate.opened.set()
    assert all(handle.wait(60) for handle in handles)
    wait_until(lambda: not background_threads())
    assert gate.bytes_received < 1000 * COUNT, "what was under way, and no more"


def test_it_can_be_cancelled(clone, gate):
    column = clone.checkout()["images"]
    handle = column.prefetch(range(COUNT))
    assert gate.asked.wait(60)
    handle.cancel()
    gate.opened.set()
    assert handle.wait(60)
    handle.cancel()
    assert gate.bytes_received < 500 * COUNT
    assert same(column[7], noise(7, 1000))


def test_what_goes_wrong_is_told_when_the_sample_is_read(clone, source, tmp_path):
    column = clone.checkout()["images"]
    for key in (-1, 2.0, None, ("a", 0), True):
        with pytest.raises(KeyError):
            column.prefetch([1, key])
    assert column.prefetch([COUNT, 5, "nobody"]).wait(60)
    with pytest.raises(KeyError, match="no sample 3000"):
        column[COUNT]
    other = clone.checkout()["big"]
    os.rename(source, tmp_path / "away")
    try:
        assert other.prefetch(range(20)).wait(60)
        with pytest.raises(OSError):
            other[3]
    finally:
        os.rename(tmp_path / "away", source)
    assert same(other[3], noise(3, 50_000))


def test_nothing_is_started_where_nothing_can_be_fetched(source, clone):
    clone.checkout()["images", 0]
    clone.remote.fetch_data("origin", "master")
    for repository in (Repository(source), Repository(clone.path, offline=True)):
        column = repository.checkout()["images"]
        handle = column.prefetch(range(100))
        assert handle.wait(10)
        for _, _ in zip(column.keys(), range(10), strict=False):
            pass
    values = Repository(source).checkout()["images"].values()
    next(values)
    assert not background_threads()


def test_subsamples_are_prefetched_by_pair_or_by_sample(clone):
    counting = counted(clone)
    scans = clone.checkout()["scans"]
    assert scans.prefetch(["a", ("b", 3), ["b", 99]]).wait(60)
    counting.reset()
    assert all(same(value, noise(n, 1000)) for n, value in scans["a"].data.items())
    assert same(scans["b", 3], scans["a", 3])
    assert same(scans["b"][99], scans["a", 99])
    assert counting.bytes_received == 0
    with pytest.raises(KeyError):
        scans.prefetch([("a", 0, 0)])


@pytest.mark.parametrize("name", ["images", "big", "text"])
@pytest.mark.parametrize("how", ["values", "batches", "chosen", "one by one"])
def test_reading_in_order_is_the_same_with_and_without_reading_ahead(clone, source, name, how):
    wanted = dict(Repository(source).checkout()[name].items())
    set_read_ahead(0 if how == "values" else 200_000)
    column = clone.checkout()[name]
    if how == "values":
        found = dict(column.items())
        assert not background_threads()
    elif how == "one by one":
        found = {key: column[key] for key in wanted}
    else:
        keys = list(wanted) if how == "chosen" else None
        batches = column.iter_batches(100, keys=keys)
        found = {key: value for some, values in batches for key, value in zip(some, values, strict=True)}
    assert list(found) == list(wanted)
    assert all(same(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("how", ["values", "batches", "one by one"])
def test_who_stops_early_has_fetched_little_and_who_goes_on_sends_few_requests(clone, how):
    counting = counted(clone)
    column = clone.checkout()["images"]
    set_read_ahead(600_000)
    stream = {
        "values": column.values,
        "batches": lambda: column.iter_batches(256),
        "one by one": lambda: (column[n] for n in range(COUNT)),
    }[how]()
    for _ in range(20 if how == "one by one" else 1):
        next(stream)
    wait_until(lambda: not background_threads())
    assert counting.bytes_received < 1_500_000, "of 3,000,000"
    for _ in stream:
        pass
    assert counting.bytes_received < 3_600_000, "hardly anything twice"
    assert counting.requests["get_range"] < 60, "of 150 blocks"


def test_a_small_cache_is_not_flooded(clone):
    """What it loses before it is read would be fetched twice."""
    small = Repository(clone.path, cache_size=400_000)
    counting = counted(small)
    for n, value in enumerate(small.checkout()["big"].values()):
        assert same(value, noise(n, 50_000))
    assert n == 19
    assert counting.bytes_received < 1_300_000, "of 1,000,000"


def test_reading_at_random_reads_nothing_ahead(clone):
    counting = counted(clone)
    column = clone.checkout()["images"]
    for key in (5, 900, 6, 7, 2500, 2501, 10):
        column[key]
    assert not background_threads()
    assert counting.bytes_received < 600_000


def test_random_batches_soon_have_all_of_a_pack(clone):
    """The last blocks of a pack would cost as many round trips as the first ones."""
    counting = counted(clone)
    column = clone.checkout()["images"]
    rng = np.random.default_rng(0)
    requests = []
    for _ in range(12):
        counting.reset()
        keys = rng.integers(0, COUNT, 64)
        assert np.array_equal(column.get_batch(keys), [noise(int(key), 1000) for key in keys])
        requests.append(counting.requests["get_range"])
    assert requests[6:] == [0] * 6
    assert sum(requests) < 60


def test_readers_side_by_side_and_what_is_fetched_ahead_bring_each_block_once(clone):
    counting = counted(clone)
    column = clone.checkout()["images"]
    assert same(column[0], noise(0, 1000))
    found = []

    def read():
        found.append(sum(same(value, noise(n, 1000)) for n, value in enumerate(column.values())))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(120)
    assert found == [COUNT] * 4
    assert counting.bytes_received < 1.1 * 1000 * COUNT


@pytest.mark.parametrize(("nbytes", "all_here"), [(READ_AHEAD_BYTES, True), (0, False)])
def test_random_batches_that_brought_most_of_a_column_have_the_rest_fetched(tmp_path, nbytes, all_here):
    """Records of small leaves that no batch met, and their samples, would be a wait each."""
    writer = make_repository(tmp_path / "many").checkout(write=True)
    column = writer.add_ndarray_column("images", shape=(1000,), dtype=np.uint8)
    column.update({n: noise(n, 1000) for n in range(8000)})
    writer.commit("many leaves")
    writer.close()
    clone = clone_of(tmp_path / "many", tmp_path / "clone")
    set_read_ahead(nbytes)
    column = clone.checkout()["images"]
    counts = [ref.count for ref in column._nodes.leaves(column._entry.root)]
    first = sum(counts[: counts.index(min(counts))])
    met = np.delete(np.arange(8000), np.s_[first : first + min(counts)])
    for seed in range(6):
        keys = np.random.default_rng(seed).choice(met, 256)
        assert np.array_equal(column.get_batch(keys), [noise(int(key), 1000) for key in keys])
    wait_until(lambda: not background_threads())
    here = Repository(clone.path).checkout()["images"]
    assert here.contains_remote_references is not all_here


def test_one_random_sample_does_not_bring_its_neighbours(clone):
    column = clone.checkout()["images"]
    assert same(column[0], noise(0, 1000))
    counting = counted(clone)
    column.get_batch([1500, 2900])
    assert counting.bytes_received < 300_000, "two blocks, and the leaf of the second"


@pytest.mark.parametrize("nbytes", [-1, 2.5, None, "1 MB", True])
def test_a_bound_that_is_none_is_refused(nbytes):
    for set_bound in (set_read_ahead, set_read_memory):
        with pytest.raises(InvalidArgumentError, match="a whole number from [01] on"):
            set_bound(nbytes)


def test_memory_is_bounded_as_it_was_set(source):
    set_read_memory(100_000)
    repository = Repository(source)
    column = repository.checkout()["images"]
    for _ in range(2):
        for keys, values in column.iter_batches(64):
            assert same(values[-1], noise(keys[-1], 1000))
        packs = repository._storage.packs
        assert sum(len(block.raw) for block in packs.decoded.values()) <= 100_000
        assert packs.arenas.nbytes <= 120_000


def read_some(column, keys):
    return all(same(column[key], noise(key, 1000)) for key in keys) and column.prefetch(keys).wait(60)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_while_this_one_prefetches(clone, gate, method):
    column = clone.checkout()["images"]
    handle = column.prefetch(range(COUNT))
    assert gate.asked.wait(60)
    context = multiprocessing.get_context(method)
    # A forked child has the gate, closed for ever, in the place of the remote; the pickle opens its own.
    with context.Pool(1) as pool:
        result = pool.apply_async(read_some, (column, [3, 2000, 2001]))
        assert result.get(60)
    gate.opened.set()
    assert handle.wait(60)


def test_a_forked_child_goes_on_with_what_it_inherited(clone):
    """Its parent's threads are not there, nor will they free what they hold."""
    column = clone.checkout()["images"]
    handle = column.prefetch(range(COUNT))
    stream = column.values()
    next(stream)

    def reads_on():
        good = handle.wait(5) and all(same(value, noise(n + 1, 1000)) for n, value in enumerate(stream))
        return good and read_some(column, [0, 2999])

    assert passes_forked(reads_on)
    assert handle.wait(60)


def test_prefetching_over_and_over_leaves_no_thread_and_no_descriptor(clone):
    def once():
        checkout = clone.checkout()
        column = checkout["images"]
        column.prefetch(range(0, COUNT, 7)).wait(60)
        next(column.values())
        next(column.iter_batches(10, keys=range(100)))
        checkout.close()

    once()
    wait_until(lambda: not background_threads())
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        once()
    wait_until(lambda: not background_threads())
    assert threading.active_count() <= before[0]
    assert len(os.listdir("/proc/self/fd")) <= before[1] + 2


def test_prefetch_from_a_bucket(tmp_path, s3_url, s3_options):
    repository = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "one")
    add_commit(repository, {n: noise(n) for n in range(100)})
    fresh = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "two")
    fresh._storage.store = counting = CountingStore(fresh._storage.store)
    column = fresh.checkout()["array"]
    assert column.prefetch(range(0, 100, 2)).wait(60)
    counting.reset()
    assert np.array_equal(column.get_batch(range(0, 100, 2)), [noise(n) for n in range(0, 100, 2)])
    assert counting.requests["get_range"] == 0
    assert all(same(value, noise(n)) for n, value in enumerate(column.values()))
