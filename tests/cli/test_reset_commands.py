"""`hangar reset` and `hangar restore`: giving up what is staged, all of it or in part."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import cli
from tests.cli.running import invoke


def contents(repo: Repository) -> dict[str, dict]:
    """What the next commit would hold, read by a new writer."""
    with closing(repo.checkout(write=True)) as writer:
        found = {}
        for name, column in writer.columns.items():
            if column.column_layout == "nested":
                found[name] = {key: dict(sample.items()) for key, sample in column.items()}
            else:
                found[name] = {
                    key: value.tolist() if hasattr(value, "tolist") else value for key, value in column.items()
                }
        return found


def is_clean(repo: Repository) -> bool:
    with closing(repo.checkout(write=True)) as writer:
        return writer.diff.status() == "CLEAN"


@pytest.fixture
def mixed(repo: Repository) -> Repository:
    """Key 0 beside "0", a nested column, an empty column and metadata, all committed."""
    with closing(repo.checkout(write=True)) as writer:
        labels = writer.add_str_column("labels")
        labels.update({0: "number", "0": "text", 1: "one", "a/b.png": "path"})
        parts = writer.add_ndarray_column("parts", shape=(), dtype=np.int64, contains_subsamples=True)
        parts["p"] = {0: np.array(1), "0": np.array(2)}
        parts["q"] = {0: np.array(3)}
        writer.add_str_column("empty")
        writer.metadata["licence"] = "CC0"
        writer.commit("mixed")
    return repo


def test_reset_gives_up_everything(mixed):
    before = contents(mixed)
    invoke(cli.remove_column, "labels", obj=mixed)
    assert "give --yes" in invoke(cli.reset, obj=mixed, code=1).stderr
    assert contents(mixed) != before
    said = invoke(cli.reset, "--yes", obj=mixed).stdout
    assert said.startswith("Nothing is staged any more. Branch master is at ")
    assert contents(mixed) == before
    assert "nothing to reset" in invoke(cli.reset, "--yes", obj=mixed, code=1).stderr


def test_samples_are_restored_and_others_stay_staged(mixed):
    with closing(mixed.checkout(write=True)) as writer:
        writer["labels"].update({0: "changed", "0": "changed", "new": "new", 7: "seven"})
        del writer["labels"]["a/b.png"]
    assert "2 samples" in invoke(cli.restore, "labels", "int:0", "new", obj=mixed).stdout
    assert contents(mixed)["labels"] == {0: "number", "0": "changed", 1: "one", 7: "seven"}
    invoke(cli.restore, "labels", "'0'", "a/b.png", obj=mixed)
    said = invoke(cli.restore, "labels", "7", obj=mixed).stdout
    assert said == "1 sample of column labels restored; nothing is staged any more.\n"
    assert is_clean(mixed)


def test_subsamples_are_restored(mixed):
    with closing(mixed.checkout(write=True)) as writer:
        writer["parts"]["p"].update({0: np.array(10), "0": np.array(20), "x": np.array(30)})
        del writer["parts"]["q"]
    invoke(cli.restore, "parts", "p:'0'", obj=mixed)
    assert contents(mixed)["parts"] == {"p": {0: 10, "0": 2, "x": 30}}
    invoke(cli.restore, "parts", "p", "q", obj=mixed)
    assert is_clean(mixed)


@pytest.mark.parametrize("change", ["rows", "removed", "replaced", "renamed", "altered", "backend", "emptied", "added"])
def test_a_column_is_restored_whatever_happened_to_it(mixed, change):
    before = contents(mixed)
    with closing(mixed.checkout(write=True)) as writer:
        if change == "rows":
            writer["parts"]["p", 0] = np.array(9)
            writer["parts"]["z", 0] = np.array(9)
        elif change == "removed":
            writer.columns.delete("parts")
        elif change == "replaced":
            writer.columns.delete("parts")
            writer.add_str_column("parts")["x"] = "text"
        elif change == "renamed":
            writer.columns.rename("parts", "other")
        elif change == "altered":
            writer.columns.alter("parts", dtype=np.int32)
        elif change == "backend":
            writer["parts"].change_backend("p0", {"codec": "zstd"})
        elif change == "emptied":
            for key in list(writer["parts"]):
                del writer["parts"][key]
        else:
            writer.add_str_column("more")["x"] = "y"
    invoke(cli.restore, "more" if change == "added" else "parts", obj=mixed)
    if change == "renamed":
        assert set(contents(mixed)) == {*before, "other"}
        invoke(cli.restore, "other", obj=mixed)
    assert contents(mixed) == before
    assert is_clean(mixed)


def test_an_empty_column_and_the_metadata(mixed):
    with closing(mixed.checkout(write=True)) as writer:
        writer.columns.delete("empty")
        writer.metadata.update({"licence": "MIT", "homepage": "x"})
    invoke(cli.restore, "metadata", "homepage", obj=mixed)
    with closing(mixed.checkout(write=True)) as writer:
        assert dict(writer.metadata) == {"licence": "MIT"}
    invoke(cli.restore, "metadata", obj=mixed)
    invoke(cli.restore, "empty", obj=mixed)
    assert is_clean(mixed)


def test_from_an_older_commit(mixed):
    before = contents(mixed)["labels"]
    mixed.create_tag("old")
    with closing(mixed.checkout(write=True)) as writer:
        writer["labels"].update({0: "new", 5: "five"})
        writer.columns.delete("parts")
        writer.commit("newer")
    invoke(cli.restore, "--from", "old", "labels", "int:0", "5", obj=mixed)
    invoke(cli.restore, "--from", "master@{1}", "parts", obj=mixed)
    invoke(cli.commit, "-m", "as it was", obj=mixed)
    reader = mixed.checkout()
    with closing(reader):
        assert dict(reader["labels"].items()) == before
        assert reader["parts", "p", "0"] == 2
    assert mixed.verify_repo_integrity()


def test_before_the_first_commit(repo):
    invoke(cli.create_column, "labels", "STR", obj=repo)
    invoke(cli.restore, "labels", obj=repo)
    assert contents(repo) == {}


MISTAKES = [
    (["labls"], "there is no column 'labls', neither staged nor at commit"),
    (["labls"], "Did you mean 'labels'?"),
    (["labels", "99"], "column 'labels' has no sample 99, neither staged nor at commit"),
    (["labels", "no good"], "not suitable"),
    (["labels", "0", "--from", "nope"], "there is no branch 'nope'"),
    (["parts", "p:9"], "has no sample ('p', 9)"),
]


def test_mistakes_change_nothing(mixed):
    with closing(mixed.checkout(write=True)) as writer:
        writer["labels", 0] = "staged"
    for arguments, said in MISTAKES:
        assert said in invoke(cli.restore, *arguments, obj=mixed, code=1).stderr, arguments
    assert contents(mixed)["labels"][0] == "staged"
    assert not mixed.writer_lock_held


def test_samples_of_a_column_with_another_schema(mixed):
    with closing(mixed.checkout(write=True)) as writer:
        writer.columns.delete("labels")
        writer.add_bytes_column("labels")[0] = b"bytes"
    assert "restore the column as a whole" in invoke(cli.restore, "labels", "0", obj=mixed, code=1).stderr
    invoke(cli.restore, "labels", obj=mixed)
    assert is_clean(mixed)
