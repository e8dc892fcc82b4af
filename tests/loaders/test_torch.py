"""Torch: map-style datasets and streams in data loaders, with and without workers, and going on in mid-epoch."""

from __future__ import annotations

import gc
import json
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, default_collate
from torchdata.stateful_dataloader import StatefulDataLoader

from hangar_cloud import Repository, make_torch_dataset, make_torch_stream
from hangar_cloud.loaders import torch_values
from tests.loaders.conftest import COUNT
from tests.repository.forging import flip, store_files
from tests.repository.making import add_commit, make_repository, noise

ALL = [*range(COUNT), 1000]
"""What the images of all samples tell: the last is that of the key "0"."""

pytestmark = [
    pytest.mark.usefixtures("one_thread_of_torch"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning:torchdata"),
    # Torch counts the processors of the machine that the tests run on.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning:torch"),
]


def numbers(batch):
    return batch["image"][:, 0, 0].tolist()


def flat(batches):
    return [number for batch in batches for number in batch]


def loaded(stream, workers=0, **options):
    options = {"multiprocessing_context": "fork", **options} if workers else {}
    return DataLoader(stream, batch_size=None, num_workers=workers, **options)


def test_a_map_style_dataset_gives_dicts_of_tensors_by_number(co):
    dataset = make_torch_dataset([co[name] for name in ("image", "label", "name", "varying", "blob")])
    assert isinstance(make_torch_dataset(co["label"]), torch.utils.data.Dataset)
    assert (len(dataset), dataset.keys) == (COUNT, [*range(COUNT)])
    sample = dataset[7]
    assert list(sample) == ["image", "label", "name", "varying", "blob"]
    assert (sample["image"].dtype, sample["image"].shape, sample["label"].shape) == (torch.int32, (4, 5), ())
    assert (sample["name"], sample["blob"], sample["varying"].shape) == ("digit 7", b"\7" * 7, (8, 2))
    assert int(dataset[-1]["label"]) == (COUNT - 1) % 10
    with pytest.raises(IndexError):
        dataset[COUNT]
    batch = dataset[[3, 299]]
    assert batch["image"].shape == (2, 4, 5)
    assert batch["name"] == ["digit 3", "digit 299"]
    assert dataset[np.array([5, 6])]["label"].tolist() == dataset[torch.tensor([5, 6])]["label"].tolist() == [5, 6]


def test_field_names_keys_and_ranges_as_in_the_manual(co):
    named = make_torch_dataset([co["image"], co["label"]], field_names=("input", "target"), index_range=slice(1, 100))
    assert len(named) == 99
    assert list(named[0]) == ["input", "target"]
    assert int(named[0]["target"]) == 1
    chosen = make_torch_dataset(co["label"], [5, "0", 3])
    assert [int(sample["label"]) for sample in chosen.__getitems__([0, 1, 2])] == [5, -1, 3]
    for wrong in ({"field_names": ("input",)}, {"field_names": ("a", "a")}, {"index_range": 3}, {"transform": 3}):
        with pytest.raises(ValueError):
            make_torch_dataset([co["image"], co["label"]], **wrong)
    with pytest.raises(TypeError):
        make_torch_dataset([])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_asks_for_a_batch_at_once(co, workers):
    dataset = make_torch_dataset([co["image"], co["label"]])
    context = {"multiprocessing_context": "fork"} if workers else {}
    for loader in (
        DataLoader(dataset, batch_size=32, num_workers=workers, shuffle=True, **context),
        DataLoader(
            dataset, None, sampler=BatchSampler(RandomSampler(dataset), 32, False), num_workers=workers, **context
        ),
    ):
        batches = list(loader)
        assert sorted(flat(map(numbers, batches))) == ALL
        assert all(
            [-1 if n == 1000 else n % 10 for n in numbers(batch)] == batch["label"].tolist() for batch in batches
        )


def test_nested_samples_and_subsamples(co):
    samples = make_torch_dataset([co["scan"], co["label"]])
    assert {below: value.tolist() for below, value in samples[5]["scan"].items()} == {
        0: [5] * 3,
        1: [6] * 3,
        2: [7] * 3,
    }
    pairs = make_torch_dataset([co["scan"], co["label"]], [(5, 2), (4, 0)])
    assert pairs[[0, 1]]["scan"].tolist() == [[7] * 3, [4] * 3]
    assert int(pairs[0]["label"]) == 5
    batch = next(iter(loaded(make_torch_stream([co["scan"], co["label"]], batch_size=4, shuffle=False))))
    assert [len(scan) for scan in batch["scan"]] == [1, 2, 3, 1]
    assert batch["scan"][1][1].tolist() == [2] * 3


def test_a_transform_that_fails_in_a_worker_names_the_sample(co):
    def fails(sample):
        if int(sample["label"].max()) >= 7:
            raise OSError("no")
        return sample

    dataset = make_torch_dataset(co["label"], range(10), transform=fails)
    loader = DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(RuntimeError, match=r"the transform failed on the sample 7: OSError: no"):
        list(loader)
    stream = make_torch_stream(co["label"], range(10), 5, transform=fails, shuffle=False)
    with pytest.raises(RuntimeError, match=r"the transform failed on the samples 5, 6, 7, 8, 9: OSError: no"):
        list(loaded(stream, 1))


def test_a_damaged_sample_is_named_by_a_worker(tmp_path):
    repository = make_repository(tmp_path / "r")
    add_commit(repository, {key: noise(key, 50_000) for key in range(40)}, column="image")
    (pack,) = store_files(repository, "packs/*/*.pack")
    flip(pack, 30 * 50_100)
    checkout = Repository(repository.path).checkout()
    given = []
    with pytest.raises(ValueError, match=r"column 'image', sample (29|30): "):
        for batch in loaded(make_torch_stream(checkout["image"], batch_size=4, shuffle=False), 2):
            given.append(len(batch["image"]))  # noqa: PERF401  # what came before the error is looked at
    assert given == [4] * 7
    with pytest.raises(ValueError, match=r"column 'image', sample (29|30): "):
        list(DataLoader(make_torch_dataset(checkout["image"]), 4, num_workers=1, multiprocessing_context="fork"))
    checkout.close()


@pytest.mark.parametrize("shuffle", [True, False, "full"])
def test_the_batches_of_a_stream_are_the_same_for_any_number_of_workers(co, shuffle):
    def made():
        return make_torch_stream([co["image"], co["label"]], batch_size=32, shuffle=shuffle, window=100, memory=20_000)

    assert isinstance(made(), IterableDataset)
    loader = loaded(made())
    epochs = [list(map(numbers, loader)) for _ in range(3)]
    assert epochs[0] == list(map(numbers, made()))
    assert sorted(flat(epochs[2])) == ALL
    assert len(loader) == len(epochs[0]) == 10
    for workers, persistent in ((1, False), (3, False), (3, True)):
        loader = loaded(made(), workers, persistent_workers=persistent)
        assert [list(map(numbers, loader)) for _ in range(3)] == epochs
        loader.dataset.set_epoch(1)
        assert list(map(numbers, loader)) == epochs[1]
        assert loader.dataset.epoch == 1
        assert list(map(numbers, loader)) == epochs[2]


def test_epochs_go_on_when_the_number_of_workers_changes(co):
    stream = make_torch_stream([co["image"], co["label"]], batch_size=32)
    epochs = [list(map(numbers, stream)) for _ in range(4)]
    stream.set_epoch(0)
    assert [list(map(numbers, loaded(stream, workers))) for workers in (0, 2, 1, 2)] == epochs
    assert stream.epoch == 3


def test_more_workers_than_batches_and_no_samples_at_all(co):
    assert sorted(flat(map(numbers, loaded(make_torch_stream(co["image"], range(5), 4), 4)))) == [0, 1, 2, 3, 4]
    assert list(loaded(make_torch_stream(co["none"], batch_size=4), 2)) == []


def test_single_samples_for_a_loader_that_makes_batches(co):
    stream = make_torch_stream([co["image"], co["label"]], range(50))
    assert sorted(flat(map(numbers, DataLoader(stream, batch_size=8)))) == ALL[:50]
    loader = DataLoader(stream, batch_size=8, num_workers=2, collate_fn=default_collate, multiprocessing_context="fork")
    assert sorted(flat(map(numbers, loader))) == ALL[:50]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_that_are_started_anew(co, method):
    stream = make_torch_stream([co["image"], co["name"]], batch_size=64, seed=5)
    wanted = [list(map(numbers, loaded(stream))) for _ in range(2)]
    stream.set_epoch(0)
    loader = loaded(stream, 1, multiprocessing_context=method, persistent_workers=True)
    assert [list(map(numbers, loader)) for _ in range(2)] == wanted
    dataset = make_torch_dataset([co["image"], co["label"]])
    assert len(dataset) == len(ALL)


def test_local_functions_are_transforms_in_workers_that_are_started_anew(co):
    add = 100
    stream = make_torch_stream(co["label"], [3, 4], 2, shuffle=False, transform=lambda batch: batch["label"] + add)
    dataset = make_torch_dataset(co["label"], [3, 4], transform=lambda sample: sample["label"] + add)
    loaders = (
        loaded(stream, 1, multiprocessing_context="forkserver"),
        DataLoader(dataset, None, num_workers=1, multiprocessing_context="forkserver"),
    )
    for loader in loaders:
        assert torch.cat([given.reshape(-1) for given in loader]).tolist() == [103, 104]


def test_a_stream_says_that_it_has_no_samples_by_number(co):
    with pytest.raises(IndexError, match="none by number.*make_torch_dataset"):
        make_torch_stream(co["label"], batch_size=2)[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_with_a_state_that_says_how_many_batches_were_used(co, workers):
    def made():
        return make_torch_stream([co["image"], co["label"]], batch_size=32, seed=2)

    wanted = [list(map(numbers, loader)) for loader in [loaded(made())] for _ in range(3)]
    first = loaded(made(), workers)
    list(first)
    epoch = iter(first)
    for _ in range(3):
        next(epoch)
    state = json.loads(json.dumps(first.dataset.state_dict(batches=3)))
    if workers:
        with pytest.raises(ValueError, match="batches="):
            first.dataset.state_dict()
    else:
        assert first.dataset.state_dict() == state
    del epoch
    for again in (0, 3):
        stream = made()
        stream.load_state_dict(state)
        loader = loaded(stream, again)
        rest = list(map(numbers, loader))
        assert wanted[1] == wanted[1][:3] + rest
        assert stream.epoch == 1
        assert stream.state_dict(batches=2)["consumed"] == 5 * 32
        assert list(map(numbers, loader)) == wanted[2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 6])
def test_a_stateful_data_loader_goes_on_to_the_very_batch(co, workers, done):
    def made():
        stream = make_torch_stream([co["image"], co["label"]], batch_size=32, seed=9)
        context = {"multiprocessing_context": "fork"} if workers else {}
        return StatefulDataLoader(stream, batch_size=None, num_workers=workers, **context)

    whole = made()
    wanted = [list(map(numbers, whole)) for _ in range(2)]
    stopped = made()
    epoch = iter(stopped)
    for _ in range(done):
        next(epoch)
    state = stopped.state_dict()
    del epoch
    again = made()
    again.load_state_dict(state)
    assert list(map(numbers, again)) == wanted[0][done:]
    assert list(map(numbers, again)) == wanted[1]


def leaks():
    """Open descriptors, threads and child processes of this process."""
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(children)


def test_a_hundred_epochs_leave_no_descriptor_thread_or_process(co):
    stream = make_torch_stream([co["image"], co["name"]], range(40), 8, memory=500)
    next(iter(stream))
    with_workers = loaded(stream, 1)
    list(with_workers)
    before = leaks()
    for number in range(100):
        assert len(list(stream)) == 5
        if number % 20 == 0:
            assert len(list(with_workers)) == 5
        if number % 10 == 0:
            next(iter(stream))
    assert all(now <= then for now, then in zip(leaks(), before, strict=True))


def test_dtypes_that_torch_lacks_and_those_of_another_byte_order(tmp_path):
    repository = make_repository(tmp_path / "r")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("big", shape=(2,), dtype=">f4")[0] = np.array([1, 2], ">f4")
    writer.add_ndarray_column("unsigned", shape=(2,), dtype=np.uint16)[0] = np.array([1, 65535], np.uint16)
    writer.add_ndarray_column("long", shape=(2,), dtype=np.longdouble)[0] = np.array([1, 2], np.longdouble)
    writer.commit("dtypes")
    writer.close()
    checkout = repository.checkout()
    sample = make_torch_dataset([checkout["big"], checkout["unsigned"]])[0]
    assert sample["big"].tolist() == [1, 2]
    assert sample["unsigned"].tolist() == [1, 65535]
    for make in (make_torch_dataset, make_torch_stream):
        with pytest.raises(ValueError, match=r"column 'long' is of dtype <f16, of which torch has no tensors"):
            make(checkout["long"])
    checkout.close()


def test_arguments_that_cannot_be(co):
    for wrong in ({"rank": 0}, {"world_size": 2}, {"rank": 2, "world_size": 2}, {"batch_size": 0}):
        with pytest.raises(ValueError):
            make_torch_stream(co["image"], **({"batch_size": 4} | wrong))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="pin_memory is for a GPU"):
            make_torch_stream(co["image"], batch_size=4, pin_memory=True)


