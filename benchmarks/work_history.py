"""Commits, branches, diff and merge at a million rows, with hangar-cloud."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
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
Repository(sys.argv[1]).checkout()["labels"][777_777]
print(time.perf_counter() - start)
"""


def _million(bench: Any) -> Repository:
    repository = Repository(bench.folder, exists=False)
    repository.init("Bench", "bench@example.org")
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("labels", shape=(), dtype=np.int64)
    values = np.arange(ROWS)
    with column:
        for key in range(ROWS):
            column[key] = values[key, ...]
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


def first_sample(bench: Any) -> None:
    _million(bench)
    command = [sys.executable, "-c", FIRST_SAMPLE, bench.folder]
    found = [float(subprocess.run(command, check=True, capture_output=True, env=os.environ).stdout) for _ in range(7)]
    bench.seconds = sorted(found)[3]


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
