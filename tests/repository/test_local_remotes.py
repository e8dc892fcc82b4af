"""Remotes that are folders of this machine."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.making import add_commit, make_repository


def test_a_local_repository_can_be_cloned_by_its_folder(tmp_path):
    source = make_repository(tmp_path / "source")
    add_commit(source, {0: np.ones((30, 30), np.uint8)})
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Clone", "clone@example.org", str(tmp_path / "source"))
    assert clone.checkout()["array"][0].sum() == 900
    add_commit(clone, {1: np.zeros((30, 30), np.uint8)})
    assert clone.remote.push("origin", "master") == "master"
    assert set(source.checkout()["array"]) == {0, 1}


def test_a_full_disk_does_not_keep_from_reading(tmp_path):
    """The cache folder cannot be written: reads go on, and only a fetch says that it could not keep anything."""
    source = make_repository(tmp_path / "source")
    add_commit(source, {0: np.ones((30, 30), np.uint8), 1: np.zeros((30, 30), np.uint8)})
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Clone", "clone@example.org", str(tmp_path / "source"))
    (tmp_path / "clone" / ".hangar" / "partial").write_text("a file where the folder should be")
    assert clone.checkout()["array"][0].sum() == 900
    with pytest.raises(OSError, match="cannot be kept.*space"):
        clone.remote.fetch_data_sample("origin", "array", [1], branch="master")
