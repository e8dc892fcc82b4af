"""Fixtures of repositories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.making import make_repository


@pytest.fixture
def empty(tmp_path: Path) -> Repository:
    """A new local repository without a commit."""
    return make_repository(tmp_path / "repository")


@pytest.fixture
def writer(empty):
    """A writer checkout of a new repository, with the columns "array" (float32, shape 3), "text" and "blob"."""
    checkout = empty.checkout(write=True)
    checkout.add_ndarray_column("array", shape=(3,), dtype=np.float32)
    checkout.add_str_column("text")
    checkout.add_bytes_column("blob")
    yield checkout
    if checkout._alive.open and empty.writer_lock_held:
        checkout.close()


@pytest.fixture
def committed(writer, empty) -> Repository:
    """A repository with one commit of ten samples in each column; no checkout is open."""
    for key in range(10):
        writer["array", key] = np.full(3, key, np.float32)
        writer["text", key] = f"text {key}"
        writer["blob", key] = bytes([key]) * 200
    writer.commit("ten samples")
    writer.close()
    return empty
