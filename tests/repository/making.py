"""Making repositories, looking into them, and running second processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore

ROOT = Path(__file__).parents[2]


def make_repository(place: Any, **options: Any) -> Repository:
    """A new, empty repository in a folder or at a URL."""
    repository = Repository(place, exists=False, **options)
    repository.init("Test User", "test@example.org")
    return repository


def clone_of(source: Path, folder: Path) -> Repository:
    """A clone of a repository in a folder, that has neither records nor samples."""
    clone = Repository(folder, exists=False)
    clone.clone("Clone", "clone@example.org", str(source))
    return clone


def add_commit(repository: Repository, samples: dict[Any, Any], *, column: str = "array", branch: str = "") -> str:
    """Write samples into a column (made from the first of them if it is missing) and commit."""
    checkout = repository.checkout(write=True, branch=branch)
    if column not in checkout:
        checkout.add_ndarray_column(column, prototype=next(iter(samples.values())))
    checkout[column].update(samples)
    digest = checkout.commit(f"{len(samples)} samples")
    checkout.close()
    return digest


def read_all(repository: Repository, **where: Any) -> dict[str, dict[Any, Any]]:
    """Every sample of every column."""
    checkout = repository.checkout(**where)
    found = {name: dict(column.items()) for name, column in checkout.items()}
    checkout.close()
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in type, dtype, shape and every bit."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return type(one) is type(other) and bool(one == other)


def same_columns(one: dict[str, dict[Any, Any]], other: dict[str, dict[Any, Any]]) -> bool:
    """Whether two answers of `read_all` are equal in every bit."""
    return one.keys() == other.keys() and all(
        list(one[name]) == list(other[name]) and all(same(value, other[name][key]) for key, value in one[name].items())
        for name in one
    )


def files_of(folder: str | Path) -> dict[str, bytes]:
    """Contents of every file below a folder, by relative path."""
    top = Path(folder)
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def start_process(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Another Python process that runs `script`; `sys.argv[1:]` are `arguments`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"the process ended: {process.communicate()[1]}")
    return line.strip()


def finish(process: subprocess.Popen[str], text: str = "") -> str:
    """Give a process its input, wait for its end, and return what it printed."""
    output, errors = process.communicate(text, timeout=120)
    assert process.returncode == 0, errors
    return output


def noise(number: int, size: int = 5000) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random bytes that no codec shrinks."""
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def counted(repository: Repository, remote: str = "origin") -> CountingStore:
    """Put a counting store before a remote."""
    counting = CountingStore(repository._storage.remote_store(remote))
    repository._storage._remote_stores[remote] = counting
    return counting
