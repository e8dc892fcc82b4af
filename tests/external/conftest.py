"""Fixtures of files to import, and of a repository to import them into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hangar_cloud import Repository
from tests.repository.making import make_repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A new local repository without a commit."""
    return make_repository(tmp_path / "repository")


@pytest.fixture
def writer(repo):
    """A writer checkout of it."""
    checkout = repo.checkout(write=True)
    yield checkout
    if checkout._alive.open and repo.writer_lock_held:
        checkout.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 3 classes of 4 pictures of 6 x 5 pixels in colour, each another."""
    folder = tmp_path / "photos"
    for number in range(12):
        place = folder / ("cat", "dog", "owl")[number % 3] / f"{number:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(place)
    return folder


def picture(number: int, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    """Random pixels."""
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)
