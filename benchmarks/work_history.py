"""Commits, branches, diff and merge at a million rows, with hangar-cloud."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository

ROWS = 1_000_000

FIRST_SAMPLE = """
import sys, time
import blake3, duckdb, numpy, pyarrow.parquet, tqdm, xxhash
import hangar_cloud.checkout, hangar_cloud.column_reader, hangar_cloud.repository, hangar_cloud.backends.store.local
from hangar_cloud import Repository
start = time.perf_counter()
Repository(sys.argv[1]).checkout()[sys.argv[2]][int(sys.argv[3])]
print(time.perf_counter() - start)
"""

RANDOM_READS = """
import random, sys
from hangar_cloud import Repository
column = Repository(sys.argv[1]).checkout()["labels"]
chance = random.Random(1)
for _ in range(1000):
    column[chance.randrange(10_000_000)]
with open("/proc/self/statm") as file:
    print(int(file.read().split()[1]) * 4096)
"""


def _million(bench: Any, millions: int = 1) -> Repository:
    repository = Repository(bench.folder, exists=False)
    repository.init("Bench", "bench@example.org")
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("labels", shape=(), dtype=np.int64)
    for million in range(millions):
        values = np.arange(million * ROWS, (million + 1) * ROWS)
        with column:
            for i in range(ROWS):
                column[million * ROWS + i] = values[i, ...]
        writer.commit("a million")
    writer.close()
    return repository


def change_one(bench: Any) -> None:
    repository = _million(bench)
    writer = repository.checkout(write=True)
    numbers = itertools.count(7)

    def change() -> None:
        number = next(numbers)
        writer["labels", number * 997] = np.array(-number)
        writer.commit("one")

    change()
    bench.median(change, 15)


def create_branch(bench: Any) -> None:
    repository = _million(bench)
    numbers = itertools.count()
    bench.median(lambda: repository.create_branch(f"branch{next(numbers)}"), 15)


def open_writer(bench: Any) -> None:
    repository = _million(bench)
    repository.checkout(write=True).close()
    bench.median(lambda: repository.checkout(write=True).close(), 15)


def new_bytes(bench: Any) -> None:
    repository = _million(bench)
    before = _stored(bench.folder)
    for key in range(0, ROWS, ROWS // 20):
        writer = repository.checkout(write=True)
        writer["labels", key] = np.array(-1)
        writer.commit("one")
        writer.close()
    bench.seconds = (_stored(bench.folder) - before) / 20


def _stored(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder, ".hangar", "store").rglob("*") if path.is_file())


def first_sample(bench: Any) -> None:
    _million(bench)
    bench.seconds = _printed(FIRST_SAMPLE, bench.folder, "labels", "777777")


def first_image(bench: Any) -> None:
    repository = Repository(bench.folder, exists=False)
    repository.init("Bench", "bench@example.org")
    images = bench.images()
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("images", prototype=images[0])
    with column:
        for key, image in enumerate(images):
            column[key] = image
    writer.commit("images")
    writer.close()
    bench.seconds = _printed(FIRST_SAMPLE, bench.folder, "images", "44444")


def memory_of_ten_million(bench: Any) -> None:
    _million(bench, 10)
    bench.seconds = _printed(RANDOM_READS, bench.folder)


def _printed(program: str, *arguments: str) -> float:
    """The number that a program prints, in the middle of seven processes of it."""
    command = [sys.executable, "-c", program, *arguments]
    found = [float(subprocess.run(command, check=True, capture_output=True, env=os.environ).stdout) for _ in range(7)]
    return sorted(found)[3]


def import_library(bench: Any) -> None:
    bench.median(lambda: subprocess.run([sys.executable, "-c", "import hangar_cloud"], check=True), 7)


def command_help(bench: Any) -> None:
    command = [sys.executable, "-m", "hangar_cloud", "--help"]
    bench.median(lambda: subprocess.run(command, check=True, capture_output=True), 7)


def _two_branches(bench: Any, keys: Callable[[int], list[int]]) -> tuple[Repository, list[tuple[str, str]]]:
    repository = _million(bench)
    pairs = []
    for round_ in range(3):
        names = (f"left{round_}", f"right{round_}")
        for side, name in enumerate(names):
            repository.create_branch(name, repository.checkout(branch="master").commit_hash)
            writer = repository.checkout(write=True, branch=name)
            with writer["labels"] as column:
                for key in keys(side):
                    column[key] = np.array(-1 - side)
            writer.commit("changes")
            writer.close()
        pairs.append(names)
    return repository, pairs


def _scattered(bench: Any) -> Callable[[int], list[int]]:
    return lambda side: (bench.random.integers(0, ROWS // 2, 100) * 2 + side).tolist()


def _together(side: int) -> list[int]:
    return list(range(500_000 + 100 * side, 500_100 + 100 * side))


def _diff(bench: Any, keys: Callable[[int], list[int]]) -> None:
    repository, pairs = _two_branches(bench, keys)
    left = iter(pairs)
    bench.median(lambda: repository.diff(*next(left)), 3)


def _merge(bench: Any, keys: Callable[[int], list[int]]) -> None:
    repository, pairs = _two_branches(bench, keys)
    left = iter(pairs)
    bench.median(lambda: repository.merge("both", *next(left)), 3)


def diff_scattered(bench: Any) -> None:
    _diff(bench, _scattered(bench))


def diff_together(bench: Any) -> None:
    _diff(bench, _together)


def merge_scattered(bench: Any) -> None:
    _merge(bench, _scattered(bench))


def merge_together(bench: Any) -> None:
    _merge(bench, _together)
