"""Merging branches of which one or both renamed a column."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.renames import follow_renames
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.diff import ColumnSchemaKey
from hangar_cloud.errors import MergeConflictError
from tests.repository.making import add_commit, files_of, read_all, same_columns

SIDES = pytest.mark.parametrize("renaming", ["master", "dev"])


def other(branch):
    return "dev" if branch == "master" else "master"


def row(number):
    return np.full(3, number, np.float32)


@pytest.fixture
def branches(committed):
    """Branches master and dev of ten samples in columns "array", "blob" and "text"."""
    committed.create_branch("dev")
    return committed


def commit(repository, branch, edit):
    writer = repository.checkout(write=True, branch=branch)
    edit(writer)
    writer.commit("edit")
    writer.close()


def rename(repository, branch, old, new):
    commit(repository, branch, lambda writer: writer.columns.rename(old, new))


def merged(repository, **strategy):
    """All of master after dev was merged into it without a conflict, as the diff foretold."""
    if not strategy:
        assert not repository.diff("master", "dev").conflict.conflict
    repository.merge("merged", "master", "dev", **strategy)
    return read_all(repository, branch="master")


def refused(repository):
    with pytest.raises(MergeConflictError) as caught:
        repository.merge("merged", "master", "dev")
    assert repository.diff("master", "dev").conflict == caught.value.conflicts
    return caught.value.conflicts


def packs(repository):
    return {name for name in files_of(repository.path) if name.endswith((".pack", ".parquet"))}


@SIDES
def test_the_other_side_left_the_column_alone(branches, renaming):
    wanted = read_all(branches)
    rename(branches, renaming, "text", "words")
    add_commit(branches, {20: row(20)}, branch=other(renaming))
    wanted["words"] = wanted.pop("text")
    wanted["array"][20] = row(20)
    assert same_columns(merged(branches), wanted)


@SIDES
def test_what_the_other_side_changed_is_under_the_new_name(branches, renaming):
    wanted = read_all(branches)

    def edit(writer):
        writer["array"].update({20: row(20), 1: row(11)})
        del writer["array"][2]

    rename(branches, renaming, "array", "matrix")
    commit(branches, other(renaming), edit)
    before = packs(branches)
    found = merged(branches)
    assert packs(branches) == before, "nothing was moved"
    matrix = wanted.pop("array")
    matrix |= {20: row(20), 1: row(11)}
    del matrix[2]
    wanted["matrix"] = matrix
    assert same_columns(found, dict(sorted(wanted.items())))


@SIDES
def test_the_other_side_altered_the_column(branches, renaming):
    wanted = read_all(branches)["array"]
    rename(branches, renaming, "array", "matrix")
    commit(branches, other(renaming), lambda writer: writer.columns.alter("array", dtype=np.float64))
    found = merged(branches)
    assert list(found) == ["blob", "matrix", "text"]
    assert same_columns({"x": found["matrix"]}, {"x": {key: value.astype(np.float64) for key, value in wanted.items()}})


@SIDES
def test_both_sides_rename_alike_and_one_goes_on(branches, renaming):
    rename(branches, renaming, "array", "matrix")

    def edit(writer):
        matrix = writer.columns.rename("array", "matrix")
        matrix[1] = row(11)
        del matrix[2]

    commit(branches, other(renaming), edit)
    found = merged(branches)
    assert list(found) == ["blob", "matrix", "text"]
    assert sorted(found["matrix"]) == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert found["matrix"][1][0] == 11


def test_renamed_in_two_ways_both_names_stay(branches):
    wanted = read_all(branches)
    rename(branches, "master", "array", "left")
    rename(branches, "dev", "array", "right")
    wanted["left"] = wanted["right"] = wanted.pop("array")
    assert same_columns(merged(branches), dict(sorted(wanted.items())))


@SIDES
def test_a_column_that_the_other_side_removed_stays_under_its_new_name(branches, renaming):
    wanted = read_all(branches)
    rename(branches, renaming, "array", "matrix")
    commit(branches, other(renaming), lambda writer: writer.columns.delete("array"))
    wanted["matrix"] = wanted.pop("array")
    assert same_columns(merged(branches), dict(sorted(wanted.items())))


@SIDES
def test_renamed_and_changed_here_and_changed_there_is_a_conflict(branches, renaming):
    def edit(writer):
        writer.columns.rename("array", "matrix")[30] = row(30)

    commit(branches, renaming, edit)
    add_commit(branches, {20: row(20)}, branch=other(renaming))
    conflicts = refused(branches)
    kind = conflicts.t21 if renaming == "master" else conflicts.t22
    assert list(kind.schema) == [ColumnSchemaKey("array", "flat")]
    found = merged(branches, strategy="ours" if renaming == "master" else "theirs")
    assert list(found) == ["blob", "matrix", "text"]
    assert 30 in found["matrix"]


@SIDES
def test_the_other_side_has_something_else_of_that_name(branches, renaming):
    rename(branches, renaming, "array", "matrix")

    def edit(writer):
        writer.add_str_column("matrix")[0] = "else"
        writer["array", 20] = row(20)

    commit(branches, other(renaming), edit)
    conflicts = refused(branches)
    assert list(conflicts.t1.schema) == [ColumnSchemaKey("matrix", "flat")]
    kind = conflicts.t21 if renaming == "master" else conflicts.t22
    assert list(kind.schema) == [ColumnSchemaKey("array", "flat")]


def test_a_rename_there_and_back_is_no_change(branches):
    for old, new in [("array", "matrix"), ("matrix", "array")]:
        rename(branches, "master", old, new)
    add_commit(branches, {20: row(20)}, branch="dev")
    found = merged(branches)
    assert list(found) == ["array", "blob", "text"]
    assert 20 in found["array"]


def test_a_rename_is_followed_over_many_commits_and_names(branches):
    rename(branches, "master", "array", "first")
    add_commit(branches, {0: row(0)}, branch="master", column="else")
    rename(branches, "master", "first", "second")
    add_commit(branches, {20: row(20)}, branch="dev")
    add_commit(branches, {21: row(21)}, branch="dev")
    found = merged(branches)
    assert list(found) == ["blob", "else", "second", "text"]
    assert {20, 21} <= set(found["second"])


def test_names_that_changed_places_are_changes_to_both_columns(branches):
    def edit(writer):
        for old, new in [("text", "spare"), ("blob", "text"), ("spare", "blob")]:
            writer.columns.rename(old, new)

    commit(branches, "master", edit)
    commit(branches, "dev", lambda writer: writer["text"].update({20: "twenty"}))
    assert list(refused(branches).t3.schema) == [ColumnSchemaKey("text", "flat")]


def test_what_a_criss_cross_history_merged_before_it_was_renamed_is_not_followed(branches):
    """Each of the two bases has the column with other values, and neither those that were renamed."""
    commit(branches, "master", lambda writer: writer["array"].update({1: row(11)}))
    commit(branches, "dev", lambda writer: writer["array"].update({2: row(22)}))
    heads = {name: branches.log(branch=name, return_contents=True)["head"] for name in ("master", "dev")}
    branches.create_branch("one", heads["master"])
    branches.create_branch("two", heads["dev"])
    branches.merge("m", "master", "two")
    branches.merge("d", "dev", "one")
    rename(branches, "master", "array", "matrix")
    add_commit(branches, {20: row(20)}, branch="dev")
    conflicts = refused(branches)
    assert list(conflicts.t21.schema) == [ColumnSchemaKey("array", "flat")], "neither base has what was renamed"
    found = merged(branches, strategy="theirs")
    assert 20 in found["array"]
    assert "matrix" in found


def entry(digest):
    from hangar_cloud.catalog.records import NodeRef, SegmentPlace

    root = None if digest is None else NodeRef(0, b"", 1, digest, SegmentPlace(b"", 0, 0, 0))
    return ColumnEntry(ColumnSchema("str"), root)


@pytest.mark.parametrize(
    ("base", "ours"),
    [
        ({"a": None}, {"b": None}),
        ({"a": b"1"}, {"b": b"1", "c": b"1"}),
        ({"a": b"1", "d": b"1"}, {"b": b"1"}),
        ({"a": b"1"}, {"b": b"2"}),
        ({"a": b"1"}, {"a": b"1", "b": b"1"}),
        ({"": b"1"}, {"b": b"1"}),
    ],
    ids=["empty", "two new", "two gone", "changed", "copied", "metadata"],
)
def test_what_is_not_taken_for_a_rename(base, ours):
    bases = [{name: entry(digest) for name, digest in base.items()}]
    here = {name: entry(digest) for name, digest in ours.items()}
    assert follow_renames(bases, here, bases[0]) == (bases, here, bases[0])
    assert follow_renames(bases, bases[0], here) == (bases, bases[0], here)
