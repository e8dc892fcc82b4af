"""Processes that write, read and collect garbage in one bucket at once, until a time is up.

Run as ``python -m tests.faults.churn TASK`` with a task as JSON. Every value follows from its key, so that whoever
reads one knows whether it is right.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from hangar_cloud import Repository
from tests.faults.ingest import SHAPE, run, shorten

_NEW_SAMPLES = 6
_READ_AT_ONCE = 25
# On a machine that is busy with other things, the time may be up before anything was done.
_LEAST_TURNS = 3


@dataclass(frozen=True)
class Task:
    """What one process is to do.

    Attributes:
        role: "write", "read" or "collect".
        number: of the process among those of its role.
        url: of the bucket.
        options: its storage_options.
        cache: folder of the machine that it runs on.
        seconds: for how long, though it does everything a few times.
        notes: file that takes a line of JSON for each thing done.
        times: constants of the garbage collection's protocol that are shorter here.
    """

    role: str
    number: int
    url: str
    options: dict[str, Any]
    cache: str
    seconds: float
    notes: str
    times: dict[str, float] = field(default_factory=dict)

    def encode(self) -> str:
        return json.dumps(asdict(self))


def value_of(key: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The image under a key: that of the name behind its last slash, so that keys may share one."""
    return np.random.default_rng(crc32(key.rpartition("/")[2].encode())).integers(0, 256, SHAPE, np.uint8)


def seed(repository: Repository) -> dict[str, Any]:
    """Something to read and something to delete, before all begin; returns what a writer would note."""
    keys = [f"job-owner/seed-{n}" for n in range(_READ_AT_ONCE)]
    writer = repository.checkout(write=True)
    writer["image"].update({key: value_of(key) for key in keys})
    digest = writer.commit("seed")
    writer.close()
    _commit_to_new_branch(repository, "tried-owner", ["seed-in-vain"])
    repository.remove_branch("tried-owner", force_delete=True)
    return {"commit": digest, "keys": keys}


def write(task: Task) -> None:
    """Commit to master again and again, and find samples there that only a deleted branch refers to."""
    repository = Repository(task.url, storage_options=task.options, cache_dir=task.cache)
    elsewhere = Repository(task.url, storage_options=task.options, cache_dir=f"{task.cache}-elsewhere")
    writer = repository.checkout(write=True)
    deadline = time.monotonic() + task.seconds
    turn = 0
    with open(task.notes, "a", buffering=1) as notes:
        while turn < _LEAST_TURNS or time.monotonic() < deadline:
            turn += 1
            names = [f"new-{task.number}-{turn}-{n}" for n in range(_NEW_SAMPLES)]
            keys = [f"job-{task.number}/{name}" for name in names]
            if turn % 3:
                branch = f"tried-{task.number}-{turn}"
                # Of every second such branch nothing is wanted again.
                tried = names[:-2] if turn % 3 == 1 else [f"{name}-in-vain" for name in names]
                _commit_to_new_branch(repository, branch, tried)
                # From another machine: on this one a writer is open.
                elsewhere.remove_branch(branch, force_delete=True)
                # A collection may be anywhere by the time that these samples are wanted again.
                time.sleep(random.uniform(0, 1.5))
            writer["image"].update({key: value_of(key) for key in keys})
            digest = writer.commit(f"turn {turn}", idempotency_key=f"{task.number}-{turn}")
            notes.write(json.dumps({"commit": digest, "keys": keys}) + "\n")
    writer.close()


def _commit_to_new_branch(repository: Repository, branch: str, names: list[str]) -> None:
    repository.create_branch(branch)
    writer = repository.checkout(write=True, branch=branch)
    writer["image"].update({f"tried/{name}": value_of(name) for name in names})
    writer.commit("given up")
    writer.close()


def read(task: Task) -> None:
    """Read what master is, and what it was; from a new machine each time."""
    deadline = time.monotonic() + task.seconds
    turn = 0
    with open(task.notes, "a", buffering=1) as notes:
        while turn < _LEAST_TURNS or time.monotonic() < deadline:
            turn += 1
            repository = Repository(task.url, storage_options=task.options, cache_dir=task.cache)
            contents = repository.log(return_contents=True)
            assert contents is not None
            for commit in ("", random.choice(contents["order"])):
                checkout = repository.checkout(commit=commit)
                keys = list(checkout["image"].keys())
                chosen = random.sample(keys, min(_READ_AT_ONCE, len(keys)))
                found = checkout["image"].get_batch(chosen) if chosen else []
                for key, image in zip(chosen, found, strict=True):
                    assert np.array_equal(image, value_of(key)), f"{key} in {checkout.commit_hash}"
                checkout.close()
                notes.write(json.dumps({"read": len(chosen)}) + "\n")
            shutil.rmtree(task.cache)


def collect(task: Task) -> None:
    """Delete garbage, and merge small packs, without a pause."""
    repository = Repository(task.url, storage_options=task.options, cache_dir=task.cache)
    deadline = time.monotonic() + task.seconds
    turn = 0
    with open(task.notes, "a", buffering=1) as notes:
        while turn < _LEAST_TURNS or time.monotonic() < deadline:
            turn += 1
            merged = repository.repack().merged if turn % 2 else {}
            report = repository.gc(grace=0, keep_reflog=0)
            note = {kind: count.objects for kind, count in report.removed.items()}
            repacked = sum(count.objects for count in merged.values())
            notes.write(json.dumps({**note, "rescued": len(report.rescued), "repacked": repacked}) + "\n")


def check(url: str, options: str, cache: str, notes: str) -> None:
    """Whether all that writers noted is in master, whole; asked of a new process."""
    repository = Repository(url, storage_options=json.loads(options), cache_dir=cache)
    contents = repository.log(return_contents=True)
    assert contents is not None
    done = [json.loads(line) for line in Path(notes).read_text().splitlines()]
    assert {note["commit"] for note in done} == set(contents["order"]) - {contents["order"][-1]}
    column = repository.checkout()["image"]
    keys = [key for note in done for key in note["keys"]]
    assert sorted(column.keys()) == sorted(keys)
    for key, image in zip(keys, column.get_batch(keys), strict=True):
        assert np.array_equal(image, value_of(key)), key
    assert repository.verify_repo_integrity()


if __name__ == "__main__":
    given = Task(**json.loads(sys.argv[1]))
    shorten(given.times)
    sys.exit(run(lambda: {"write": write, "read": read, "collect": collect}[given.role](given)))
