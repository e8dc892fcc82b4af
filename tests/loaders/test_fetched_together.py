"""Processes of one machine that read an epoch together: each fetches a share, and none waits for what never comes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from torch.utils.data import DataLoader

from hangar_cloud import make_numpy_dataset, make_torch_stream
from hangar_cloud.loaders import bringing
from hangar_cloud.loaders.bringing import Bringer, Share
from hangar_cloud.loaders.order import BlockShuffle, FixedOrder
from tests.loaders.large_images import bucket_of, numbers_of, requests_for_packs

# This machine may have two cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

COUNT, NBYTES = 160, 200_000
SECONDS = 30
check = partial(numbers_of, nbytes=NBYTES)
url = bucket_of("together", COUNT, NBYTES)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize(("shuffle", "memory"), [(True, 10_000_000), (False, 200_000_000)])
def test_workers_fetch_an_epoch_once_and_by_strips(opened, s3_proxy, monkeypatch, workers, shuffle, memory):
    """Each fetched what its own batches needed: by 129 requests where they are shuffled, and 22 where they are not."""
    # Beside other tests a worker once took two seconds for its first request.
    monkeypatch.setattr(bringing, "_PATIENCE", SECONDS)
    checkout = opened().checkout()
    alone = check(make_numpy_dataset(checkout.columns, batch_size=8, memory=memory, shuffle=shuffle, window=40))
    checkout.close()
    checkout = opened("workers").checkout()
    stream = make_torch_stream(checkout.columns, batch_size=8, memory=memory, shuffle=shuffle, window=40)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, multiprocessing_context="fork")
    s3_proxy.reset()
    assert check(loader) == alone
    assert len(requests_for_packs(s3_proxy)) < COUNT / 10
    assert s3_proxy.bytes_down < 1.05 * COUNT * NBYTES
    s3_proxy.targets.clear()
    assert sorted(check(loader)) == sorted(alone)
    assert requests_for_packs(s3_proxy) == []
    checkout.close()


def test_workers_go_on_in_mid_epoch(opened, s3_proxy, monkeypatch):
    monkeypatch.setattr(bringing, "_PATIENCE", SECONDS)
    checkout = opened().checkout()
    how = {"batch_size": 8, "memory": 10_000_000, "window": 40}
    alone = check(make_numpy_dataset(checkout.columns, **how))
    checkout.close()
    checkout = opened("workers").checkout()
    stream = make_torch_stream(checkout.columns, **how)
    stream.load_state_dict(stream.state_dict(batches=7))
    s3_proxy.reset()
    assert check(DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")) == alone[56:]
    assert len(requests_for_packs(s3_proxy)) < COUNT / 6
    assert s3_proxy.bytes_down < 1.05 * (COUNT - 56) * NBYTES
    checkout.close()


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("shuffle", [True, False])
def test_workers_that_go_on_from_places_of_their_own_wait_for_nobody(opened, monkeypatch, shuffle):
    """Where they began to count was not the same for all."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    monkeypatch.setattr(bringing, "_PATIENCE", SECONDS)
    how = {"batch_size": 8, "memory": 10_000_000, "window": 40, "shuffle": shuffle}
    checkout = opened().checkout()
    alone = check(make_numpy_dataset(checkout.columns, **how))

    def loader(columns):
        stream = make_torch_stream(columns, **how)
        return StatefulDataLoader(stream, batch_size=None, num_workers=3, multiprocessing_context="fork")

    one, other = opened("one").checkout(), opened("other").checkout()
    first = loader(one.columns)
    batches = iter(first)
    seen = check(next(batches) for _ in range(5))
    state = first.state_dict()
    del batches
    second = loader(other.columns)
    second.load_state_dict(state)
    began = time.monotonic()
    assert seen + check(second) == alone
    assert time.monotonic() - began < SECONDS
    for opened_one in (checkout, one, other):
        opened_one.close()


