"""Repositories to train from."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.making import make_repository

COUNT = 300


def image(number):
    """The image of a key, which tells the key."""
    return np.full((4, 5), number, np.int32)


@pytest.fixture(scope="session", autouse=True)
def _collected_at_once():
    """A data loader that the collector finds, behind an error of a worker, waits so many seconds for each worker: their
    queues are closed by then, before they were told to end. Five by default."""
    from torch.utils.data import _utils

    before, _utils.MP_STATUS_CHECK_INTERVAL = _utils.MP_STATUS_CHECK_INTERVAL, 0.5
    yield
    _utils.MP_STATUS_CHECK_INTERVAL = before


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A repository of 300 samples in columns of each kind; keys are numbers and the text of a number.

    "image" lies in packs in another order than that of its keys; "few" lacks every third sample; "scan" is nested.
    """
    repository = make_repository(tmp_path_factory.mktemp("digits") / "repository")
    writer = repository.checkout(write=True)
    numbers = np.random.default_rng(0).permutation(COUNT).tolist()
    images = writer.add_ndarray_column("image", prototype=image(0))
    for part in (numbers[:100], numbers[100:]):
        images.update({key: image(key) for key in part})
        writer.commit("some images")
    images["0"] = image(1000)
    labels = writer.add_ndarray_column("label", shape=(), dtype=np.int64)
    labels.update({key: np.array(key % 10) for key in range(COUNT)})
    labels["0"] = np.array(-1)
    writer.add_str_column("name").update({key: f"digit {key}" for key in range(COUNT)} | {"0": "text"})
    writer.add_bytes_column("blob").update({key: bytes([key % 256]) * (key % 90) for key in range(COUNT)})
    varying = writer.add_ndarray_column("varying", shape=(90, 2), dtype=np.float32, variable_shape=True)
    varying.update({key: np.full((1 + key % 90, 2), key, np.float32) for key in range(COUNT)})
    writer.add_ndarray_column("few", prototype=image(0)).update({key: -image(key) for key in range(COUNT) if key % 3})
    writer.add_ndarray_column("none", prototype=image(0))
    scans = writer.add_ndarray_column("scan", shape=(3,), dtype=np.uint8, contains_subsamples=True)
    scans.update({key: {below: np.full(3, key + below, np.uint8) for below in range(1 + key % 3)} for key in range(30)})
    writer.commit("all columns")
    writer.close()
    return repository


@pytest.fixture
def co(digits):
    checkout = digits.checkout()
    yield checkout
    if checkout._alive.open:
        checkout.close()


@pytest.fixture
def opened(url, s3_server, s3_proxy, tmp_path):
    """Opens the bucket that a module's `url` names, through the proxy, with a cache of a name."""
    options = s3_server.options_for(s3_proxy.url)
    return lambda name="cache", **how: Repository(url, storage_options=options, cache_dir=tmp_path / name, **how)


@pytest.fixture
def one_thread_of_torch():
    """Two cores are shared by all that runs here; and threads of torch's own do not come along into forked workers."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
