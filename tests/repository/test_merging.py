"""Diff and merge of branches, as Hangar's users know them, and the resolution of conflicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.diff import ColumnSchemaKey, FlatColumnDataKey, MetadataRecordKey
from hangar_cloud.errors import MergeConflictError
from tests.repository.branching import Change, array, change, drop, put, values


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(str(tmp_path / "repository"), exists=False)
    repository.init("Test", "test@example.org")
    checkout = repository.checkout(write=True)
    column = checkout.add_ndarray_column("images", prototype=array(0))
    for key in range(5):
        column[key] = array(key)
    checkout.commit("base")
    checkout.close()
    repository.create_branch("dev")
    return repository


def test_a_branch_without_commits_of_its_own_moves_forward(repository: Repository, capsys: Any) -> None:
    head = change(repository, "dev", put(9, 90))
    assert repository.merge("not used", "master", "dev") == head
    assert "Fast-Forward" in capsys.readouterr().out
    assert repository.log(branch="master", return_contents=True)["head"] == head
    assert values(repository)[9] == 90


def test_a_three_way_merge_has_two_parents_and_leaves_dev_alone(repository: Repository) -> None:
    dev = change(repository, "dev", put(9, 90))
    master = change(repository, "master", put(8, 80))
    digest = repository.merge("both", "master", "dev")
    log = repository.log(branch="master", return_contents=True)
    assert log is not None
    assert log["ancestors"][digest] == [master, dev]
    assert log["specs"][digest]["commit_message"] == "both"
    assert repository.log(branch="dev", return_contents=True)["head"] == dev
    assert values(repository) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 8: 80, 9: 90}


def test_the_same_change_on_both_sides_is_no_conflict(repository: Repository) -> None:
    for branch in ("master", "dev"):
        change(repository, branch, put(9, 90))
        change(repository, branch, drop(0))
    change(repository, "dev", put("9", 91))
    repository.merge("same", "master", "dev")
    assert values(repository) == {1: 1, 2: 2, 3: 3, 4: 4, 9: 90, "9": 91}


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "key"),
    [
        ("t1", put(9, 1), put(9, 2), 9),
        ("t21", drop(1), put(1, 50), 1),
        ("t22", put(1, 50), drop(1), 1),
        ("t3", put(1, 50), put(1, 60), 1),
    ],
)
def test_each_kind_of_conflict_is_found_and_changes_nothing(
    repository: Repository, kind: str, ours: Change, theirs: Change, key: int
) -> None:
    head = change(repository, "master", ours)
    change(repository, "dev", theirs)
    with pytest.raises(ValueError, match=f"sample {key} of column 'images'.*strategy") as caught:
        repository.merge("conflict", "master", "dev")
    assert isinstance(caught.value, MergeConflictError)
    conflicts = caught.value.conflicts
    assert conflicts.conflict is True
    for name in ("t1", "t21", "t22", "t3"):
        expected = (FlatColumnDataKey("images", key),) if name == kind else ()
        assert getattr(conflicts, name).samples == expected
    assert repository.diff("master", "dev").conflict == conflicts
    assert repository.log(branch="master", return_contents=True)["head"] == head
    assert not repository.writer_lock_held


@pytest.mark.parametrize(("strategy", "expected"), [("ours", {1: 50, 2: None}), ("theirs", {1: 60, 2: 70})])
def test_a_side_can_be_kept(repository: Repository, strategy: str, expected: dict[int, int | None]) -> None:
    change(repository, "master", lambda co: (put(1, 50)(co), drop(2)(co))[0])
    change(repository, "dev", lambda co: (put(1, 60)(co), put(2, 70)(co), put(9, 90)(co))[0])
    repository.merge("kept", "master", "dev", strategy=strategy)
    found = values(repository)
    assert {key: found.get(key) for key in expected} == expected
    assert found[9] == 90


def test_a_function_decides_for_each_sample(repository: Repository) -> None:
    change(repository, "master", lambda co: [put(k, 50 + k)(co) for k in (0, 1, 2)] and None)
    change(repository, "dev", lambda co: [put(k, 60 + k)(co) for k in (0, 1, 2)] and None)
    seen = {}

    def decide(column: str, key: int, ancestor: Any, ours: Any, theirs: Any) -> Any:
        seen[column, key] = tuple(int(side.get()[0, 0]) for side in (ancestor, ours, theirs))
        return {0: ours, 1: theirs, 2: array(99)}[key]

    repository.merge("decided", "master", "dev", strategy=decide)
    assert seen == {("images", k): (k, 50 + k, 60 + k) for k in (0, 1, 2)}
    assert {k: v for k, v in values(repository).items() if k < 3} == {0: 50, 1: 61, 2: 99}
    repository.checkout(write=True, branch="master").close()


def test_what_a_function_refuses_stays_a_conflict(repository: Repository) -> None:
    change(repository, "master", lambda co: [put(k, 50 + k)(co) for k in (0, 1)] and None)
    change(repository, "dev", lambda co: [put(k, 60 + k)(co) for k in (0, 1)] and None)
    with pytest.raises(MergeConflictError) as caught:
        repository.merge("no", "master", "dev", strategy=lambda c, key, a, o, t: o if key == 0 else None)
    assert caught.value.conflicts.t3.samples == (FlatColumnDataKey("images", 1),)
    with pytest.raises(ValueError, match="dtype"):
        repository.merge("no", "master", "dev", strategy=lambda *_: np.zeros(3))
    assert values(repository)[0] == 50
    repository.checkout(write=True, branch="dev").close()


def test_a_merge_with_itself_or_with_an_ancestor_does_nothing(repository: Repository) -> None:
    head = change(repository, "master", put(9, 1))
    assert repository.merge("self", "master", "master") == head
    assert repository.merge("older", "master", "dev") == head


def test_a_writer_merges_and_goes_on(repository: Repository) -> None:
    change(repository, "dev", lambda co: (put(9, 90)(co), co.metadata.update({"licence": "CC0"}))[0])
    change(repository, "master", put(8, 80))
    checkout = repository.checkout(write=True, branch="master")
    column = checkout["images"]
    digest = checkout.merge("both", "dev")
    assert checkout.commit_hash == digest
    assert int(column[9][0, 0]) == 90
    assert checkout.metadata["licence"] == "CC0"
    assert checkout.diff.status() == "CLEAN"
    column[10] = array(10)
    assert checkout.diff.status() == "DIRTY"
    with pytest.raises(RuntimeError, match="uncommitted"):
        checkout.merge("dirty", "dev")
    with pytest.raises(PermissionError):
        repository.merge("locked", "master", "dev")
    with pytest.raises(ValueError, match="no branch"):
        checkout.merge("unknown", "nowhere")
    checkout.close()
    with pytest.raises(RuntimeError, match="uncommitted"):
        repository.merge("dirty", "master", "dev")
    with pytest.raises(RuntimeError, match="uncommitted"):
        repository.merge("dirty", "dev", "master")


def test_diffs_are_equal_however_they_are_reached(repository: Repository) -> None:
    dev = change(repository, "dev", lambda co: (put(0, 9)(co), put(9, 9)(co), drop(1)(co), co.add_str_column("s"))[0])
    master = repository.log(branch="master", return_contents=True)["head"]
    result = repository.diff("master", "dev")
    reader = repository.checkout(branch="master")
    writer = repository.checkout(write=True, branch="master")
    others = [
        repository.diff(master, dev),
        repository.diff("master", dev[:10]),
        reader.diff.branch("dev"),
        reader.diff.commit(dev),
        writer.diff.branch("dev"),
        writer.diff.commit(dev[:8]),
    ]
    writer.close()
    assert all(other == result for other in others)
    diff, conflict = result
    assert diff.added.samples == (FlatColumnDataKey("images", 9),)
    assert diff.deleted.samples == (FlatColumnDataKey("images", 1),)
    assert diff.mutated.samples == (FlatColumnDataKey("images", 0),)
    assert list(diff.added.schema) == [ColumnSchemaKey("s", "flat")]
    assert not conflict.conflict


def test_a_three_way_diff_compares_dev_with_master(repository: Repository) -> None:
    change(repository, "master", put(8, 8))
    change(repository, "dev", put(9, 9))
    diff = repository.diff("master", "dev").diff
    assert diff.added.samples == (FlatColumnDataKey("images", 9),)
    assert diff.deleted.samples == (FlatColumnDataKey("images", 8),)


def test_staged_changes_are_shown(repository: Repository) -> None:
    checkout = repository.checkout(write=True, branch="master")
    assert checkout.diff.status() == "CLEAN"
    put(0, 0)(checkout)
    assert checkout.diff.status() == "CLEAN"
    put(9, 9)(checkout)
    drop(1)(checkout)
    checkout.metadata["a"] = "b"
    diff, conflict = checkout.diff.staged()
    assert diff.added.samples == (FlatColumnDataKey("images", 9),)
    assert diff.deleted.samples == (FlatColumnDataKey("images", 1),)
    assert diff.added.metadata == (MetadataRecordKey("a"),)
    assert not conflict.conflict
    checkout.reset_staging_area()


def test_schema_differences_conflict_only_if_both_sides_changed_the_column(repository: Repository) -> None:
    def remake(dtype: str) -> Change:
        def edit(checkout: Any) -> None:
            del checkout.columns["images"]
            checkout.add_ndarray_column("images", shape=(2,), dtype=dtype)

        return edit

    change(repository, "dev", remake("<f4"))
    change(repository, "master", lambda co: co.add_str_column("notes"))
    repository.merge("one side", "master", "dev")
    assert repository.checkout()["images"].dtype == np.float32
    change(repository, "dev", remake("<f8"))
    change(repository, "master", remake("<i8"))
    with pytest.raises(MergeConflictError) as caught:
        repository.merge("both", "master", "dev")
    assert list(caught.value.conflicts.t3.schema) == [ColumnSchemaKey("images", "flat")]
    repository.merge("theirs", "master", "dev", strategy="theirs")
    assert repository.checkout()["images"].dtype == np.float64


def test_a_removed_column_that_the_other_side_changed_conflicts(repository: Repository) -> None:
    change(repository, "master", lambda co: co.columns.delete("images") and None)
    change(repository, "dev", put(9, 9))
    with pytest.raises(MergeConflictError) as caught:
        repository.merge("removed", "master", "dev")
    assert list(caught.value.conflicts.t21.schema) == [ColumnSchemaKey("images", "flat")]


def test_a_criss_cross_history_takes_what_either_base_explains(repository: Repository) -> None:
    """Two merge bases: each branch merged the other's earlier commit."""
    one = change(repository, "master", put(1, 11))
    two = change(repository, "dev", put(2, 22))
    repository.create_branch("at-one", one)
    repository.create_branch("at-two", two)
    repository.merge("m", "master", "at-two")
    repository.merge("d", "dev", "at-one")
    change(repository, "master", put(3, 33))
    change(repository, "dev", put(4, 44))
    assert not repository.diff("master", "dev").conflict.conflict
    repository.merge("criss-cross", "master", "dev")
    assert values(repository) == {0: 0, 1: 11, 2: 22, 3: 33, 4: 44}