def test_a_worker_without_a_step_is_not_waited_for(opened, monkeypatch):
    monkeypatch.setattr(bringing, "_PATIENCE", SECONDS)
    checkout = opened().checkout()
    stream = make_torch_stream(checkout.columns, batch_size=COUNT // 2)
    began = time.monotonic()
    found = check(DataLoader(stream, batch_size=None, num_workers=4, multiprocessing_context="fork"))
    assert sorted(found) == list(range(COUNT))
    assert time.monotonic() - began < SECONDS
    checkout.close()


def ranks(opened, name, numbers, **how):
    """What ranks of two on this machine were given, each in a thread of its own."""
    checkouts = [opened(name).checkout() for _ in numbers]
    made = [
        make_numpy_dataset(checkout.columns, batch_size=8, rank=number, world_size=2, **how)
        for number, checkout in zip(numbers, checkouts, strict=True)
    ]
    with ThreadPoolExecutor(len(numbers)) as pool:
        given = list(pool.map(check, made))
    for checkout in checkouts:
        checkout.close()
    return given, made


def test_ranks_that_torchrun_started_here_share_too(opened, s3_proxy, monkeypatch):
    given, _ = ranks(opened, "apart", (0, 1), memory=10_000_000, window=40)
    apart = len(requests_for_packs(s3_proxy))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    s3_proxy.reset()
    assert ranks(opened, "together", (0, 1), memory=10_000_000, window=40)[0] == given
    assert sorted(given[0] + given[1]) == list(range(COUNT))
    assert len(requests_for_packs(s3_proxy)) < apart / 2
    assert s3_proxy.bytes_down < 1.05 * COUNT * NBYTES


def test_a_rank_whose_others_bring_nothing_reads_for_itself(opened, monkeypatch):
    """They may have a cache of their own."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(bringing, "_PATIENCE", 0.2)
    monkeypatch.setattr(bringing, "_BEGINNING", 0.2)
    [given], [dataset] = ranks(opened, "one", (0,), memory=10_000_000, window=40)
    assert len(given) == COUNT / 2
    assert dataset._source.shares_in_vain


@pytest.mark.parametrize("cache", [25_000_000, 40_000_000])
def test_a_cache_that_cannot_keep_what_is_shared_is_not_waited_for(opened, monkeypatch, cache):
    """What was evicted before the others read it was waited for: some seconds an epoch."""
    monkeypatch.setattr(bringing, "_PATIENCE", SECONDS)
    checkout = opened(cache_size=cache).checkout()
    stream = make_torch_stream(checkout.columns, batch_size=8, memory=10_000_000, window=40)
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
    began = time.monotonic()
    for _ in range(3):
        assert sorted(check(loader)) == list(range(COUNT))
    assert time.monotonic() - began < SECONDS
    checkout.close()


def test_offline_nothing_is_waited_for(opened, monkeypatch):
    monkeypatch.setattr(bringing, "_PATIENCE", SECONDS)
    checkout = opened().checkout()
    list(checkout["number"].keys())
    checkout["image"].get_batch(range(40))
    checkout.close()
    with pytest.warns(UserWarning, match="repository is offline"):
        checkout = opened(offline=True).checkout()
    stream = make_torch_stream(checkout.columns, batch_size=8)
    began = time.monotonic()
    with pytest.raises(FileNotFoundError, match="column 'image', sample"):
        check(DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert time.monotonic() - began < SECONDS
    checkout.close()


class Machine:
    """Samples of a byte each that several processes bring to one machine."""

    strip_bytes, sample_bytes = 20, 1

    def __init__(self):
        self.lock = threading.Lock()
        self.brought: list[int] = []
        self.shares_in_vain = False

    def strips(self, positions):
        return [positions]

    def bring(self, positions, size, held):
        assert not held
        with self.lock:
            self.brought += positions.tolist()
        return True

    def wait_for_others(self, positions, patience, is_over):
        ends = time.monotonic() + SECONDS
        while not set(self.brought) >= set(positions.tolist()):
            assert time.monotonic() < ends
            time.sleep(0.001)
        return True


@pytest.mark.parametrize("start", [0, 137])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("room", [20, 10_000])
@pytest.mark.parametrize("shuffled", [True, False])
def test_each_part_is_brought_by_one_of_them_wherever_they_begin(start, processes, room, shuffled):
    machine = Machine()
    edges = np.arange(0, 401, 10)

    def read(number):
        order = BlockShuffle(edges, 4, 0, 0, 2) if shuffled else FixedOrder(400, None, edges[2::2])
        with ThreadPoolExecutor(3) as pool:
            place = start + 15 * number
            bringer = Bringer(machine, order, place, pool, 3, room, Share(number, processes, start))
            bringer.go_on()
            for begin in range(place, 400, 15 * processes):
                bringer.wait(min(begin + 15, 400))
                bringer.wait_for_others(order.positions(begin, min(begin + 15, 400)))
                bringer.go_on()
            bringer.finish()
        return order

    with ThreadPoolExecutor(processes) as processes_:
        order, *_ = processes_.map(read, range(processes))
    assert len(machine.brought) == len(set(machine.brought))
    assert set(machine.brought) >= set(order.positions(start, 400).tolist())
