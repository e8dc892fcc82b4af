"""Repositories with one of everything, and a process to read them after something was done to them."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from hangar_cloud import Repository
from tests.repository.making import ROOT, make_repository

MOST_MEMORY: Final = 100 * 1024 * 1024
MOST_SECONDS: Final = 60
ALL_USES: Final = ("read", "look back", "verify", "clone", "write", "merge")


class Reader:
    """A process that reads repositories, started anew when one of them ended it."""

    def __init__(self, intact: Path) -> None:
        self._intact = intact
        self._process: subprocess.Popen[str] | None = None

    def faults(self, path: Path, what: str, uses: Sequence[str] = ALL_USES, honest: int | None = None) -> list[str]:
        """What is wrong with how a repository was read: errors that are not ours, memory, time, a process that ended.

        Args:
            path: of the repository.
            what: was done to it, for the message.
            uses: what to do with it.
            honest: bytes that reading it may take, beside `MOST_MEMORY`; twice its size on disk by default.
        """
        if honest is None:
            honest = 2 * sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
        answers = self._ask(path, uses)
        if not isinstance(answers, str) and max(answer["grew"] for answer in answers) > MOST_MEMORY + honest:
            # After many of them there are holes in a process's memory, which count as if they were this one's.
            self.stop()
            answers = self._ask(path, uses)
        if isinstance(answers, str):
            return [f"{what}: {answers}"]
        found = []
        for answer in answers:
            if answer["error"]:
                found.append(f"{what}, {answer['use']}: {answer['error']}")
            if answer["grew"] > MOST_MEMORY + honest:
                found.append(f"{what}, {answer['use']}: took {answer['grew'] / 1e6:.0f} MB")
        return found

    def said(self, path: Path, use: str) -> str:
        """The error of ours that a use ended in; empty if it did not."""
        answers = self._ask(path, [use])
        assert not isinstance(answers, str), answers
        return str(answers[0]["ours"])

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, path: Path, uses: Sequence[str]) -> list[dict[str, Any]] | str:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"path": str(path), "uses": list(uses)}) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], MOST_SECONDS)
        if not ready:
            self.stop()
            return f"hangs ({', '.join(uses)})"
        line = process.stdout.readline()
        if not line:
            code, errors = process.wait(), process.stderr.read() if process.stderr is not None else ""
            self._process = None
            return f"ended the process with {code} ({', '.join(uses)}): {errors[-3000:]}"
        answers: list[dict[str, Any]] = json.loads(line)
        return answers

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.reader"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            with copied(self._intact, self._intact.with_name("warm")) as warm:
                self._ask(warm, ALL_USES)
        return self._process


@contextmanager
def copied(original: Path, target: Path) -> Iterator[Path]:
    """A copy of a repository's folder, removed afterwards."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(original, target)
    try:
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


def make_one_of_everything(folder: Path) -> Path:
    """A small repository with every kind of object and file that there is."""
    repository = make_repository(folder)
    writer = repository.checkout(write=True)
    generator = np.random.default_rng(0)
    for codec in ("raw", "lz4", "zstd"):
        column = writer.add_ndarray_column(codec, shape=(40, 40), dtype=np.int32, backend_options={"codec": codec})
        column.update({key: generator.integers(0, 9, (40, 40), np.int32) for key in range(3)})
    writer.add_ndarray_column("images", shape=(40, 40), dtype=np.uint8).update(
        {key: generator.integers(0, 200, (40, 40), np.uint8) for key in range(12)}
    )
    big = writer.add_ndarray_column("big", shape=(1100, 1000), dtype=np.float32)
    big[0] = np.tile(generator.random(1000, np.float32), (1100, 1))
    varied = writer.add_ndarray_column("varied", shape=(9, 9), dtype=np.float64, variable_shape=True)
    varied.update({key: generator.random((1 + key, 3)) for key in range(6)})
    writer.add_ndarray_column("labels", shape=(), dtype=np.int64).update(
        {key: np.array(key, np.int64) for key in range(6000)}
    )
    writer.add_str_column("text").update({f"t{key}": f"text {key} " * key for key in range(20)})
    writer.add_bytes_column("blob").update({key: generator.bytes(key * 50) for key in range(20)})
    nested = writer.add_ndarray_column("nested", shape=(30,), dtype=np.uint16, contains_subsamples=True)
    nested["a"] = {key: generator.integers(0, 9, 30, np.uint16) for key in range(5)}
    nested[7] = {"x": generator.integers(0, 9, 30, np.uint16)}
    writer.metadata["about"] = "one of everything"
    first = writer.commit("first")
    writer["text", "t1"] = "changed"
    writer.commit("second")
    writer.close()
    repository.create_branch("other", first)
    repository.create_tag("release", "master")
    writer = repository.checkout(write=True, branch="other")
    writer["images", 50] = generator.integers(0, 200, (40, 40), np.uint8)
    writer.commit("beside")
    writer["text", "t2"] = "put away"
    writer.stash("away")
    writer.close()
    repository.merge("merged", "master", "other")
    writer = repository.checkout(write=True, branch="master")
    writer["images", 60] = generator.integers(0, 200, (40, 40), np.uint8)
    writer.add_str_column("staged")["x"] = "y"
    writer.close()
    return Path(repository.path)


def files_to_damage(folder: Path) -> list[Path]:
    """Every file of a repository's folder that is read, sorted."""
    found = [path for path in (folder / ".hangar").rglob("*") if path.is_file() and path.suffix != ".lock"]
    return sorted(path for path in found if path.stat().st_size)


def clone_of(repository: Path, folder: Path) -> Path:
    """A clone that holds a part of what its origin has."""
    clone = Repository(folder, exists=False)
    clone.clone("a", "b", f"{repository}/.hangar/store")
    checkout = clone.checkout()
    checkout["images", 3], checkout["big", 0], checkout["text", "t5"]
    checkout.close()
    return folder
