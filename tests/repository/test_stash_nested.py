"""Stashing subsamples, and altered columns."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.errors import StashConflictError
from tests.repository.making import make_repository
from tests.repository.stashing import BIG


@pytest.fixture
def scans(tmp_path):
    """A repository with a nested column and a column of numbers, both of some samples."""
    repository = make_repository(tmp_path / "scans")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("scans", (3,), np.float32, contains_subsamples=True)["p1"] = {0: BIG[:3], 1: BIG[3:6]}
    writer.add_ndarray_column("numbers", (), np.int32).update({key: np.array(key, np.int32) for key in range(5)})
    writer.commit("base")
    writer.close()
    return repository


def subsamples(writer):
    return {key: {sub: value.tolist() for sub, value in sample.data.items()} for key, sample in writer["scans"].items()}


def test_subsamples_and_an_altered_column(scans):
    writer = scans.checkout(write=True)
    before = subsamples(writer)
    writer["scans"]["p1"] = {1: BIG[6:9], "new": BIG[:3]}
    del writer["scans"]["p1"][0]
    writer["scans"]["p2"] = {0: BIG[:3]}
    writer.columns.alter("numbers", dtype=np.int64)
    changed = subsamples(writer)
    assert writer.stash("one").columns == ("numbers", "scans")
    assert subsamples(writer) == before
    assert writer["numbers"].dtype == np.int32
    writer["scans"]["p1"] = {2: BIG[:3]}
    writer.commit("another subsample of the same sample")
    writer.close()
    writer = scans.checkout(write=True)
    writer.stash.pop()
    changed["p1"][2] = [0.0, 1.0, 2.0]
    assert subsamples(writer) == changed
    assert writer["numbers"].dtype == np.int64
    assert writer["numbers", 4] == 4
    writer.commit("popped")
    writer.close()
    assert scans.checkout()["scans"].num_subsamples == 4


def test_a_subsample_in_conflict_is_named(scans):
    writer = scans.checkout(write=True)
    writer["scans"]["p1"] = {1: BIG[6:9]}
    writer.stash("one")
    writer["scans"]["p1"] = {1: BIG[:3]}
    writer.commit("in the way")
    with pytest.raises(StashConflictError, match=r"column 'scans' sample \('p1', 1\)"):
        writer.stash.pop("one")
    assert len(writer.stash) == 1
    writer.close()
