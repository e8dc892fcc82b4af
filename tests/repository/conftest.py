"""Fixtures of repositories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.filling import fill
from tests.repository.forging import Forger, store_files
from tests.repository.making import add_commit, make_repository, noise


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


@pytest.fixture
def images(tmp_path):
    """A local repository with 200 packed samples of 5,000 random bytes each."""
    repository = make_repository(tmp_path / "images")
    add_commit(repository, {number: noise(number) for number in range(200)}, column="images")
    return repository


@pytest.fixture
def pushed(images, s3_url, s3_options):
    """The same, pushed to its remote "origin" in S3."""
    images.remote.add("origin", s3_url, storage_options=s3_options)
    assert images.remote.push("origin", "master") == "master"
    return images


@pytest.fixture
def clone(pushed, s3_url, s3_options, tmp_path):
    made = Repository(tmp_path / "clone", exists=False)
    assert made.clone("Clone User", "clone@example.org", s3_url, storage_options=s3_options) == "master"
    return made


@pytest.fixture
def healthy(tmp_path):
    """A local repository of two commits and two packs."""
    return fill(make_repository(tmp_path / "repository"))


@pytest.fixture
def packs(healthy):
    """The files of its two packs."""
    found = store_files(healthy, "packs/*/*.pack")
    assert len(found) == 2
    return found


@pytest.fixture
def forger(empty):
    """Commits what it is told to the repository `empty`."""
    return Forger(empty)


@pytest.fixture
def open_bucket(s3_url, s3_options, tmp_path):
    """Opens one bucket, as if on a machine of the given name."""
    make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "maker")
    return lambda machine: Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / machine)


@pytest.fixture(params=["folder", "s3"])
def opened(request, tmp_path):
    """Opens one repository, a bucket's as if on a machine of the given name."""
    if request.param == "folder":
        place, options = str(tmp_path / "repository"), None
    else:
        place, options = request.getfixturevalue("s3_url"), request.getfixturevalue("s3_options")
    make_repository(place, storage_options=options, cache_dir=tmp_path / "maker")
    return lambda machine: Repository(place, storage_options=options, cache_dir=tmp_path / machine)