def test_what_two_merge_bases_explain_in_two_ways_is_a_conflict(repository: Repository) -> None:
    """One sample each way: no side is taken as a whole because one base happens to equal it."""
    one = change(repository, "master", put(1, 11))
    two = change(repository, "dev", put(1, 22))
    repository.create_branch("at-one", one)
    repository.create_branch("at-two", two)
    repository.merge("m", "master", "at-two", strategy="ours")
    repository.merge("d", "dev", "at-one", strategy="ours")
    change(repository, "dev", put(4, 44))
    conflict = repository.diff("master", "dev").conflict
    assert conflict.t3.samples == (FlatColumnDataKey("images", 1),)
    with pytest.raises(MergeConflictError):
        repository.merge("criss-cross", "master", "dev")
    repository.merge("criss-cross", "master", "dev", strategy="theirs")
    assert values(repository) == {**values(repository), 1: 22, 4: 44}


@pytest.mark.parametrize("key", [None, "batch 1"])
def test_an_idempotency_key_makes_no_difference_to_a_merge(repository: Repository, key: str | None) -> None:
    """Its receipt lies beside metadata, of which a merge base told only where there was something."""
    licensed = change(repository, "master", lambda checkout: checkout.metadata.update({"licence": "MIT"}))
    checkout = repository.checkout(write=True, branch="dev")
    checkout["images", 1] = array(11)
    other = checkout.commit("a batch", idempotency_key=key)
    checkout.close()
    repository.create_branch("licensed", licensed)
    repository.create_branch("other", other)
    repository.merge("m", "master", "other")
    repository.merge("d", "dev", "licensed")
    change(repository, "dev", lambda checkout: checkout.metadata.pop("licence"))
    change(repository, "master", put(3, 33))
    conflict = repository.diff("master", "dev").conflict
    assert conflict.t22.metadata == (MetadataRecordKey("licence"),)
    repository.merge("criss-cross", "master", "dev", strategy="theirs")
    checkout = repository.checkout(branch="master")
    assert dict(checkout.metadata) == {}
    checkout.close()


