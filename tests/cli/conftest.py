from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def repo(place: Path) -> Repository:
    """A repository in the current folder: no commit yet, nothing staged."""
    made = Repository(place, exists=False)
    with contextlib.redirect_stdout(io.StringIO()):
        made.init("Ada", "ada@example.org")
    return made


@pytest.fixture
def filled(repo: Repository) -> Repository:
    """One with a commit on master of ten samples in two columns."""
    co = repo.checkout(write=True)
    images = co.add_ndarray_column("images", shape=(28, 28), dtype=np.uint8)
    labels = co.add_str_column("labels")
    with images, labels:
        for i in range(10):
            images[i] = np.full((28, 28), i, np.uint8)
            labels[i] = f"label {i}"
    co.commit("ten samples")
    co.close()
    return repo


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    """URL of a folder for a bucket that does not exist yet."""
    return (tmp_path / "bucket").as_uri()


@pytest.fixture
def shared(filled: Repository, bucket: str) -> Repository:
    """The filled one, pushed to `bucket` as "origin"."""
    filled.remote.add("origin", bucket)
    filled.remote.push("origin", "master")
    return filled
