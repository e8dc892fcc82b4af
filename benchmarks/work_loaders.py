"""Training loops' reading, with hangar-cloud: epochs of batches, and going on in the middle of one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from serving import cores_apart, keep_to, served

from hangar_cloud import Repository, make_numpy_dataset, make_torch_stream

BATCH = 256
LARGE = 5000
LONG = 20_000


def _fill(repository: Repository, columns: dict[str, Any]) -> None:
    repository.init("Bench", "bench@example.org")
    writer = repository.checkout(write=True)
    for name, values in columns.items():
        writer.add_ndarray_column(name, prototype=values[0]).update(enumerate(values))
    writer.commit("samples")
    writer.close()


def _mnist(bench: Any) -> dict[str, Any]:
    images = bench.images()
    return {"image": images, "label": [np.array(n % 10) for n in range(len(images))]}


def _local(bench: Any, columns: dict[str, Any]) -> Any:
    repository = Repository(bench.folder, exists=False)
    _fill(repository, columns)
    return Repository(bench.folder).checkout()


def _large(count: int) -> dict[str, Any]:
    """Samples of 100 kB that no codec shrinks."""
    return {"image": np.random.default_rng(0).integers(0, 256, (count, 100_000), np.uint8)}


def _epoch(loader: Any) -> int:
    return sum(len(batch["image"]) for batch in loader)


def _timed_epoch(bench: Any, loader: Any, count: int) -> None:
    with bench.timed(count):
        seen = _epoch(loader)
    assert seen == count


def warm(bench: Any) -> None:
    from torch.utils.data import DataLoader

    checkout = _local(bench, _mnist(bench))
    loader = DataLoader(make_torch_stream([checkout["image"], checkout["label"]], batch_size=BATCH), batch_size=None)
    _epoch(loader)
    taken = []
    for _ in range(5):
        _timed_epoch(bench, loader, 60_000)
        taken.append(bench.seconds)
    bench.seconds = sorted(taken)[2]


def first(bench: Any) -> None:
    checkout = _local(bench, _mnist(bench))
    with bench.timed(60_000):
        assert _epoch(make_numpy_dataset([checkout["image"], checkout["label"]], batch_size=BATCH)) == 60_000


def _workers(bench: Any, workers: int) -> None:
    from torch.utils.data import DataLoader

    checkout = _local(bench, _large(3000))
    # More than may stay in memory, so that each epoch is read.
    stream = make_torch_stream(checkout["image"], batch_size=32, memory=64 * 1024 * 1024)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, persistent_workers=bool(workers))
    _epoch(loader)
    _timed_epoch(bench, loader, 3000)


def workers_none(bench: Any) -> None:
    _workers(bench, 0)


def workers_two(bench: Any) -> None:
    _workers(bench, 2)


@contextmanager
def _served(apart: bool) -> Iterator[Any]:
    """A server; with `apart` on cores of its own, as one on a network is."""
    theirs, ours = cores_apart() if apart else (None, None)
    with served(theirs) as server:
        keep_to(ours)
        yield server


def _settle() -> None:
    """Let what was written get to the disk: the system would write it while what comes next is measured."""
    if hasattr(os, "sync"):
        os.sync()


def _batches(checkout: Any) -> Any:
    return make_numpy_dataset(checkout.columns, batch_size=BATCH)


def _batches_in_order(checkout: Any) -> Any:
    return make_numpy_dataset(checkout.columns, batch_size=BATCH, shuffle=False)


def _batches_of_a_machine(checkout: Any) -> Any:
    return make_numpy_dataset(checkout.columns, batch_size=BATCH, world_size=2, machines=2)


def _batches_of_workers(checkout: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(make_torch_stream(checkout.columns, batch_size=BATCH), batch_size=None, num_workers=2)


def _cold(
    bench: Any, columns: dict[str, Any], count: int, made: Callable[[Any], Any] = _batches, apart: bool = False
) -> None:
    """From opening the bucket behind the slow network, with an empty cache, to the end of the epoch."""
    with _served(apart) as server:
        url, options = f"s3://{server['bucket']}/bench", {"key": server["key"], "secret": server["secret"]}
        region = {"client_kwargs": {"region_name": "us-east-1"}}
        near = {**options, "endpoint_url": server["endpoint"], **region}
        far = {**options, "endpoint_url": server["slow"], **region}
        _fill(Repository(url, exists=False, storage_options=near, cache_dir=f"{bench.folder}/a"), columns)
        _settle()
        with bench.timed(count):
            checkout = Repository(url, storage_options=far, cache_dir=f"{bench.folder}/b").checkout()
            seen = _epoch(made(checkout))
        assert seen == count
        checkout.close()


def cold(bench: Any) -> None:
    _cold(bench, _mnist(bench), 60_000)


def cold_large(bench: Any) -> None:
    _cold(bench, _large(LARGE), LARGE)


def cold_long(bench: Any) -> None:
    """An epoch of 2 GB, of which opening is a small part."""
    _cold(bench, _large(LONG), LONG)


def cold_long_apart(bench: Any) -> None:
    """The same, where the server takes no time of the cores that train."""
    _cold(bench, _large(LONG), LONG, apart=True)


def cold_in_order(bench: Any) -> None:
    _cold(bench, _large(2 * LARGE), 2 * LARGE, _batches_in_order)


def cold_workers(bench: Any) -> None:
    """Torch is imported first."""
    import torch.utils.data  # noqa: F401

    _cold(bench, _large(2 * LARGE), 2 * LARGE, _batches_of_workers)


def cold_machine(bench: Any) -> None:
    """What one of two machines gets of an epoch of 2 GB."""
    _cold(bench, _large(LONG), LONG // 2, _batches_of_a_machine)


def raw_large(bench: Any) -> None:
    _raw(bench, LARGE)


def raw_larger(bench: Any) -> None:
    _raw(bench, 2 * LARGE)


def raw_long(bench: Any) -> None:
    _raw(bench, LONG)


def raw_long_apart(bench: Any) -> None:
    _raw(bench, LONG, apart=True)


def _raw(bench: Any, count: int, apart: bool = False) -> None:
    """The bytes of samples alone: plain ranged GETs of 8 MiB, eight at once, of objects of 64 MiB."""
    from concurrent.futures import ThreadPoolExecutor

    from serving import client

    size, part = 64 * 1024 * 1024, 8 * 1024 * 1024
    data, wanted = os.urandom(size), count * 100_000
    with _served(apart) as server:
        near, far = client(server, server["endpoint"]), client(server, server["slow"])
        for number in range(-(-wanted // size)):
            near.put_object(Bucket=server["bucket"], Key=f"raw/{number}", Body=data)
        places = [(at // size, at % size, min(part, wanted - at)) for at in range(0, wanted, part)]

        _settle()

        def get(place: tuple[int, int, int]) -> int:
            number, start, length = place
            span = f"bytes={start}-{start + length - 1}"
            return len(far.get_object(Bucket=server["bucket"], Key=f"raw/{number}", Range=span)["Body"].read())

        with bench.timed(count), ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(get, places)) == wanted


def resume(bench: Any) -> None:
    """To the next batch after a state in the middle of 10^6 samples, in the process that opened the dataset."""
    checkout = _local(bench, {"image": [np.array(n) for n in range(1_000_000)]})
    dataset = make_numpy_dataset(checkout["image"], batch_size=BATCH, shuffle="full")
    state = dataset.state_dict(batches=2000)
    start = time.perf_counter()
    dataset.load_state_dict(state)
    next(iter(dataset))
    bench.seconds = time.perf_counter() - start
