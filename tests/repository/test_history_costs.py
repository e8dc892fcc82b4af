"""What diffs and merges of a long column read and write: what differs, once, and what is not stored yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository

ROWS = 60_000


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A repository with a column of many rows, and a branch that changed some rows of far-off leaves on each side."""
    repository = Repository(tmp_path_factory.mktemp("long"), exists=False)
    repository.init("Name", "name@example.org")
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("numbers", shape=(), dtype=np.int64)
    with column:
        for key in range(ROWS):
            column[key] = np.array(key)
    base = writer.commit("many")
    writer.close()
    for name, keys in (("left", (3, 20_000)), ("right", (40_000, 59_000)), ("near", (5, 21_000))):
        repository.create_branch(name, base)
        writer = repository.checkout(write=True, branch=name)
        for key in keys:
            writer["numbers", key] = np.array(-key)
        writer.commit(name)
        writer.close()
    return repository


def leaves_of(repository: Repository, branch: str) -> set[bytes]:
    storage = repository._storage
    head = storage.head(branch)
    assert head is not None
    assert head.commit is not None
    return {ref.digest for ref in storage.nodes.leaves(storage.commit(head.commit).trees["numbers"].root)}


def records(repository: Repository) -> dict[str, int]:
    folder = Path(repository.path, ".hangar", "store", "records")
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_diff_decodes_each_leaf_that_differs_once(long):
    differing = leaves_of(long, "left") ^ leaves_of(long, "right")
    assert len(differing) >= 6
    fresh = Repository(long.path)
    found = fresh.diff("left", "right")
    assert sorted(key.sample for key in found.diff.mutated.samples) == [3, 20_000, 40_000, 59_000]
    assert not found.conflict.conflict
    assert fresh._storage.nodes.loaded == len(differing)


def test_a_merge_stores_no_leaf_that_a_side_has(long):
    long.create_branch("both", long.checkout(branch="left").commit_hash)
    before = records(long)
    long.merge("both", "both", "right")
    written = {name: size for name, size in records(long).items() if name not in before}
    assert len(written) == 1, "inner nodes alone"
    assert sum(written.values()) < 20_000
    column = Repository(long.path).checkout(branch="both")["numbers"]
    assert [int(column[key]) for key in (3, 4, 20_000, 40_000, 59_000)] == [-3, 4, -20_000, -40_000, -59_000]
    assert leaves_of(long, "both") <= leaves_of(long, "left") | leaves_of(long, "right")


def test_a_merge_stores_the_leaves_that_both_sides_changed(long):
    long.create_branch("mixed", long.checkout(branch="left").commit_hash)
    long.merge("both", "mixed", "near")
    new = leaves_of(long, "mixed") - leaves_of(long, "left") - leaves_of(long, "near")
    assert 1 <= len(new) <= 2
    column = Repository(long.path).checkout(branch="mixed")["numbers"]
    assert [int(column[key]) for key in (3, 4, 5, 20_000, 21_000)] == [-3, 4, -5, -20_000, -21_000]
    assert long.verify_repo_integrity()


def test_merges_of_both_directions_have_one_tree(long):
    long.create_branch("one-way", long.checkout(branch="left").commit_hash)
    long.create_branch("other-way", long.checkout(branch="near").commit_hash)
    long.merge("left, then near", "one-way", "near")
    long.merge("near, then left", "other-way", "left")
    assert leaves_of(long, "one-way") == leaves_of(long, "other-way")
    found = long.diff("one-way", "other-way")
    assert (found.diff.mutated.samples, found.conflict.conflict) == ((), False)
