"""`hangar diff`: two commits, or what is staged; in words and as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import cli
from tests.cli.running import invoke, shell


def said(repo: Repository, *arguments: str) -> list[str]:
    return invoke(cli.diff, *arguments, obj=repo).stdout.splitlines()


def records(repo: Repository, *arguments: str) -> list[dict[str, object]]:
    document = json.loads("\n".join(said(repo, *arguments, "--json")))
    return [*document["differences"], *document["conflicts"]]


def at(repo: Repository, branch: str) -> str:
    return f"{branch} ({repo.log(branch=branch, return_contents=True)['head'][:12]})"


def edit(co) -> None:
    """One change of each kind."""
    co["labels", 0] = "changed"
    co["labels", "new"] = "added"
    del co["labels"][9]
    co.columns.delete("images")
    parts = co.add_ndarray_column("parts", shape=(), dtype=np.int64, contains_subsamples=True)
    parts["a"] = {number: np.array(number) for number in range(12)}
    co.metadata["licence"] = "CC0"


@pytest.fixture
def branched(filled):
    """The filled repository, and a branch dev with one change of each kind; master is written to."""
    filled.create_branch("dev")
    co = filled.checkout(write=True, branch="dev")
    edit(co)
    co.commit("changes")
    co.close()
    filled.checkout(write=True, branch="master").close()
    return filled


CHANGES = [
    "  metadata: 1 added",
    "      + 'licence'",
    "  removed column   images (uint8, 28 x 28): 10 removed",
    "      - 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    "  changed column   labels: 1 added, 1 changed, 1 removed",
    "      + 'new'",
    "      ~ 0",
    "      - 9",
    "  new column       parts (int64, single numbers, subsamples): 12 added",
    "      + " + ", ".join(f"('a', {number})" for number in range(10)) + " and 2 more",
]


def test_a_branch_with_the_one_that_is_written_to(branched):
    expected = [f"From {at(branched, 'master')} to {at(branched, 'dev')}:", *CHANGES]
    assert said(branched, "dev") == expected
    assert said(branched, "dev", "master") == expected


def test_commits_are_named_by_their_first_digits(branched):
    dev, master = (branched.log(branch=name, return_contents=True)["head"][:10] for name in ("dev", "master"))
    assert said(branched, dev, master)[1:] == CHANGES


def test_the_other_way_round(branched):
    lines = said(branched, "master", "dev")
    assert lines[0] == f"From {at(branched, 'dev')} to {at(branched, 'master')}:"
    assert "  metadata: 1 removed" in lines
    assert "  changed column   labels: 1 added, 1 changed, 1 removed" in lines
    assert "      + 9" in lines


def test_two_that_hold_the_same(branched):
    master = at(branched, "master")
    assert said(branched, "master") == [f"{master} and {master} hold the same."]
    assert records(branched, "master") == []


def test_what_is_staged_while_a_writer_is_open(filled):
    co = filled.checkout(write=True)
    edit(co)
    digest = co.commit_hash
    expected = [f"Staged on branch master, on top of commit {digest[:12]}:", *CHANGES]
    assert said(filled) == expected
    co.close()
    assert said(filled) == expected
    assert {record["branch"] for record in records(filled)} == {"master"}


def test_what_is_staged_before_the_first_commit(repo):
    co = repo.checkout(write=True)
    co.add_str_column("labels")
    co.close()
    assert said(repo) == ["Staged on branch master, on top of no commit yet:", "  new column       labels (str)"]


def test_nothing_is_staged(filled):
    assert said(filled) == ["Nothing is staged."]
    co = filled.checkout(write=True)
    co["labels", 0] = "label 0"
    assert said(filled) == ["Nothing is staged."]
    co.close()
    assert records(filled) == []


def test_a_column_that_was_altered(filled):
    co = filled.checkout(write=True)
    co.columns.alter("images", shape=(30, 30), variable_shape=True)
    co.close()
    assert "  altered column   images (uint8, at most 30 x 30)" in "\n".join(said(filled))


def test_json_says_everything(branched):
    found = records(branched, "dev")
    by_change = {
        change: [one for one in found if one["change"] == change] for change in ("added", "mutated", "deleted")
    }
    assert sum(map(len, by_change.values())) == len(found)
    assert by_change["mutated"] == [{"change": "mutated", "kind": "sample", "column": "labels", "sample": 0}]
    assert [one for one in by_change["added"] if one["kind"] != "sample"] == [
        {
            "change": "added",
            "kind": "column",
            "column": "parts",
            "layout": "nested",
            "schema": {
                "column_layout": "nested",
                "column_type": "ndarray",
                "dtype": "<i8",
                "schema_type": "fixed_shape",
                "shape": [],
            },
        },
        {"change": "added", "kind": "metadata", "key": "licence"},
    ]
    assert {"change": "added", "kind": "sample", "column": "parts", "sample": "a", "subsample": 11} in by_change[
        "added"
    ]
    assert len([one for one in by_change["deleted"] if one["column"] == "images"]) == 11


def test_conflicts(branched):
    co = branched.checkout(write=True)
    co["labels", 0] = "changed in another way"
    co["labels", 9] = "changed, and removed there"
    co.commit("against it")
    co.close()
    lines = said(branched, "dev")
    start = lines.index("A merge would meet 2 conflicts:")
    assert lines[start + 1 : start + 3] == [
        "  t22  column labels, sample 9 (changed in MASTER, removed in DEV)",
        "  t3   column labels, sample 0 (changed on both sides)",
    ]
    assert "--strategy ours or theirs" in lines[-1]
    assert [one for one in records(branched, "dev") if "conflict" in one] == [
        {"conflict": "t22", "kind": "sample", "column": "labels", "sample": 9},
        {"conflict": "t3", "kind": "sample", "column": "labels", "sample": 0},
    ]


def test_many_conflicts_are_cut_short(filled):
    filled.create_branch("dev")
    for branch in ("dev", "master"):
        co = filled.checkout(write=True, branch=branch)
        co["labels"].update(dict.fromkeys(range(20, 45), branch))
        co.commit(branch)
        co.close()
    lines = said(filled, "dev")
    assert "A merge would meet 25 conflicts:" in lines
    assert "  and 15 more; --json shows them all" in lines


def test_names_that_are_not_there(branched):
    assert "nope" in invoke(cli.diff, "nope", obj=branched, code=1).output
    assert "nope" in invoke(cli.diff, "dev", "nope", obj=branched, code=1).output


def test_in_a_pipe_it_is_plain(branched, place):
    assert shell("diff", "dev", cwd=place).stdout.splitlines()[1:] == CHANGES
    assert shell("diff", cwd=place).stdout == "Nothing is staged.\n"
