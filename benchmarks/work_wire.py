"""Over the network, with hangar-cloud: an S3 server on this machine, and a proxy that makes it as far as a real one.

What is compared with is the same client, which moves the same bytes without a repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository
from hangar_cloud.backends.store import ObjectStore, open_store
from infra.local import SeaweedS3Server

LATENCY = 0.03
PART_BYTES = 8 * 1024 * 1024
FILE_BYTES = 64 * PART_BYTES
BATCHES, BATCH = 100, 256


@contextmanager
def _server() -> Iterator[SeaweedS3Server]:
    with SeaweedS3Server() as server:
        yield server


@contextmanager
def _far_away(server: SeaweedS3Server, delay: float) -> Iterator[str]:
    """The URL of a proxy that holds each answer back for some seconds; a process of its own, as the network is."""
    code = (
        "import sys; from infra.local import DelayingProxy\n"
        "with DelayingProxy(sys.argv[1], delay=float(sys.argv[2])) as proxy:\n"
        "    print(proxy.url, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, server.endpoint, str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def _fill(folder: str | Path, values: Any, **where: Any) -> Repository:
    """A repository with one column of some values."""
    repository = Repository(folder, exists=False, **where)
    repository.init("Bench", "bench@example.org")
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("values", prototype=values[0])
    with column:
        for number, value in enumerate(values):
            column[number] = value
    writer.commit("values")
    writer.close()
    return repository


def _bucket(bench: Any, server: SeaweedS3Server, values: Any) -> str:
    """The URL of a bucket with a repository."""
    url = f"{server.url}/data"
    _fill(url, values, storage_options=server.storage_options, cache_dir=Path(bench.folder, "writer"))
    return url


def _packs(store: ObjectStore) -> list[tuple[str, int, int]]:
    """All bytes of all packs, in parts."""
    return [
        (info.path, offset, min(PART_BYTES, info.size - offset))
        for info in store.list("packs/")
        for offset in range(0, info.size, PART_BYTES)
    ]


def column(bench: Any) -> None:
    """Read a column of 491 MB, of which nothing is here, by batches."""
    with _server() as server:
        url = _bucket(bench, server, bench.tensors())
        repository = Repository(url, storage_options=server.storage_options, cache_dir=Path(bench.folder, "reader"))
        values = repository.checkout()["values"]
        with bench.timed(1):
            for _ in values.iter_batches(500):
                pass


def column_plain(bench: Any) -> None:
    """Get the same packs, 8 MiB a request, 16 requests at once."""
    with _server() as server:
        url = _bucket(bench, server, bench.tensors())
        store = open_store(url, server.storage_options)
        store.join_gap = -1
        parts = _packs(store)
        with bench.timed(1):
            for start in range(0, len(parts), 16):
                store.get_ranges(parts[start : start + 16])


def random_batches(bench: Any) -> None:
    _random_batches(bench, BATCHES)


def first_random_batches(bench: Any) -> None:
    """As few as peers are given, since what was read before helps ours."""
    _random_batches(bench, BATCHES // 10)


def _random_batches(bench: Any, batches: int) -> None:
    """Random batches of MNIST from far away, of which nothing is here."""
    with _server() as server, _far_away(server, LATENCY) as endpoint:
        url = _bucket(bench, server, bench.images())
        options = server.options_for(endpoint)
        repository = Repository(url, storage_options=options, cache_dir=Path(bench.folder, "reader"))
        values = repository.checkout()["values"]
        keys = [bench.random.integers(0, 60_000, BATCH).tolist() for _ in range(batches)]
        with bench.timed(batches * BATCH):
            for batch in keys:
                values.get_batch(batch)


def push(bench: Any) -> None:
    with _server() as server:
        repository = _fill(bench.folder, bench.tensors())
        size = sum(file.stat().st_size for file in Path(bench.folder).rglob("*.pack"))
        repository.remote.add("bucket", f"{server.url}/pushed", storage_options=server.storage_options)
        with bench.timed(size):
            repository.remote.push("bucket", "master")


def push_plain(bench: Any) -> None:
    with _server() as server, open_store(f"{server.url}/plain", server.storage_options) as store:
        file = _random_file(bench)
        store.ensure_writable()
        with bench.timed(FILE_BYTES):
            store.upload("file", file)


def clone(bench: Any) -> None:
    with _server() as server:
        url = _bucket(bench, server, bench.tensors())
        store = open_store(url, server.storage_options)
        size = sum(info.size for info in store.list("packs/"))
        repository = Repository(Path(bench.folder, "clone"), exists=False)
        with bench.timed(size):
            repository.clone("Bench", "bench@example.org", url, storage_options=server.storage_options)
            repository.remote.fetch_data("origin", branch="master")


def clone_plain(bench: Any) -> None:
    with _server() as server, open_store(f"{server.url}/plain", server.storage_options) as store:
        store.upload("file", _random_file(bench))
        with bench.timed(FILE_BYTES):
            store.download("file", Path(bench.folder, "copy"))


def first_sample_trips(bench: Any) -> None:
    """How often a fresh process waits for the bucket before it has its first sample: by how much longer it takes.

    Two delays are compared, so that only what waits one after the other counts.
    """
    with _server() as server:
        url = _bucket(bench, server, bench.images())
        taken = []
        for delay in (0.0, 0.5):
            with _far_away(server, delay) as endpoint:
                options = server.options_for(endpoint)
                runs = [_first_sample(url, options, f"{bench.folder}/{delay}-{number}") for number in range(3)]
            taken.append(sorted(runs)[1])
        bench.seconds = round((taken[1] - taken[0]) / 0.5)  # the rest of it is the machine's noise


def _first_sample(url: str, options: dict[str, Any], cache: str) -> float:
    code = (
        "import sys, json; from hangar_cloud import Repository\n"
        "url, options, cache = json.loads(sys.argv[1])\n"
        "Repository(url, storage_options=options, cache_dir=cache).checkout()['values'][30_000]"
    )
    start = time.perf_counter()
    command = [sys.executable, "-c", code, json.dumps([url, options, cache])]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    return time.perf_counter() - start


def _random_file(bench: Any) -> Path:
    file = Path(bench.folder, "file")
    with open(file, "wb") as stream:
        stream.writelines(np.random.default_rng().bytes(PART_BYTES) for _ in range(FILE_BYTES // PART_BYTES))
    return file
