"""`hangar merge`: conflicts are named, and settled by strategy or one by one."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from hangar_cloud.cli import cli
from tests.cli.running import invoke


@pytest.fixture
def diverged(filled):
    """Both branches changed labels 1, 2 and "x", one subsample and a metadata key; master is written to."""
    with closing(filled.checkout(write=True)) as writer:
        writer["labels", "x"] = "x"
        parts = writer.add_ndarray_column("parts", shape=(), dtype=np.int64, contains_subsamples=True)
        parts["p"] = {7: np.array(0)}
        writer.commit("base")
    filled.create_branch("dev")
    for branch, number in (("dev", 1), ("master", 2)):
        with closing(filled.checkout(write=True, branch=branch)) as writer:
            writer["labels"].update({1: branch, 2: branch, "x": branch})
            writer["parts", "p", 7] = np.array(number)
            writer.metadata["licence"] = branch
            writer.commit(f"on {branch}")
    return filled


def merged(repo) -> list:
    with closing(repo.checkout()) as reader:
        values = [reader["labels", key] for key in (1, 2, "x")]
        return [*values, int(reader["parts", "p", 7]), reader.metadata["licence"]]


def test_conflicts_are_named_and_nothing_changes(diverged):
    head = diverged.log(return_contents=True)["head"]
    said = invoke(cli.merge, "dev", obj=diverged, code=1).stderr
    assert said.count("\n") == 1
    assert "sample 1 of column 'labels' (changed on both sides)" in said
    assert "--strategy ours or theirs" in said
    assert diverged.log(return_contents=True)["head"] == head


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["-s", "ours"], ["master", "master", "master", 2, "master"]),
        (["-s", "theirs"], ["dev", "dev", "dev", 1, "dev"]),
        (["-s", "theirs", "--ours", "labels:2"], ["dev", "master", "dev", 1, "dev"]),
        (["-s", "ours", "--ancestor", "labels:x", "--theirs", "parts:p:7"], ["master", "master", "x", 1, "master"]),
        (["-s", "ours", "--theirs", "metadata:licence"], ["master", "master", "master", 2, "dev"]),
        (
            [
                "--ours",
                "labels:1",
                "--theirs",
                "labels:2",
                "--ours",
                "labels:x",
                "--ours",
                "parts:p:7",
                "--ours",
                "metadata:licence",
            ],
            ["master", "dev", "master", 2, "master"],
        ),
    ],
)
def test_conflicts_are_settled(diverged, arguments, values):
    said = invoke(cli.merge, "dev", "-m", "together", *arguments, obj=diverged).stdout
    contents = diverged.log(return_contents=True)
    assert said.endswith(f"Branch master is at {contents['head'][:12]}.\n")
    assert contents["specs"][contents["head"]]["commit_message"] == "together"
    assert merged(diverged) == values


def test_what_is_not_settled_stays_in_conflict(diverged):
    said = invoke(cli.merge, "dev", "--ours", "labels:1", obj=diverged, code=1).stderr
    assert "sample 1 of column" not in said
    assert "sample 2 of column" in said


def test_a_place_in_no_conflict_is_told(diverged):
    said = invoke(cli.merge, "dev", "-s", "ours", "--theirs", "labels:5", obj=diverged).stderr
    assert "in no conflict" in said
    assert "merged as ever: labels:5\n" in said


def test_into_another_branch_and_by_any_name(diverged):
    with closing(diverged.checkout()) as reader:
        digest = reader.commit_hash
    invoke(cli.merge, digest[:10], "--into", "dev", "-s", "theirs", obj=diverged)
    assert (
        diverged.log("dev", return_contents=True)["ancestors"][diverged.log("dev", return_contents=True)["head"]][1]
        == digest
    )
    assert invoke(cli.branch_list, obj=diverged).stdout == "  dev\n* master\n"
    assert "Fast-Forward" in invoke(cli.merge, "dev", obj=diverged).stdout
    assert diverged.log(return_contents=True)["head"] == diverged.log("dev", return_contents=True)["head"]


MISTAKES = [
    (["dve"], 1, "there is no branch 'dve'; there is: dev, master. Did you mean 'dev'?"),
    (["dev", "--into", "mastr"], 1, "Did you mean 'master'?"),
    (["dev", "--ours", "labels"], 2, "'labels' names no sample; write COLUMN:KEY"),
    (["dev", "--ours", "labels:a:b:c"], 2, "names no sample"),
    (["dev", "-s", "mine"], 2, "'mine' is not one of"),
]


def test_mistakes(diverged):
    for arguments, code, said in MISTAKES:
        assert said in invoke(cli.merge, *arguments, obj=diverged, code=code).stderr, arguments


def test_staged_changes_are_in_the_way(diverged):
    invoke(cli.create_column, "more", "STR", obj=diverged)
    said = invoke(cli.merge, "dev", obj=diverged, code=1).stderr
    assert "`hangar commit`, `hangar stash save` or `hangar reset` them" in said