def test_a_merge_base_that_is_a_root_commit(repository: Repository) -> None:
    log = repository.log(branch="master", return_contents=True)
    assert log["ancestors"][log["head"]] == []
    change(repository, "master", drop(0))
    change(repository, "dev", drop(1))
    repository.merge("both", "master", "dev")
    assert values(repository) == {2: 2, 3: 3, 4: 4}


def test_a_clone_without_data_diffs_and_merges(repository: Repository, tmp_path: Path) -> None:
    change(repository, "master", put(8, 80))
    change(repository, "dev", put(9, 90))
    remote = f"file://{tmp_path / 'remote'}"
    repository.remote.add("origin", remote)
    repository.remote.push("origin", "master")
    repository.remote.push("origin", "dev")
    clone = Repository(str(tmp_path / "clone"), exists=False)
    clone.clone("Clone", "clone@example.org", remote)
    clone.remote.fetch("origin", "dev")
    packs = tmp_path / "clone" / ".hangar" / "partial" / "packs"
    assert clone.diff("master", "origin/dev").diff.added.samples == (FlatColumnDataKey("images", 9),)
    clone.merge("from the remote", "master", "origin/dev")
    assert not packs.exists()
    assert values(clone)[9] == 90


def test_a_merge_on_a_bucket_is_seen_by_others(tmp_path: Path) -> None:
    url = f"memory://merge-{tmp_path.name}"
    repository = Repository(url, exists=False, cache_dir=tmp_path / "one")
    repository.init("Test", "test@example.org")
    checkout = repository.checkout(write=True)
    checkout.add_ndarray_column("images", prototype=array(0))[0] = array(0)
    checkout.commit("base")
    checkout.close()
    repository.create_branch("dev")
    change(repository, "dev", put(1, 1))
    change(repository, "master", put(2, 2))
    repository.merge("both", "master", "dev")
    assert values(Repository(url, cache_dir=tmp_path / "two")) == {0: 0, 1: 1, 2: 2}


def test_a_column_made_anew_is_compared_with_the_old_one_sample_by_sample(repository: Repository) -> None:
    """A staged diff and status say what the diff of the commit will say, however the contents came about."""
    checkout = repository.checkout(write=True, branch="master")
    checkout.columns.delete("images")
    column = checkout.add_ndarray_column("images", prototype=array(0))
    column.update({key: array(key) for key in range(5)})
    assert checkout.diff.status() == "CLEAN"
    assert checkout.diff.staged().diff == repository.diff("master", "master").diff
    column[1] = array(100)
    del column[2]
    assert checkout.diff.status() == "DIRTY"
    staged = checkout.diff.staged().diff
    before, after = checkout.commit_hash, checkout.commit("made anew, and changed")
    checkout.close()
    assert staged == repository.diff(before, after).diff
    assert staged.mutated.samples == (FlatColumnDataKey("images", 1),)
    assert staged.deleted.samples == (FlatColumnDataKey("images", 2),)
    assert not staged.mutated.schema
