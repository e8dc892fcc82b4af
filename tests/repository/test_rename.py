"""Renaming a column: no data is moved, staged changes follow, and history shows one column gone and one come."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import CommitConflictError
from tests.repository.making import add_commit, files_of, make_repository, read_all, same, same_columns


def new_objects(repository, before):
    return sorted(set(files_of(Path(repository.path) / ".hangar" / "store")) - set(before))


def objects(repository):
    return files_of(Path(repository.path) / ".hangar" / "store")


def test_a_rename_writes_a_commit_and_a_pointer_and_nothing_else(committed):
    old = read_all(committed)
    before, commit = objects(committed), committed.log(return_contents=True)["head"]
    root = committed._storage.commit(commit).columns["array"].root
    writer = committed.checkout(write=True)
    column = writer.columns.rename("array", "matrix")
    assert column.column == "matrix"
    assert list(writer) == ["blob", "matrix", "text"]
    assert same(writer["matrix", 3], old["array"][3])
    digest = writer.commit("renamed")
    assert sorted(name.split("/")[0] for name in new_objects(committed, before)) == ["commits", "refs"]
    assert committed._storage.commit(digest).columns["matrix"].root == root
    writer.close()
    old["matrix"] = old.pop("array")
    assert same_columns(read_all(committed), dict(sorted(old.items())))
    assert "array" in committed.checkout(commit=commit).columns


def test_staged_changes_follow_and_survive_a_kill(committed, tmp_path):
    wanted = read_all(committed)
    writer = committed.checkout(write=True)
    writer["array", 0] = wanted["array"][0] = np.full(3, 50, np.float32)
    del writer["array"][9], wanted["array"][9]
    writer.columns.rename("array", "first")
    writer["first", 100] = wanted["array"][100] = np.full(3, 100, np.float32)
    writer.columns.rename("first", "second")
    writer["second", 1] = wanted["array"][1] = np.full(3, 51, np.float32)
    writer.add_ndarray_column("array", shape=(1,), dtype=np.int8)[0] = np.ones(1, np.int8)
    wanted = {
        "array": {0: np.ones(1, np.int8)},
        "blob": wanted["blob"],
        "second": wanted["array"],
        "text": wanted["text"],
    }
    target = tmp_path / "killed"
    shutil.copytree(committed.path, target)
    killed = Repository(target)
    for repository, checkout in ((committed, writer), (killed, killed.checkout(write=True))):
        assert same_columns({name: dict(column.items()) for name, column in checkout.items()}, wanted)
        assert len(checkout["second"]) == len(wanted["second"])
        checkout.commit("renamed")
        assert same_columns({name: dict(column.items()) for name, column in checkout.items()}, wanted)
        checkout.close()
        assert same_columns(read_all(repository), wanted)


def test_columns_change_places(committed, tmp_path):
    wanted = read_all(committed)
    writer = committed.checkout(write=True)
    for old, new in [("text", "x"), ("blob", "text"), ("x", "blob")]:
        writer.columns.rename(old, new)
    wanted["text"], wanted["blob"] = wanted["blob"], wanted["text"]
    writer.close()
    writer = committed.checkout(write=True)
    assert same_columns({name: dict(column.items()) for name, column in writer.items()}, wanted)
    before = objects(committed)
    writer.commit("swapped")
    assert len(new_objects(committed, before)) == 2
    writer.close()
    assert same_columns(read_all(committed), wanted)


def test_there_and_back_is_nothing_to_commit(committed):
    writer = committed.checkout(write=True)
    writer.columns.rename("text", "words")
    writer.columns.rename("words", "text")
    with pytest.raises(RuntimeError, match="nothing to commit"):
        writer.commit("nothing")
    assert writer["text", 3] == "text 3"
    writer.close()


def test_old_handles_say_the_new_name(committed):
    writer = committed.checkout(write=True)
    column = writer["text"]
    walk = iter(column.items())
    next(walk)
    with writer.columns.rename("text", "words") as words:
        words[3] = "new"
    writer.columns.rename("words", "lines")
    for use in (lambda: column[0], lambda: len(column), lambda: repr(column), lambda: column.update({1: "x"})):
        with pytest.raises(PermissionError, match="renamed to 'lines'"):
            use()
    assert writer["lines", 3] == "new"
    writer.reset_staging_area()


def test_what_is_refused(committed):
    writer = committed.checkout(write=True)
    columns = writer.columns
    with pytest.raises(KeyError):
        columns.rename("none", "x")
    with pytest.raises(LookupError, match="already"):
        columns.rename("text", "blob")
    with pytest.raises(LookupError, match="already"):
        columns.rename("text", "text")
    for name in ("", "a b", "x" * 65, 5, None):
        with pytest.raises(ValueError):
            columns.rename("text", name)
    with pytest.raises(KeyError):
        columns.rename("", "metadata")
    with writer["array"], pytest.raises(PermissionError):
        columns.rename("text", "x")
    with pytest.raises(PermissionError):
        committed.checkout().columns.rename("text", "x")
    assert writer.diff.status() == "CLEAN"
    writer.close()
    with pytest.raises(PermissionError):
        columns.rename("text", "x")


def test_a_new_column_is_renamed_before_it_is_committed(empty):
    writer = empty.checkout(write=True)
    writer.add_str_column("a")[0] = "zero"
    writer.columns.rename("a", "b")
    writer.close()
    writer = empty.checkout(write=True)
    assert dict(writer["b"].items()) == {0: "zero"}
    writer.commit("b")
    writer.close()
    assert read_all(empty) == {"b": {0: "zero"}}


def test_a_diff_shows_one_column_gone_and_one_come(committed):
    old = committed.log(return_contents=True)["head"]
    writer = committed.checkout(write=True)
    writer.columns.rename("text", "words")
    staged = writer.diff.staged().diff
    new = writer.commit("renamed")
    writer.close()
    between = committed.diff(old, new).diff
    for diff in (staged, between):
        assert [key.column for key in diff.deleted.schema] == ["text"]
        assert [key.column for key in diff.added.schema] == ["words"]
        assert {key.column for key in diff.deleted.samples} == {"text"}
        assert len(diff.added.samples) == len(diff.deleted.samples) == 10
        assert diff.mutated == ({}, (), ())


def racers(tmp_path):
    place = f"memory://rename-{uuid4().hex}"
    repository = make_repository(place, cache_dir=tmp_path / "one")
    add_commit(repository, {key: np.full(3, key, np.float32) for key in range(10)})
    return repository, Repository(place, cache_dir=tmp_path / "two")


def test_a_lost_race_puts_a_rename_on_top_if_the_column_is_as_it_was(tmp_path):
    one, two = racers(tmp_path)
    mine, other = one.checkout(write=True), two.checkout(write=True)
    mine.columns.rename("array", "matrix")
    mine["matrix", 3] = np.zeros(3, np.float32)
    other.add_str_column("text")[0] = "first"
    other.commit("first")
    other.close()
    mine.commit("renamed")
    mine.close()
    found = read_all(one)
    assert list(found) == ["matrix", "text"]
    assert len(found["matrix"]) == 10
    assert not found["matrix"][3].any()


@pytest.mark.parametrize("theirs", ["changed", "removed", "renamed", "took the name"])
def test_a_lost_race_is_a_conflict_if_it_is_not(tmp_path, theirs):
    one, two = racers(tmp_path)
    mine, other = one.checkout(write=True), two.checkout(write=True)
    mine.columns.rename("array", "matrix")
    if theirs == "changed":
        other["array", 1] = np.zeros(3, np.float32)
    elif theirs == "removed":
        del other.columns["array"]
    elif theirs == "renamed":
        other.columns.rename("array", "other")
    else:
        other.add_ndarray_column("matrix", prototype=np.zeros(3, np.float32))
    if theirs == "removed":
        other.add_str_column("text")
    other.commit("first")
    other.close()
    with pytest.raises(CommitConflictError, match="matrix" if theirs == "took the name" else "array"):
        mine.commit("renamed")
    assert len(mine["matrix"]) == 10
    mine.close()


def test_renamed_and_altered(committed, tmp_path):
    wanted = read_all(committed)
    writer = committed.checkout(write=True)
    writer.columns.rename("array", "matrix")
    writer.columns.alter("matrix", dtype=np.float64)
    writer.columns.rename("matrix", "wide")
    writer.close()
    writer = committed.checkout(write=True)
    assert same_columns(
        {"wide": dict(writer["wide"].items())}, {"wide": {k: v.astype("<f8") for k, v in wanted["array"].items()}}
    )
    writer.commit("both")
    writer.close()
    assert sorted(read_all(committed)) == ["blob", "text", "wide"]


def test_staged_samples_of_a_nested_column_follow(empty):
    writer = empty.checkout(write=True)
    column = writer.add_bytes_column("old", contains_subsamples=True)
    column.update({0: {0: b"00", 1: b"01"}, "x": {2: b"x2"}})
    writer.columns.rename("old", "new")
    assert {sample: accessor.data for sample, accessor in writer["new"].items()} == {
        0: {0: b"00", 1: b"01"},
        "x": {2: b"x2"},
    }
    assert (len(writer["new"]), writer["new"].num_subsamples) == (2, 3)
    del writer["new"]["x", 2]
    assert "x" not in writer["new"]
    writer.commit("renamed")
    assert list(writer["new"]) == [0]
    writer.close()
