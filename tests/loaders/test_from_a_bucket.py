"""Training straight from S3: what is fetched, and that it is fetched once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hangar_cloud import Repository, keys_where, make_numpy_dataset, make_torch_stream
from hangar_cloud.backends.local_files import LocalFiles
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import PurgedError
from hangar_cloud.loaders.source import SampleSource
from tests.loaders.large_images import requests_for_packs
from tests.repository.making import make_repository, noise

COUNT = 400


@pytest.fixture
def bucket(s3_server, s3_proxy, s3_url, tmp_path):
    """Opens a bucket of 400 images of 5,000 random bytes and their labels, through the proxy, with a new cache."""
    writer = make_repository(s3_url, storage_options=s3_server.storage_options, cache_dir=tmp_path / "maker")
    checkout = writer.checkout(write=True)
    checkout.add_ndarray_column("image", prototype=noise(0)).update({key: noise(key) for key in range(COUNT)})
    labels = checkout.add_ndarray_column("label", shape=(), dtype=np.int64)
    labels.update({key: np.array(key) for key in range(COUNT)})
    checkout.commit("images")
    checkout.close()
    options = s3_server.options_for(s3_proxy.url)
    return lambda name, **how: Repository(s3_url, storage_options=options, cache_dir=tmp_path / name, **how)


def check(batches):
    seen = []
    for batch in batches:
        for image, label in zip(np.asarray(batch["image"]), batch["label"].tolist(), strict=True):
            assert image.tobytes() == noise(label).tobytes()
            seen.append(label)
    return seen


def test_opening_and_choosing_read_no_samples_and_an_epoch_reads_each_once(bucket, s3_proxy):
    checkout = bucket("reader").checkout()
    even = keys_where(checkout["label"], lambda label: label % 2 == 0)
    dataset = make_numpy_dataset(checkout.columns, batch_size=32)
    make_numpy_dataset(checkout.columns, even, batch_size=32)
    assert requests_for_packs(s3_proxy) == []
    before = s3_proxy.bytes_down
    assert sorted(check(dataset)) == [*range(COUNT)]
    assert len(requests_for_packs(s3_proxy)) <= 4, "neighbours are fetched together"
    assert s3_proxy.bytes_down - before < 1.1 * COUNT * 5000
    checkout.close()
    s3_proxy.targets.clear()
    again = bucket("reader", offline=False).checkout()
    assert sorted(check(make_numpy_dataset(again.columns, even, 32, memory=10_000))) == even
    assert requests_for_packs(s3_proxy) == []
    again.close()


def test_workers_share_the_cache(bucket, s3_proxy):
    checkout = bucket("shared").checkout()
    stream = make_torch_stream(checkout.columns, batch_size=32, memory=400_000)
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert isinstance(next(iter(stream))["image"], torch.Tensor)
    assert sorted(check(loader)) == [*range(COUNT)]
    s3_proxy.targets.clear()
    assert sorted(check(loader)) == [*range(COUNT)]
    assert sorted(check(stream)) == [*range(COUNT)]
    assert requests_for_packs(s3_proxy) == []
    checkout.close()


def test_a_part_that_is_here_is_not_fetched_again(bucket, s3_proxy):
    checkout = bucket("partial").checkout()
    checkout["image"].get_batch(range(0, COUNT, 2))
    before = s3_proxy.bytes_down
    assert sorted(check(make_numpy_dataset(checkout.columns, batch_size=32))) == [*range(COUNT)]
    assert s3_proxy.bytes_down - before < 1.1 * COUNT * 5000
    checkout.close()


def test_a_purged_sample_is_told_where_it_comes_beside_others_of_an_old_cache(bucket, s3_proxy, monkeypatch):
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.3)
    checkout = bucket("old cache").checkout()
    checkout["image"].get_batch(range(100))
    checkout.close()
    bucket("purger").purge(column="image", key=200, reason="asked for")
    checkout = bucket("old cache").checkout()
    given = []
    with pytest.raises(PurgedError, match=r"column 'image', sample 200"):
        given += check(make_numpy_dataset(checkout.columns, batch_size=10, shuffle=False))
    dataset = make_numpy_dataset(checkout.columns, [key for key in range(COUNT) if key != 200], 10)
    assert sorted(check(dataset)) == [key for key in range(COUNT) if key != 200]
    checkout.close()


def test_offline_with_samples_missing_names_the_first(bucket):
    checkout = bucket("offline").checkout()
    list(checkout["label"].keys())
    checkout["image"].get_batch(range(40))
    checkout.close()
    with pytest.warns(UserWarning, match="repository is offline"):
        checkout = bucket("offline", offline=True).checkout()
    assert sorted(check(make_numpy_dataset(checkout.columns, range(30), 10))) == [*range(30)]
    with pytest.raises(FileNotFoundError, match="column 'image', sample"):
        list(make_numpy_dataset(checkout.columns, batch_size=32))
    checkout.close()


@pytest.fixture
def tensors(s3_server, s3_proxy, s3_url, tmp_path):
    """Opens a bucket of 240 tensors of 40,000 random bytes, as `bucket` does."""
    writer = make_repository(s3_url, storage_options=s3_server.storage_options, cache_dir=tmp_path / "maker")
    checkout = writer.checkout(write=True)
    values = {key: np.frombuffer(np.random.default_rng(key).bytes(40_000), np.uint8) for key in range(240)}
    checkout.add_ndarray_column("tensor", prototype=values[0]).update(values)
    checkout.commit("tensors")
    checkout.close()
    options = s3_server.options_for(s3_proxy.url)
    return values, lambda name, **how: Repository(s3_url, storage_options=options, cache_dir=tmp_path / name, **how)


def epoch(values, checkout):
    """How many samples an epoch gave; little is kept in memory, and steps end in the middle of windows."""
    dataset = make_numpy_dataset(checkout["tensor"], batch_size=30, memory=12_000_000, window=4)
    given = [row.tobytes() for batch in dataset for row in batch["tensor"]]
    assert sorted(given) == sorted(value.tobytes() for value in values.values())
    return len(given)


def test_windows_are_fetched_whole_where_steps_end_within_them(tensors, s3_proxy):
    values, opened = tensors
    checkout = opened("reader").checkout()
    assert epoch(values, checkout) == 240
    assert len(requests_for_packs(s3_proxy)) < 12, "2 MiB of 50 samples each, and not one for each sample of a block"
    assert s3_proxy.bytes_down < 1.1 * 240 * 40_000
    s3_proxy.targets.clear()
    assert epoch(values, checkout) == 240
    assert requests_for_packs(s3_proxy) == []
    checkout.close()


def test_batches_that_are_held_stay_as_they_were(tensors):
    values, opened = tensors
    checkout = opened("held").checkout()
    dataset = make_numpy_dataset(checkout["tensor"], batch_size=30, memory=12_000_000, window=4)
    known = {value.tobytes() for value in values.values()}
    for _ in range(2):
        held = []
        for number, batch in enumerate(dataset):
            if number % 3:
                held.append((batch["tensor"][5:], batch["tensor"].copy()))
            else:
                batch["tensor"][:] = 0  # it is the caller's
        assert all((view == copy[5:]).all() for view, copy in held)
        assert {row.tobytes() for _, copy in held for row in copy} < known
    checkout.close()


def test_a_cache_that_cannot_keep_windows_costs_no_second_download(tensors, s3_proxy):
    values, opened = tensors
    checkout = opened("small", cache_size=1_000_000).checkout()
    assert epoch(values, checkout) == 240
    assert s3_proxy.bytes_down < 1.2 * 240 * 40_000
    checkout.close()


def test_what_was_fetched_early_is_not_read_back(tensors, monkeypatch):
    values, opened = tensors
    reads: list[int] = []

    def counted(files, path, offset, length, read=LocalFiles.view):
        reads.extend([length] * (path.suffix == ".pack"))
        return read(files, path, offset, length)

    monkeypatch.setattr(LocalFiles, "view", counted)
    checkout = opened("early").checkout()
    assert epoch(values, checkout) == 240
    assert sum(reads) < 240 * 40_000 / 2
    first, reads[:] = sum(reads), []
    assert epoch(values, checkout) == 240
    assert sum(reads) > first
    checkout.close()


def test_who_breaks_off_waits_for_no_window(s3_server, s3_proxy, s3_url, tmp_path):
    """The parts of two windows were all fetched first."""
    writer = make_repository(s3_url, storage_options=s3_server.storage_options, cache_dir=tmp_path / "maker")
    checkout = writer.checkout(write=True)
    values = np.random.default_rng(0).integers(0, 256, (120, 400_000), np.uint8)
    checkout.add_ndarray_column("large", prototype=values[0]).update(enumerate(values))
    checkout.commit("large")
    checkout.close()
    options = s3_server.options_for(s3_proxy.url)
    checkout = Repository(s3_url, storage_options=options, cache_dir=tmp_path / "reader").checkout()
    epoch = iter(make_numpy_dataset(checkout["large"], batch_size=5, memory=12_000_000, window=100))
    s3_proxy.delay = 0.5
    next(epoch)
    before = len(requests_for_packs(s3_proxy))
    epoch.close()  # type: ignore[attr-defined]
    checkout.close()
    s3_proxy.delay = 0.0
    assert len(requests_for_packs(s3_proxy)) - before < 4, "not all parts that were asked for"


@pytest.mark.parametrize("window", [1, 100])
def test_a_state_of_smaller_blocks_or_without_strips_is_refused(tensors, window):
    _, opened = tensors
    checkout = opened("state").checkout()
    dataset = make_numpy_dataset(checkout["tensor"], batch_size=30, window=window)
    state = dataset.state_dict(batches=1)
    dataset.load_state_dict(state)
    for since in (" of ", " in strips"):
        older = {**state, "order": state["order"].partition(since)[0]}
        assert older != state
        with pytest.raises(ValueError, match="order"):
            dataset.load_state_dict(older)
    checkout.close()


def test_what_cannot_be_brought_is_fetched_side_by_side(s3_server, s3_proxy, s3_url, tmp_path, monkeypatch):
    """Values of bytes were fetched one part after the other where arrays would have come by windows."""
    writer = make_repository(s3_url, storage_options=s3_server.storage_options, cache_dir=tmp_path / "maker")
    checkout = writer.checkout(write=True)
    values = {key: np.random.default_rng(key).bytes(90_000) for key in range(400)}
    checkout.add_bytes_column("raw").update(values)
    checkout.commit("raw")
    checkout.close()
    options = s3_server.options_for(s3_proxy.url)
    checkout = Repository(s3_url, storage_options=options, cache_dir=tmp_path / "reader").checkout()
    threads: set[int] = set()

    def noted(source, positions, pool, read=SampleSource.read):
        threads.add(threading.get_ident())
        return read(source, positions, pool)

    monkeypatch.setattr(SampleSource, "read", noted)
    given = [value for batch in make_numpy_dataset(checkout["raw"], batch_size=64) for value in batch["raw"]]
    assert sorted(given) == sorted(values.values())
    assert len(threads) > 2
    checkout.close()
