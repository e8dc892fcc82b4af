"""Repositories written by every released format version open, and hold what they held."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.golden.make_golden import FOLDER, expected


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and bool(one == other)


@pytest.fixture
def golden(tmp_path: Path) -> Repository:
    shutil.copytree(FOLDER, tmp_path / "v1")
    return Repository(f"file://{tmp_path / 'v1'}", cache_dir=tmp_path / "cache")


def test_every_value_of_format_1_reads_back(golden: Repository) -> None:
    checkout = golden.checkout()
    contents = expected()
    assert list(checkout.keys()) == sorted(contents)
    for name, samples in contents.items():
        column = checkout[name]
        assert set(column.keys()) == set(samples)
        for key, value in samples.items():
            assert _same(column[key], value), (name, key)


def test_history_of_format_1_is_walked(golden: Repository) -> None:
    contents = golden.log(branch="side", return_contents=True)
    assert contents is not None
    assert [contents["specs"][digest]["commit_message"] for digest in contents["order"]] == [
        "on the side",
        "second",
        "first",
    ]
    assert 99 in golden.checkout(commit=contents["order"][-1])["images"]


def test_digests_of_format_1_have_not_changed(golden: Repository) -> None:
    """The same contents, written today, have the same roots: nothing that is hashed has moved."""
    today = golden.checkout(write=True)
    for name, samples in expected().items():
        today[name].update(samples)
    with pytest.raises(RuntimeError, match="nothing to commit"):
        today.commit("the same again")
    today.close()


def test_a_commit_goes_on_top_of_format_1(golden: Repository) -> None:
    writer = golden.checkout(write=True)
    writer["labels"][5000] = np.array(1, np.int64)
    digest = writer.commit("today")
    writer.close()
    assert golden.checkout(commit=digest)["labels"][5000] == 1
    assert golden.checkout(commit=digest)["labels"][3] == 0


def test_a_newer_format_is_called_newer(golden: Repository, tmp_path: Path) -> None:
    path = tmp_path / "v1" / "hangar.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, "unknown": True}))
    with pytest.raises(RuntimeError, match="format version 2.*[Uu]pgrade"):
        Repository(f"file://{tmp_path / 'v1'}", cache_dir=tmp_path / "other")
