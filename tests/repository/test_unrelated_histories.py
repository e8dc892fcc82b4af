"""Diff and merge of branches that have no commit in common."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hangar_cloud import Repository
from hangar_cloud.diff import ColumnSchemaKey, FlatColumnDataKey
from hangar_cloud.errors import MergeConflictError
from tests.repository.branching import Change, array, change, values


def unrelated(tmp_path: Path, ours: Change, theirs: Change) -> Repository:
    """A repository whose "origin/master" has no commit in common with its master: both began from one empty folder."""
    first = Repository(str(tmp_path / "first"), exists=False)
    first.init("Test", "test@example.org")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    second = Repository(str(tmp_path / "second"))
    change(first, "master", ours)
    change(second, "master", theirs)
    for repository in (second, first):
        repository.remote.add("origin", f"file://{tmp_path / 'remote'}")
    second.remote.push("origin", "master")
    first.remote.fetch("origin", "master")
    return first


def images(*pairs: tuple[Any, int], dtype: str = "<u2") -> Change:
    def edit(checkout: Any) -> None:
        column = checkout.add_ndarray_column("images", shape=(3, 20), dtype=dtype)
        for key, value in pairs:
            column[key] = array(value).astype(dtype)

    return edit


def test_unrelated_histories_merge_like_additions(tmp_path: Path) -> None:
    def theirs(checkout: Any) -> None:
        images((1, 1), (2, 2))(checkout)
        checkout.add_str_column("text")[0] = "theirs"

    repository = unrelated(tmp_path, images((0, 0), (1, 1)), theirs)
    diff, conflict = repository.diff("master", "origin/master")
    assert diff.added.samples == (FlatColumnDataKey("images", 2), FlatColumnDataKey("text", 0))
    assert diff.deleted.samples == (FlatColumnDataKey("images", 0),)
    assert not conflict.conflict
    heads = [repository.log(branch=name, return_contents=True)["head"] for name in ("master", "origin/master")]
    digest = repository.merge("both", "master", "origin/master")
    log = repository.log(branch="master", return_contents=True)
    assert log["ancestors"] == {digest: heads, heads[0]: [], heads[1]: []}
    assert values(repository) == {0: 0, 1: 1, 2: 2}
    assert repository.checkout()["text", 0] == "theirs"
    assert repository.merge("again", "master", "origin/master") == digest


def test_unrelated_histories_conflict_where_both_have_something_else(tmp_path: Path) -> None:
    repository = unrelated(tmp_path, images((0, 0), (1, 1)), images((1, 7), (2, 2)))
    with pytest.raises(MergeConflictError) as caught:
        repository.merge("both", "master", "origin/master")
    assert caught.value.conflicts == repository.diff("master", "origin/master").conflict
    assert caught.value.conflicts.t1.samples == (FlatColumnDataKey("images", 1),)
    seen = []

    def decide(column: str, key: int, ancestor: Any, ours: Any, theirs: Any) -> Any:
        seen.append((ancestor.exists, ancestor.get(), int(ours.get()[0, 0])))
        return theirs

    repository.merge("both", "master", "origin/master", strategy=decide)
    assert seen == [(False, None, 1)]
    assert values(repository) == {0: 0, 1: 7, 2: 2}


def test_unrelated_histories_conflict_where_a_column_has_two_schemas(tmp_path: Path) -> None:
    repository = unrelated(tmp_path, images((0, 0)), images((1, 1), dtype="<f4"))
    with pytest.raises(MergeConflictError) as caught:
        repository.merge("both", "master", "origin/master")
    assert list(caught.value.conflicts.t1.schema) == [ColumnSchemaKey("images", "flat")]
    repository.merge("both", "master", "origin/master", strategy="theirs")
    assert values(repository) == {1: 1}
