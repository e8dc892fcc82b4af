"""What a merge does with functions that return the wrong thing, and with messages that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import InvalidArgumentError, InvalidSampleError, MergeConflictError, MergeUnderWayError
from tests.repository.branching import Change, array, change, values
from tests.repository.making import start_process, wait_for_line


def fill(value: int) -> Change:
    """An edit that sets two images and a text."""

    def edit(checkout: Any) -> None:
        checkout["images"].update({0: array(value), 1: array(value + 1)})
        checkout["texts", "a"] = str(value)

    return edit


def alter(value: int) -> Change:
    """An edit that gives "images" another dtype, and sets sample 0."""

    def edit(checkout: Any) -> None:
        checkout.columns.alter("images", dtype=np.uint32)[0] = array(value).astype(np.uint32)

    return edit


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Sample 0 of "images", a text and a metadata key are changed on both branches."""
    repository = Repository(str(tmp_path / "repository"), exists=False)
    repository.init("Test", "test@example.org")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("images", prototype=array(0))
    writer.add_str_column("texts")
    writer.commit("columns")
    writer.close()
    repository.create_branch("dev")
    for branch, value in (("master", 50), ("dev", 60)):
        change(repository, branch, fill(value))
    return repository


def test_a_side_of_another_sample_counts_as_its_value(repository: Repository) -> None:
    kept: dict[Any, Any] = {}

    def decide(column: str, key: Any, ancestor: Any, ours: Any, theirs: Any) -> Any:
        kept[column, key] = theirs
        return kept["images", 0] if column == "images" else ours

    repository.merge("both as sample 0", "master", "dev", strategy=decide)
    assert values(repository) == {0: 60, 1: 60}
    assert repository.verify_repo_integrity()


def test_a_side_of_another_column_is_refused_where_its_value_does_not_fit(repository: Repository) -> None:
    kept: list[Any] = []

    def decide(column: str, key: Any, ancestor: Any, ours: Any, theirs: Any) -> Any:
        kept.append(ours)
        return kept[0]

    with pytest.raises(InvalidSampleError, match=r"strategy's value for column 'texts', sample 'a'.*takes str"):
        repository.merge("mixed up", "master", "dev", strategy=decide)
    assert values(repository) == {0: 50, 1: 51}
    assert repository.verify_repo_integrity()


def test_an_ancestor_that_is_not_known_cannot_be_chosen(tmp_path: Path) -> None:
    repository = Repository(str(tmp_path / "repository"), exists=False)
    repository.init("Test", "test@example.org")
    change(repository, "master", lambda co: co.add_ndarray_column("images", prototype=array(0)).update({0: array(1)}))
    repository.create_branch("dev")
    for branch, value in (("master", 50), ("dev", 60)):
        change(repository, branch, alter(value))
    with pytest.raises(InvalidArgumentError, match="sample 0: the ancestor was chosen, but its value is not known"):
        repository.merge("as it was", "master", "dev", strategy=lambda column, key, ancestor, *sides: ancestor)
    assert values(repository) == {0: 50}


@pytest.mark.parametrize("message", [None, 5, b"x", "\ud800"])
def test_merge_messages_are_text(repository: Repository, message: Any) -> None:
    head = repository.checkout(branch="master").commit_hash
    with pytest.raises(InvalidArgumentError, match="a commit message"):
        repository.merge(message, "master", "dev", strategy="ours")
    assert repository.checkout(branch="master").commit_hash == head
    assert not repository.writer_lock_held


def test_where_columns_are_in_conflict_the_message_offers_no_function(repository: Repository) -> None:
    with pytest.raises(MergeConflictError, match="or a function that decides for each sample"):
        repository.merge("samples", "master", "dev")
    change(repository, "dev", lambda co: co.columns.delete("texts"))
    with pytest.raises(MergeConflictError, match="a function is asked about samples, not about columns"):
        repository.merge("columns", "master", "dev", strategy=lambda column, key, ancestor, ours, theirs: ours)


