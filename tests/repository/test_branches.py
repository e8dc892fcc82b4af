"""Branches: making and removing them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import (
    HangarError,
    NotInitializedError,
    ProtectedBranchError,
    RefExistsError,
    UnmergedBranchError,
)
from hangar_cloud.graph import draw_graph
from tests.repository.making import add_commit, files_of, read_all

SAMPLE = np.zeros(3, np.float32)


def test_a_branch_is_made_at_the_writers_head(committed):
    head = committed.checkout().commit_hash
    made = committed.create_branch("test-branch_1.0")
    assert (made.name, made.digest) == ("test-branch_1.0", head)
    assert committed.list_branches() == ["master", "test-branch_1.0"]
    assert Repository(committed.path).list_branches() == ["master", "test-branch_1.0"]


def test_a_branch_is_made_at_a_commit(committed):
    first = committed.checkout().commit_hash
    add_commit(committed, {100: SAMPLE})
    assert committed.create_branch("old", base_commit=first[:10]).digest == first
    assert committed.checkout(branch="old").commit_hash == first


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "é", "x" * 65, ".", "..", "a\n", None, 5, b"a", "origin/x"], ids=repr
)
def test_names_that_may_not_be_a_branch(committed, name):
    before = files_of(committed.path)
    with pytest.raises(ValueError, match=r"branch name .* is not suitable: use 1 to 64 ASCII letters") as caught:
        committed.create_branch(name)
    assert isinstance(caught.value, HangarError)
    assert files_of(committed.path) == before


def test_a_name_of_64_characters_may_be_a_branch(committed):
    committed.create_branch("x" * 64)
    assert "x" * 64 in committed.list_branches()


def test_refused_branches(committed, empty):
    committed.create_branch("taken")
    with pytest.raises(ValueError, match="a branch 'taken' already") as caught:
        committed.create_branch("taken")
    assert type(caught.value) is RefExistsError
    with pytest.raises(ValueError, match="no commit 'abcdef'"):
        committed.create_branch("new", base_commit="abcdef")
    assert committed.list_branches() == ["master", "taken"]


def test_no_branch_before_the_first_commit(empty):
    with pytest.raises(RuntimeError, match=r"needs a commit.*commit once on 'master' first") as caught:
        empty.create_branch("early")
    assert type(caught.value) is NotInitializedError
    assert empty.list_branches() == ["master"]


def test_branches_go_their_own_ways(committed):
    committed.create_branch("dev")
    add_commit(committed, {0: np.full(3, 50, np.float32)}, branch="dev")
    add_commit(committed, {1: np.full(3, 60, np.float32)}, branch="master")
    dev, master = read_all(committed, branch="dev")["array"], read_all(committed, branch="master")["array"]
    assert (dev[0][0], dev[1][0]) == (50, 1)
    assert (master[0][0], master[1][0]) == (0, 60)


def test_a_merged_branch_is_removed(committed):
    made = committed.create_branch("gone")
    assert committed.remove_branch("gone") == made
    assert committed.list_branches() == ["master"]
    with pytest.raises(ValueError, match="no branch 'gone'"):
        committed.checkout(branch="gone")
    again = committed.create_branch("gone")
    assert again == made
    assert committed.checkout(branch="gone").commit_hash == made.digest


def test_an_unmerged_branch_is_removed_by_force_only_and_can_be_had_back(committed):
    committed.create_branch("dev")
    digest = add_commit(committed, {0: np.full(3, 50, np.float32)}, branch="dev")
    committed.checkout(write=True, branch="master").close()
    with pytest.raises(RuntimeError, match=r"'dev' is not fully merged.*force_delete=True") as caught:
        committed.remove_branch("dev")
    assert type(caught.value) is UnmergedBranchError
    assert committed.remove_branch("dev", force_delete=True).digest == digest
    committed.create_branch("rescued", base_commit=digest)
    assert read_all(committed, branch="rescued")["array"][0][0] == 50


@pytest.mark.parametrize("name", ["nope", "origin/master", 5, ""], ids=repr)
def test_branches_that_cannot_be_removed(committed, name):
    with pytest.raises(ValueError, match="branch"):
        committed.remove_branch(name)


def test_protected_branches(committed):
    with pytest.raises(PermissionError, match="'master' is the only one") as caught:
        committed.remove_branch("master")
    assert type(caught.value) is ProtectedBranchError
    committed.create_branch("other")
    with pytest.raises(PermissionError, match="last one opened for writing"):
        committed.remove_branch("master")
    writer = committed.checkout(write=True)
    with pytest.raises(PermissionError, match=r"while a writer checkout is open; close it"):
        committed.remove_branch("other")
    writer.close()
    assert committed.list_branches() == ["master", "other"]


def test_the_graph_of_merged_histories():
    order = ["m", "b2", "a2", "b1", "a1", "root"]
    parents = {"m": ["a2", "b2"], "b2": ["b1"], "a2": ["a1"], "b1": ["root"], "a1": ["root"], "root": []}
    lines = list(draw_graph(order, parents, {name: name for name in order}))
    stars = [line for line in lines if "*" in line]
    assert [line.split()[-1] for line in stars] == order
    assert all(line.count("*") == 1 for line in stars)
    assert lines[-1] == "* root"
