"""Several jobs that write to one branch at once, some of them killed and started again, and what has to come of it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository
from tests.faults.ingest import COULD_NOT, SHAPE, Job, batch_of, idempotency_key, key_of, label_of, lines_of
from tests.repository.making import ROOT, make_repository, start_process

_POLL_SECONDS = 0.02


def start_module(module: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs a module of the tests."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def make_columns(url: str, options: dict[str, Any], cache: Path) -> None:
    """A new repository with the columns that the jobs write to."""
    repository = make_repository(url, storage_options=options, cache_dir=cache)
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("image", shape=SHAPE, dtype=np.uint8)
    writer.add_ndarray_column("label", shape=(), dtype=np.int64)
    writer.commit("columns")
    writer.close()


@dataclass
class Crew:
    """Jobs that ingest into one bucket.

    Attributes:
        folder: of their machines and notes.
        url: of the bucket.
        options: its storage_options for them.
        writers: how many jobs there are.
        batches: that each commits.
        images: in each batch.
        patience: how often a job that the store did not answer may be run again.
    """

    folder: Path
    url: str
    options: dict[str, Any]
    writers: int
    batches: int
    images: int
    patience: int = 0
    reruns: int = 0
    _running: dict[int, tuple[Job, subprocess.Popen[str]]] = field(default_factory=dict)
    _machines: int = 0

    def work(self, killed: int = 0) -> None:
        """Let all jobs do all of their work; kill some of them, at random moments, and start them again."""
        victims = random.sample(range(self.writers), killed)
        # Before each kill, so many batches are reported, and then a moment passes.
        after = {writer: random.randrange(self.batches - 1) for writer in victims}
        for writer in range(self.writers):
            self._start(writer, self._new_machine())
        try:
            while self._running or after:
                for writer in [writer for writer, count in after.items() if len(self.reported(writer)) > count]:
                    del after[writer]
                    time.sleep(random.uniform(0, 0.6))
                    self._kill(writer, new_machine=victims.index(writer) % 2 == 0)
                self._reap()
                time.sleep(_POLL_SECONDS)
        finally:
            for _, process in self._running.values():
                process.kill()
                process.communicate()

    def reported(self, *writers: int) -> dict[tuple[int, int], str]:
        """The commits that jobs were told of, by writer and batch."""
        files = [self._notes(writer, "commits") for writer in writers or range(self.writers)]
        found = [json.loads(line) for line in lines_of(files)]
        return {(note["writer"], note["batch"]): note["commit"] for note in found}

    def sent(self) -> Counter[str]:
        """Bytes that were sent, by the folder of the objects."""
        total: Counter[str] = Counter()
        for line in lines_of(self.folder.glob("*.sent")):
            kind, size = line.split()
            total[kind] += int(size)
        return total

    @property
    def payload(self) -> int:
        """Bytes of all samples that were to be written, keys left out."""
        written = sum(len(batch_of(0, batch, self.images)) for batch in range(self.batches))
        return self.writers * (written * SHAPE[0] * SHAPE[1] + self.batches * self.images * 8)

    def expected(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The images and the labels that are there once all is done."""
        images, labels = {}, {}
        for writer in range(self.writers):
            for batch in range(self.batches):
                images.update(batch_of(writer, batch, self.images))
                labels.update({key_of(writer, batch, n): label_of(writer, batch, n) for n in range(self.images)})
        return images, labels

    def check(self, options: dict[str, Any], shared: int = 0) -> None:
        """Every commit that was reported is there once and whole, and nothing else is; as a new process sees it.

        Args:
            options: storage_options for that process.
            shared: how many commits of others came after them, with the sample "mine".
        """
        reported = self.reported()
        assert reported.keys() == {(w, b) for w in range(self.writers) for b in range(self.batches)}
        note = self.folder / "reported.json"
        note.write_text(json.dumps([[*which, digest] for which, digest in reported.items()]))
        plan = {"writers": self.writers, "batches": self.batches, "images": self.images}
        checker = start_process(
            "from tests.faults.crew import check_bucket; import sys; check_bucket(*sys.argv[1:])",
            self.url,
            json.dumps(options),
            str(self.folder / f"checker-{random.getrandbits(32):x}"),
            str(note),
            json.dumps(plan),
            str(shared),
        )
        errors = checker.communicate()[1]
        assert checker.returncode == 0, errors

    def _new_machine(self) -> str:
        self._machines += 1
        return str(self.folder / f"machine-{self._machines}")

    def _notes(self, writer: int, kind: str) -> Path:
        return self.folder / f"job-{writer}.{kind}"

    def _start(self, writer: int, machine: str) -> None:
        job = Job(
            url=self.url,
            options=self.options,
            cache=machine,
            writer=writer,
            first=len(self.reported(writer)),
            last=self.batches,
            images=self.images,
            commits=str(self._notes(writer, "commits")),
            sent=str(self._notes(writer, "sent")),
        )
        self._running[writer] = (job, start_module("tests.faults.ingest", job.encode()))

    def _kill(self, writer: int, *, new_machine: bool) -> None:
        """Kill a job, and run it again: it does not know how its last commit ended."""
        if writer not in self._running:
            # It was through already; run once more, it has to find that out.
            self._start(writer, self._new_machine())
            return
        job, process = self._running.pop(writer)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self._start(writer, self._new_machine() if new_machine else job.cache)

    def _reap(self) -> None:
        for writer, (job, process) in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            errors = process.communicate()[1]
            del self._running[writer]
            if code == COULD_NOT and self.reruns < self.patience:
                self.reruns += 1
                self._start(writer, job.cache)
            else:
                assert code == 0, f"job {writer} failed with {code}: {errors[-4000:]}"


def check_bucket(url: str, options: str, cache: str, note: str, plan: str, shared: str) -> None:
    """What `Crew.check` asks of a new process."""
    repository = Repository(url, storage_options=json.loads(options), cache_dir=cache)
    crew = replace(Crew(Path(cache), url, {}, 0, 0, 0), **json.loads(plan))
    reported = {(writer, batch): digest for writer, batch, digest in json.loads(Path(note).read_text())}
    log = repository.log(return_contents=True)
    assert log is not None
    # One commit made the columns; every other is the one of a batch, or was asked for.
    assert len(log["order"]) == len(set(log["order"])) == len(reported) + 1 + int(shared)
    assert set(reported.values()) < set(log["order"])
    assert len(set(reported.values())) == len(reported)
    images, labels = crew.expected()
    # Each of these looks through the history, so a few do.
    for writer, batch in random.sample(sorted(reported), min(20, len(reported))):
        assert repository.find_commit(idempotency_key(writer, batch)) == reported[writer, batch]
    for (writer, batch), digest in reported.items():
        checkout = repository.checkout(commit=digest)
        _check_samples(checkout["image"], batch_of(writer, batch, crew.images))
        _check_samples(checkout["label"], {key: labels[key] for key in batch_of(writer, batch, crew.images)})
        checkout.close()
    checkout = repository.checkout()
    keys = sorted([*images, *(["mine"] if int(shared) else [])])
    assert sorted(checkout["image"].keys()) == sorted(checkout["label"].keys()) == keys
    _check_samples(checkout["image"], images)
    _check_samples(checkout["label"], labels)
    checkout.close()
    assert repository.verify_repo_integrity()


def _check_samples(column: Any, expected: dict[str, Any]) -> None:
    found = column.get_batch(list(expected))
    assert found.dtype == column.dtype
    for value, (key, sample) in zip(found, expected.items(), strict=True):
        assert np.array_equal(value, sample), key
