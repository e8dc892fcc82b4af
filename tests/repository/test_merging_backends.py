"""Merging branches on which the backend of a column was changed: it says where new values go, and is no conflict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import MergeConflictError
from tests.repository.branching import Change, array, change, drop, put, values

ZSTD = {"codec": "zstd", "level": 3}
LZ4 = {"codec": "lz4"}
Backend = tuple[str, dict[str, Any]]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(str(tmp_path / "repository"), exists=False)
    repository.init("Test", "test@example.org")
    checkout = repository.checkout(write=True)
    column = checkout.add_ndarray_column("images", prototype=array(0), backend="p0")
    column.update({key: array(key) for key in range(3)})
    checkout.commit("base")
    checkout.close()
    repository.create_branch("dev")
    return repository


def moved(backend: str, options: dict[str, Any] | None = None) -> Change:
    return lambda checkout: checkout["images"].change_backend(backend, options)


def both(*edits: Change) -> Change:
    def edit(checkout: Any) -> None:
        for one in edits:
            one(checkout)

    return edit


def backend_of(repository: Repository, name: str = "images") -> Backend:
    column = repository.checkout(branch="master")[name]
    return column.backend, column.backend_options


@pytest.mark.parametrize(("edit", "expected"), [(moved("i0"), ("i0", {})), (moved("p0", ZSTD), ("p0", ZSTD))])
@pytest.mark.parametrize("changed_by", ["master", "dev"])
@pytest.mark.parametrize("with_samples", [False, True])
def test_the_backend_that_one_side_changed_is_kept_and_so_are_the_samples_of_both(
    repository: Repository, edit: Change, expected: Backend, changed_by: str, with_samples: bool
) -> None:
    other = {"master": "dev", "dev": "master"}[changed_by]
    change(repository, changed_by, both(edit, put(8, 80)) if with_samples else edit)
    change(repository, other, both(put(9, 90), drop(0)))
    repository.merge("both", "master", "dev")
    assert backend_of(repository) == expected
    assert values(repository) == {1: 1, 2: 2, **({8: 80} if with_samples else {}), 9: 90}


def test_ours_stays_where_both_sides_changed_the_backend(repository: Repository) -> None:
    change(repository, "master", both(moved("p0", LZ4), put(8, 80)))
    change(repository, "dev", both(moved("i0"), put(9, 90)))
    assert not repository.diff("master", "dev").conflict.conflict
    repository.merge("both", "master", "dev")
    assert backend_of(repository) == ("p0", LZ4)
    assert values(repository) == {0: 0, 1: 1, 2: 2, 8: 80, 9: 90}


def test_a_backend_changed_alike_on_both_sides_is_kept(repository: Repository) -> None:
    for branch, key in (("master", 8), ("dev", 9)):
        change(repository, branch, both(moved("i0"), put(key, key)))
    repository.merge("both", "master", "dev")
    assert backend_of(repository) == ("i0", {})


def test_new_values_go_where_the_merged_backend_says(repository: Repository) -> None:
    def numbers(key: int) -> Change:
        return lambda checkout: checkout["numbers"].update({key: np.full(8, key, np.uint32)})

    change(repository, "master", lambda checkout: checkout.add_ndarray_column("numbers", 8, np.uint32, backend="p0"))
    repository.merge("both have the column", "dev", "master")
    change(repository, "master", numbers(8))
    change(repository, "dev", lambda checkout: checkout["numbers"].change_backend("i0"))
    repository.merge("both", "master", "dev")
    packs = sorted(Path(repository.path).rglob("*.pack"))
    change(repository, "master", numbers(7))
    assert sorted(Path(repository.path).rglob("*.pack")) == packs
    assert list(repository.checkout(branch="master")["numbers"]) == [7, 8]


@pytest.mark.parametrize("strategy", ["ours", "theirs"])
def test_a_strategy_for_samples_leaves_the_backend_as_one_side_changed_it(
    repository: Repository, strategy: str
) -> None:
    change(repository, "master", put(1, 50))
    change(repository, "dev", both(moved("i0"), put(1, 60)))
    with pytest.raises(MergeConflictError):
        repository.merge("both", "master", "dev")
    repository.merge("both", "master", "dev", strategy=strategy)
    assert backend_of(repository) == ("i0", {})


@pytest.mark.parametrize(
    "reshape",
    [
        lambda checkout: checkout.columns.alter("images", shape=(4, 20), variable_shape=True),
        lambda checkout: checkout.columns.rename("images", "pictures"),
    ],
    ids=["altered", "renamed"],
)
@pytest.mark.parametrize("changed_by", ["master", "dev"])
def test_the_backend_follows_a_column_that_the_other_side_altered_or_renamed(
    repository: Repository, reshape: Callable[[Any], Any], changed_by: str
) -> None:
    other = {"master": "dev", "dev": "master"}[changed_by]
    change(repository, changed_by, both(moved("i0"), put(9, 90)))
    change(repository, other, reshape)
    repository.merge("both", "master", "dev")
    [(name, column)] = repository.checkout(branch="master").items()
    assert backend_of(repository, name) == ("i0", {})
    np.testing.assert_array_equal(column[9], array(90))


def test_a_column_that_the_other_side_removed_is_gone_though_its_backend_was_changed(repository: Repository) -> None:
    change(repository, "master", moved("i0"))
    change(repository, "dev", lambda checkout: checkout.columns.delete("images"))
    repository.merge("both", "master", "dev")
    assert len(repository.checkout(branch="master")) == 0


def test_criss_cross_histories_keep_the_backend_that_one_side_changed(repository: Repository) -> None:
    change(repository, "master", put(8, 80))
    change(repository, "dev", put(9, 90))
    repository.create_branch("kept", repository.log(branch="master", return_contents=True)["head"])
    repository.merge("one way", "master", "dev")
    repository.merge("the other way", "dev", "kept")
    change(repository, "dev", both(moved("p0", ZSTD), put(10, 100)))
    change(repository, "master", put(11, 110))
    repository.merge("criss-cross", "master", "dev")
    assert backend_of(repository) == ("p0", ZSTD)
    assert set(values(repository)) == {0, 1, 2, 8, 9, 10, 11}
