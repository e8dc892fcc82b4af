"""A scheduled job that ingests batches of images into one branch of a bucket, as a process that may be killed.

Run as ``python -m tests.faults.ingest JOB`` with a job as JSON. What it committed, and every byte that it sends, it
notes in files as it goes, so that they are known of a process that was killed too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore, ObjectStore
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import StoreUnavailableError
from hangar_cloud.progress import set_progress

SHAPE = (64, 64)
COULD_NOT = 75
"""The exit code of a job that the store did not answer; a scheduler runs it again."""
_REWRITES_EVERY = 3


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    Attributes:
        url: of the bucket.
        options: its storage_options.
        cache: folder of the machine that it runs on.
        writer: number of the job among those that write at once.
        first: number of the first batch to commit.
        last: number of the batch after the last.
        images: how many images a batch has.
        commits: file that takes a line of JSON for each commit that was reported to the job.
        sent: file that takes a line for each object that is sent, with its folder and bytes.
        times: constants of the garbage collection's protocol that are shorter here.
    """

    url: str
    options: dict[str, Any]
    cache: str
    writer: int
    first: int
    last: int
    images: int
    commits: str
    sent: str
    times: dict[str, float] = field(default_factory=dict)

    def encode(self) -> str:
        return json.dumps(asdict(self))


class TalliedStore(CountingStore):
    """Appends a line to a file for all that is sent, before it is sent."""

    def __init__(self, inner: ObjectStore, tally: str) -> None:
        super().__init__(inner)
        self._tally = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def put(self, path: str, data: bytes) -> None:
        self._note(path, len(data))
        super().put(path, data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        self._note(path, len(data))
        return super().put_if_absent(path, data)

    def upload(self, path: str, source: Path, **options: Any) -> None:
        self._note(path, Path(source).stat().st_size)
        super().upload(path, source, **options)

    def _note(self, path: str, size: int) -> None:
        os.write(self._tally, f"{path.partition('/')[0]} {size}\n".encode())


def image_of(writer: int, batch: int, number: int, version: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random bytes that no codec shrinks."""
    return np.random.default_rng([writer, batch, number, version]).integers(0, 256, SHAPE, np.uint8)


def key_of(writer: int, batch: int, number: int) -> str:
    return f"job-{writer:02d}-batch-{batch:03d}-image-{number:05d}"


def label_of(writer: int, batch: int, number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(writer * 1_000_000 + batch * 1_000 + number, np.int64)


def idempotency_key(writer: int, batch: int) -> str:
    return f"job-{writer:02d}-batch-{batch:03d}"


def batch_of(writer: int, batch: int, images: int) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    """The images that a batch writes: its own, and at times another version of one of the batch before."""
    found = {key_of(writer, batch, number): image_of(writer, batch, number) for number in range(images)}
    if batch % _REWRITES_EVERY == _REWRITES_EVERY - 1:
        found[key_of(writer, batch - 1, 0)] = image_of(writer, batch - 1, 0, version=batch)
    return found


def open_bucket(job: Job) -> Repository:
    """The bucket, with what is sent to it noted."""
    repository = Repository(job.url, storage_options=job.options, cache_dir=job.cache)
    storage = repository._storage
    storage.store = TalliedStore(storage.store, job.sent)
    storage.forget()
    return repository


def ingest(job: Job) -> None:
    """Commit the batches one by one, each in the way of all the others that write to the branch."""
    repository = open_bucket(job)
    writer = repository.checkout(write=True)
    with open(job.commits, "a", buffering=1) as reported:
        for batch in range(job.first, job.last):
            writer["image"].update(batch_of(job.writer, batch, job.images))
            labels = {key_of(job.writer, batch, n): label_of(job.writer, batch, n) for n in range(job.images)}
            writer["label"].update(labels)
            key = idempotency_key(job.writer, batch)
            digest = writer.commit(f"batch {batch} of job {job.writer}", idempotency_key=key)
            reported.write(json.dumps({"writer": job.writer, "batch": batch, "commit": digest}) + "\n")
    writer.close()


def shorten(times: dict[str, float]) -> None:
    """Set constants of the garbage collection's protocol."""
    for name, seconds in times.items():
        setattr(condemned, name, seconds)


def run(work: Callable[[], None]) -> int:
    """Do the work of a process; its exit code."""
    set_progress(False)
    try:
        work()
    except StoreUnavailableError as error:
        print(error, file=sys.stderr)
        return COULD_NOT
    return 0


def lines_of(files: Iterable[Path]) -> list[str]:
    """The lines of files, but for one that a killed process did not write to its end."""
    return [line for file in files if file.exists() for line in file.read_text().splitlines(True) if line[-1] == "\n"]


if __name__ == "__main__":
    given = Job(**json.loads(sys.argv[1]))
    shorten(given.times)
    sys.exit(run(lambda: ingest(given)))
