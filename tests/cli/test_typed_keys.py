"""Keys as people type them, where there are numbers and texts of the same digits: nothing else is ever hit."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from hangar_cloud.cli import cli
from hangar_cloud.errors import PurgedError
from tests.cli.running import invoke

WHY = ("--reason", "asked for", "--yes")


@pytest.fixture
def both(repo):
    """Column labels has 3 and "3", only the text "4", only the number 5, and 7 beside "007"; parts is nested."""
    with closing(repo.checkout(write=True)) as writer:
        labels = writer.add_str_column("labels")
        labels.update({3: "number 3", "3": "text 3", "4": "text 4", 5: "number 5", 7: "number 7", "007": "text 007"})
        parts = writer.add_str_column("parts", contains_subsamples=True)
        parts[1] = {"1": "text", 1: "number", "a": "letter"}
        writer.commit("base")
    return repo


def label(repo, key) -> str:
    repo._storage.forget()
    with closing(repo.checkout()) as reader:
        return reader["labels", key]


def test_a_purge_asks_which_of_two_is_meant_and_erases_none(both):
    said = invoke(cli.purge, "labels", "3", *WHY, obj=both, code=1).stderr
    assert said.count("\n") == 1
    assert "type int:3 or str:3" in said
    assert (label(both, 3), label(both, "3")) == ("number 3", "text 3")


@pytest.mark.parametrize(
    ("typed", "gone", "left"),
    [("str:3", "3", 3), ("int:3", 3, "3"), ('"3"', "3", 3), ("4", "4", 3), ("5", 5, 3), ("007", "007", 7)],
)
def test_a_purge_erases_what_was_typed_and_nothing_else(both, typed, gone, left):
    invoke(cli.purge, "labels", typed, *WHY, obj=both)
    with pytest.raises(PurgedError):
        label(both, gone)
    assert label(both, left).endswith(str(left))


def test_a_purge_of_a_subsample_asks_too(both):
    said = invoke(cli.purge, "parts", "1", "1", *WHY, obj=both, code=1).stderr
    assert "type int:1:int:1 or int:1:str:1" in said
    assert "type int:1 or" not in said
    invoke(cli.purge, "parts", "1", "str:1", *WHY, obj=both)
    with closing(both.checkout()) as reader:
        assert reader["parts", 1, 1] == "number"
        with pytest.raises(PurgedError):
            reader["parts", 1, "1"]


def test_a_restore_takes_back_what_was_typed(both):
    with closing(both.checkout(write=True)) as writer:
        writer["labels"].update({3: "x", "3": "x", "4": "x"})
    assert "type int:3 or str:3" in invoke(cli.restore, "labels", "3", obj=both, code=1).stderr
    invoke(cli.restore, "labels", "int:3", "4", obj=both)
    with closing(both.checkout(write=True)) as writer:
        assert [writer["labels", key] for key in (3, "3", "4")] == ["number 3", "x", "text 4"]
    assert "no sample 40" in invoke(cli.restore, "labels", "40", obj=both, code=1).stderr
    assert "write KEY" in invoke(cli.restore, "labels", "a:b:c", obj=both, code=2).stderr
    invoke(cli.restore, "parts", "1:str:1", "1:a", obj=both)


def test_a_merge_settles_what_was_typed(both):
    both.create_branch("dev")
    for branch in ("dev", "master"):
        with closing(both.checkout(write=True, branch=branch)) as writer:
            writer["labels"].update({3: branch, "3": branch, "4": branch})
            writer.commit(branch)
    said = invoke(cli.merge, "dev", "-s", "theirs", "--ours", "labels:3", obj=both, code=1).stderr
    assert "type int:3 or str:3" in said
    assert label(both, 3) == "master"
    invoke(cli.merge, "dev", "-s", "theirs", "--ours", "labels:int:3", "--ours", "labels:4", obj=both)
    assert [label(both, key) for key in (3, "3", "4")] == ["master", "dev", "master"]


def test_view_and_export_take_the_text_where_both_are_there_and_else_what_is(both, tmp_path):
    for typed, text in (("3", "text 3"), ("int:3", "number 3"), ('"3"', "text 3"), ("5", "number 5"), ("4", "text 4")):
        assert invoke(cli.view_data, "labels", typed, obj=both).stdout == f"{text}\n"
        out = tmp_path / "out"
        invoke(cli.export_data, "labels", "-s", typed, "-o", str(out), "--overwrite", obj=both)
        assert Path(out, f"{text[-1]}.txt").read_text() == text
    assert invoke(cli.view_data, "parts", "1", "--subsample", "a", obj=both).stdout == "letter\n"
    assert "has no sample '6'" in invoke(cli.view_data, "labels", "6", obj=both, code=1).stderr
    assert "whole number" in invoke(cli.view_data, "labels", "int:x", obj=both, code=2).stderr
    assert "is not suitable" in invoke(cli.view_data, "labels", "9" * 5000, obj=both, code=1).stderr


def test_prefetch_brings_what_was_typed(both, bucket):
    both.remote.add("origin", bucket)
    both.remote.push("origin", "master")
    assert "type int:3 or str:3" in invoke(cli.prefetch, "-k", "labels:3", obj=both, code=1).stderr
    invoke(cli.prefetch, "-k", "labels:4", "-k", "labels:str:3", "-k", "parts:1:a", obj=both)
    assert "no sample 6" in invoke(cli.prefetch, "-k", "labels:6", obj=both, code=1).stderr