def test_without_torch_the_line_that_installs_it_is_told(co, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    for make in (make_torch_dataset, make_torch_stream, torch_values.import_torch):
        with pytest.raises(ImportError, match=r"pip install 'hangar-cloud\[torch\]'"):
            make(co["image"])


def test_numbers_that_no_sample_has_are_told(co):
    dataset = make_torch_dataset(co["label"], range(10, 20))
    assert dataset[2:5]["label"].tolist() == [2, 3, 4]
    assert dataset[torch.tensor(3)]["label"] == 3
    for wrong, what in (
        (10, "no sample number 10"),
        ([0, -11], "no sample number -11"),
        (1.5, "not by"),
        ("a", "not by"),
    ):
        with pytest.raises(IndexError, match=what):
            dataset[wrong]
    for mask in (np.arange(10) < 3, [True, False], torch.ones(10, dtype=torch.bool)):
        with pytest.raises(IndexError, match="not by True and False"):
            dataset[mask]


def test_a_stream_made_before_its_process_group_does_not_give_the_samples_of_all_ranks(co):
    early = make_torch_stream(co["label"], range(10), batch_size=4)
    named = make_torch_stream(co["label"], range(10), batch_size=4, rank=0, world_size=1)
    # A group of torch's own that waits for no other process.
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        with pytest.raises(ValueError, match=r"rank 1 of 2.*after torch.distributed.init_process_group"):
            next(iter(early))
        with pytest.raises(ValueError, match="rank 1 of 2"):
            pickle.dumps(early)
        assert len(next(iter(named))["label"]) == 4
        late = make_torch_stream(co["label"], range(10), batch_size=4)
        assert [len(batch["label"]) for batch in late] == [2, 2, 1]
    finally:
        torch.distributed.destroy_process_group()
    assert [len(batch["label"]) for batch in early] == [4, 4, 2]