def test_a_merge_that_dies_with_new_values_stored_leaves_nothing_staged(repository: Repository) -> None:
    program = (
        "import sys, time; from hangar_cloud import Repository, merging\n"
        "def die(*_):\n"
        "    print('stored', flush=True); time.sleep(600)\n"
        "merging.publish_merge = die\n"
        "change = lambda column, key, ancestor, ours, theirs: ours.get() * 2\n"
        "Repository(sys.argv[1]).merge('dies', 'master', 'dev', strategy=change)\n"
    )
    process = start_process(program, str(repository.path))
    assert wait_for_line(process) == "stored"
    process.kill()
    process.communicate()
    writer = repository.checkout(write=True, branch="master")
    assert int(writer["images", 0][0, 0]) == 50
    assert writer.diff.status() == "CLEAN"
    writer.close()
    assert repository.verify_repo_integrity()
    repository.merge("again", "master", "dev", strategy=lambda column, key, ancestor, ours, theirs: ours.get() * 2)
    assert values(repository) == {0: 100, 1: 102}


WRITES: dict[str, Callable[[Any], object]] = {
    "set": lambda writer: writer["images"].__setitem__(0, array(7)),
    "update": lambda writer: writer["texts"].update({"b": "more"}),
    "delete": lambda writer: writer["images"].pop(1),
    "add a column": lambda writer: writer.add_str_column("more"),
    "remove a column": lambda writer: writer.columns.delete("texts"),
    "rename": lambda writer: writer.columns.rename("texts", "words"),
    "alter": lambda writer: writer.columns.alter("images", dtype=np.uint32),
    "change the backend": lambda writer: writer["images"].change_backend("p0", {"codec": "zstd"}),
    "metadata": lambda writer: writer.metadata.update({"licence": "CC0"}),
    "commit": lambda writer: writer.commit("meanwhile"),
    "merge": lambda writer: writer.merge("meanwhile", "dev"),
    "stash": lambda writer: writer.stash("one"),
    "pop": lambda writer: writer.stash.pop("kept"),
    "reset": lambda writer: writer.reset_staging_area(force=True),
    "close": lambda writer: writer.close(),
}


@pytest.mark.parametrize("caught", [False, True])
def test_a_function_that_writes_to_its_own_checkout_is_refused(repository: Repository, caught: bool) -> None:
    writer = repository.checkout(write=True, branch="master")
    writer["images", 20] = array(20)
    writer.stash("kept")
    head = writer.commit_hash
    refused = []
    for name, write in WRITES.items():

        def decide(column: str, key: Any, ancestor: Any, ours: Any, theirs: Any, write: Any = write) -> Any:
            assert int(writer["images", 0][0, 0]) == 50, "it may read"
            try:
                write(writer)
            except MergeUnderWayError as error:
                refused.append(str(error))
                if not caught:
                    raise
            return None

        with pytest.raises(MergeConflictError if caught else MergeUnderWayError):
            writer.merge(f"with {name}", "dev", strategy=decide)
        assert writer.commit_hash == head
        assert writer.diff.status() == "CLEAN"
        assert not writer._staging.dirty
    assert len(refused) == len(WRITES) * (3 if caught else 1)
    assert all("this checkout is merging" in message for message in refused)
    assert writer.stash.pop().name == "kept"
    writer["images", 0] = array(7)
    writer.commit("and it can be written to again")
    writer.close()
    assert values(repository) == {0: 7, 1: 51, 20: 20}
    assert repository.verify_repo_integrity()


def test_a_function_that_writes_in_a_with_block_leaves_nothing_in_memory(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")

    def decide(column: str, key: Any, ancestor: Any, ours: Any, theirs: Any) -> Any:
        with pytest.raises(RuntimeError, match="cannot write to column 'images'"), writer["images"] as images:
            images[9] = array(9)
        return ours

    writer.merge("ours", "dev", strategy=decide)
    assert 9 not in writer["images"]
    assert writer.diff.status() == "CLEAN"
    writer.close()
    assert values(repository) == {0: 50, 1: 51}
