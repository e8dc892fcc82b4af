"""Ranks on several machines: each machine fetches strips of its own, and from its cache in the next epochs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import pytest
from torch.utils.data import DataLoader

from hangar_cloud import make_numpy_dataset, make_torch_stream
from hangar_cloud.loaders import bringing
from tests.loaders.large_images import bucket_of, numbers_of, requests_for_packs

# This machine may have two cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

COUNT, NBYTES = 160, 100_000
BATCH = 40
check = partial(numbers_of, nbytes=NBYTES)
url = bucket_of("machines", COUNT, NBYTES)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    monkeypatch.setattr(bringing, "_PATIENCE", 30)


@pytest.fixture
def cluster(opened):
    """Reads epochs by ranks on machines with a cache each; gives what each rank was given, by epochs and steps."""
    checkouts = []

    def read(world_size, machines, *, epochs=1, state=None, name="machine", told=True, ranks=(), made=None, **how):
        def of_rank(rank):
            checkout = opened(f"{name}-{rank * machines // world_size}").checkout()
            checkouts.append(checkout)
            dataset = make_numpy_dataset(
                checkout.columns,
                batch_size=BATCH,
                rank=rank,
                world_size=world_size,
                machines=machines if told else 1,
                **{"window": 80, **how},
            )
            if made is not None:
                made.append(dataset)
            if state is not None:
                dataset.load_state_dict(state)
            return [[check([batch]) for batch in dataset] for _ in range(epochs)], dataset

        with ThreadPoolExecutor(world_size) as pool:
            given, datasets = zip(*pool.map(of_rank, ranks or range(world_size)), strict=True)
        return given, datasets

    yield read
    for checkout in checkouts:
        checkout.close()


def global_batches(given, epoch=0):
    """The samples of each step of an epoch, over all ranks, in order."""
    return [sorted(chain.from_iterable(parts)) for parts in zip(*(rank[epoch] for rank in given), strict=True)]


@pytest.mark.parametrize(("world_size", "machines"), [(2, 2), (4, 2), (4, 4)])
@pytest.mark.parametrize("memory", [16_000_000, 200_000_000])
def test_global_batches_are_what_they_are_without_machines(cluster, world_size, machines, memory):
    wanted, _ = cluster(1, 1, name="alone", epochs=2)
    given, datasets = cluster(world_size, machines, epochs=2, memory=memory)
    for epoch in range(2):
        assert global_batches(given, epoch) == global_batches(wanted, epoch)
        assert sorted(chain.from_iterable(global_batches(given, epoch))) == list(range(COUNT))
    assert not any(dataset._source.shares_in_vain for dataset in datasets)


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_machine_fetches_strips_of_its_own_and_next_to_nothing_in_the_next_epoch(cluster, s3_proxy, world_size):
    """Each of two fetched some samples of every strip."""
    cluster(world_size, 2, told=False, name="apart")
    apart = len(requests_for_packs(s3_proxy))
    s3_proxy.reset()
    cluster(world_size, 2)
    together = len(requests_for_packs(s3_proxy))
    assert together < apart / 2
    assert s3_proxy.bytes_down < 1.4 * COUNT * NBYTES
    first = s3_proxy.bytes_down
    s3_proxy.reset()
    cluster(world_size, 2, epochs=3, seed=1)
    assert s3_proxy.bytes_down < 0.6 * first


def test_an_epoch_goes_on_with_other_machines(cluster):
    wanted, _ = cluster(1, 1, name="alone")
    _, [dataset, _] = cluster(2, 2)
    dataset.set_epoch(0)
    batches = iter(dataset)
    next(batches)
    state = dataset.state_dict()
    batches.close()
    for world_size, machines in ((2, 2), (4, 2), (4, 1), (1, 1)):
        given, _ = cluster(world_size, machines, state=state, name=f"with {machines}")
        assert global_batches(given) == global_batches(wanted)[1:]


@pytest.mark.parametrize("machines", [1, 2])
@pytest.mark.parametrize("memory", [16_000_000, 200_000_000])
def test_a_last_batch_may_have_fewer_samples_than_there_are_ranks(cluster, monkeypatch, machines, memory):
    """Nothing was waited for as if it were something: an IndexError, also in epochs of which all was in memory."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    given, _ = cluster(4, machines, keys=range(BATCH * 2 + 1), epochs=6, memory=memory, window=20)
    for epoch in range(6):
        assert sorted(chain.from_iterable(global_batches(given, epoch))) == list(range(BATCH * 2 + 1))


def test_what_is_read_on_other_machines_is_not_held(cluster):
    """It took the place of what is fetched ahead, strip by strip, until the end of the epoch."""
    held = []

    def counted(batch):
        held.append(datasets[0]._source.brought_bytes)
        return batch

    datasets: list[Any] = []
    cluster(2, 2, memory=16_000_000, ranks=[0], transform=counted, made=datasets)
    assert max(held) > 0
    assert held[-1] == 0


@pytest.mark.parametrize("shuffle", ["full", "storage", False])
def test_other_orders_give_each_sample_once_too(cluster, shuffle):
    wanted, _ = cluster(1, 1, name="alone", shuffle=shuffle)
    given, _ = cluster(2, 2, shuffle=shuffle)
    assert global_batches(given) == global_batches(wanted)


def test_workers_of_a_machine_fetch_its_strips_together(opened, s3_proxy):
    given = []
    for rank in range(2):
        checkout = opened(f"machine-{rank}").checkout()
        stream = make_torch_stream(
            checkout.columns, batch_size=BATCH, rank=rank, world_size=2, machines=2, window=80, memory=16_000_000
        )
        given += check(DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork"))
        assert not stream._source.shares_in_vain
        checkout.close()
    assert sorted(given) == list(range(COUNT))
    assert s3_proxy.bytes_down < 1.4 * COUNT * NBYTES
    assert len(requests_for_packs(s3_proxy)) < COUNT / 3


def test_machines_that_cannot_be_meant_are_refused(opened):
    checkout = opened().checkout()
    for machines, world_size in ((3, 4), (4, 2), (2, 1)):
        with pytest.raises(ValueError, match=f"machines={machines} does not go with world_size={world_size}"):
            make_numpy_dataset(checkout["image"], batch_size=8, rank=0, world_size=world_size, machines=machines)
    for unfit in (0, 1.5, "two", True):
        with pytest.raises(ValueError, match="machines must be a whole number from 1 on"):
            make_numpy_dataset(checkout["image"], batch_size=8, machines=unfit)
    checkout.close()
