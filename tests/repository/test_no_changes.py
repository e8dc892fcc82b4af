"""What is staged and changes nothing counts as nothing staged, whoever asks and whatever comes next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import CorruptDataError, NothingToCommitError, UncommittedChangesError
from tests.repository.making import finish, make_repository, read_all, same_columns, start_process

BIG = np.arange(2000, dtype=np.float32)
Write = Callable[[Any], object]


def there_and_back(writer: Any) -> None:
    """Change a value, and set it as it was."""
    old = writer["array", 0]
    writer["array", 0] = old + 1
    writer["array", 0] = old


def added_and_deleted(writer: Any) -> None:
    """Add a sample, and delete it."""
    writer["array", "new"] = BIG
    del writer["array"]["new"]


def a_column_made_and_removed(writer: Any) -> None:
    """Make a column, fill it and remove it."""
    writer.add_ndarray_column("new", prototype=BIG)[0] = BIG
    writer.columns.delete("new")


def removed_and_made_anew(writer: Any) -> None:
    """Remove a column, and make it again with all that was in it."""
    old = dict(writer["text"].items())
    writer.columns.delete("text")
    writer.add_str_column("text").update(old)


def renamed_and_back(writer: Any) -> None:
    """Rename a column, and give it its old name."""
    writer.columns.rename("text", "other")
    writer.columns.rename("other", "text")


def altered_and_back(writer: Any) -> None:
    """Give a column another dtype, and its old one."""
    writer.columns.alter("array", dtype="<f8")
    writer.columns.alter("array", dtype="<f4")


def metadata_and_none(writer: Any) -> None:
    """Set the first metadata there is, and delete it."""
    writer.metadata["licence"] = "CC0"
    del writer.metadata["licence"]


def subsamples_again(writer: Any) -> None:
    """Write a subsample again, and add one that goes."""
    writer["nested"]["s"] = {0: "zero", 1: "one"}
    writer["nested"]["t"] = {0: "gone"}
    del writer["nested"]["t"]


def flat_columns(checkout: Any) -> dict[str, dict[Any, Any]]:
    """The samples of all columns that are not nested."""
    return {name: dict(checkout[name].items()) for name in ("array", "text")}


WAYS = [
    there_and_back,
    added_and_deleted,
    a_column_made_and_removed,
    removed_and_made_anew,
    renamed_and_back,
    altered_and_back,
    metadata_and_none,
    subsamples_again,
]


def all_of_them(writer: Any) -> None:
    """All of them, one after the other."""
    for way in WAYS:
        way(writer)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Of three columns, one of them nested, with a branch "dev" that has one sample more."""
    repository = make_repository(tmp_path / "repository")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("array", prototype=BIG, backend="p0").update({key: BIG + key for key in range(5)})
    writer.add_str_column("text").update({key: f"text {key}" for key in range(5)})
    writer.add_str_column("nested", contains_subsamples=True)["s"] = {0: "zero", 1: "one"}
    writer.commit("start")
    writer.close()
    repository.create_branch("dev")
    writer = repository.checkout(write=True, branch="dev")
    writer["text", "dev"] = "more"
    writer.commit("dev")
    writer.close()
    return repository


@pytest.mark.parametrize("way", WAYS)
def test_it_is_nothing_to_stash_and_no_hindrance_to_a_merge(repository: Repository, way: Write) -> None:
    before = flat_columns(repository.checkout(branch="master"))
    writer = repository.checkout(write=True, branch="master")
    way(writer)
    assert writer.diff.status() == "CLEAN"
    with pytest.raises(NothingToCommitError, match="nothing is staged"):
        writer.stash("one")
    assert same_columns(flat_columns(writer), before)
    way(writer)
    writer.merge("merge", "dev")
    assert writer["text", "dev"] == "more"
    writer["array", 7] = BIG * 7
    writer.commit("goes on")
    writer.close()
    assert np.array_equal(read_all(repository, branch="master")["array"][7], BIG * 7)
    assert repository.verify_repo_integrity()


def test_it_is_nothing_to_commit_or_to_reset(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    all_of_them(writer)
    with pytest.raises(NothingToCommitError, match="nothing to commit"):
        writer.commit("nothing")
    all_of_them(writer)
    with pytest.raises(NothingToCommitError, match="nothing to reset"):
        writer.reset_staging_area()
    assert dict(writer["nested", "s"].items()) == {0: "zero", 1: "one"}
    writer.close()


def test_a_stash_comes_back_in_spite_of_it(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    writer["array", 9] = BIG * 9
    writer.stash("one")
    all_of_them(writer)
    writer.stash.pop("one")
    assert np.array_equal(writer["array", 9], BIG * 9)
    assert np.array_equal(writer["array", 1], BIG + 1)
    writer.close()


def test_after_it_another_branch_is_opened_or_merged_into(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    all_of_them(writer)
    writer.close()
    assert not list(Path(writer._staging.folder).glob("*.pack"))
    writer = repository.checkout(write=True, branch="dev")
    all_of_them(writer)
    writer.close()
    repository.merge("merge", "master", "dev")
    assert read_all(repository, branch="master")["text"]["dev"] == "more"


def test_what_a_dead_process_left_of_it_is_no_hindrance_either(repository: Repository) -> None:
    program = (
        "import os, sys; from hangar_cloud import Repository\n"
        "from tests.repository.test_no_changes import all_of_them\n"
        "all_of_them(Repository(sys.argv[1]).checkout(write=True, branch='master'))\n"
        "os._exit(0)\n"
    )
    for branch in ("dev", "master"):
        finish(start_process(program, str(repository.path)))
        writer = repository.checkout(write=True, branch=branch)
        assert writer.diff.status() == "CLEAN"
        assert np.array_equal(writer["array", 0], BIG)
        writer.close()
    finish(start_process(program, str(repository.path)))
    repository.merge("merge", "master", "dev")
    assert read_all(repository, branch="master")["text"]["dev"] == "more"


def test_a_change_among_it_is_kept(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    all_of_them(writer)
    writer["text", 3] = "changed"
    with pytest.raises(UncommittedChangesError):
        writer.merge("merge", "dev")
    writer.close()
    with pytest.raises(ValueError, match="uncommitted changes on branch 'master'"):
        repository.checkout(write=True, branch="dev")
    writer = repository.checkout(write=True, branch="master")
    assert writer["text", 3] == "changed"
    assert writer.diff.status() == "DIRTY"
    writer.close()


def test_a_writer_in_a_bucket_goes_on_from_the_head_where_it_left_nothing(tmp_path: Path) -> None:
    place = f"file://{tmp_path}/bucket"
    one = make_repository(place, cache_dir=tmp_path / "one")
    writer = one.checkout(write=True)
    writer.add_str_column("text")[0] = "zero"
    writer.commit("start")
    writer["text", 0] = "zero"
    writer._staging.close()
    writer._lock.release()
    writer._alive.end()
    two = Repository(place, cache_dir=tmp_path / "two").checkout(write=True)
    two["text", 1] = "one"
    two.commit("meanwhile")
    two.close()
    writer = Repository(place, cache_dir=tmp_path / "one").checkout(write=True)
    assert dict(writer["text"].items()) == {0: "zero", 1: "one"}
    writer.close()


def test_taking_back_a_commit_whose_answer_never_came_is_a_change(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise OSError("gone")

    writer = repository.checkout(write=True, branch="master")
    writer["text", 0] = "landed, but nobody knows"
    with monkeypatch.context() as patched:
        patched.setattr("hangar_cloud.catalog.committer.Committer._settle", gone)
        with pytest.raises(OSError, match="gone"):
            writer.commit("landed")
    writer["text", 0] = "text 0"
    writer.close()
    assert read_all(repository, branch="master")["text"][0] == "landed, but nobody knows"
    writer = repository.checkout(write=True, branch="master")
    assert writer["text", 0] == "text 0"
    writer.commit("taken back")
    writer.close()
    assert read_all(repository, branch="master")["text"][0] == "text 0"


def test_a_column_whose_records_are_damaged_can_be_made_anew(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    writer.add_str_column("broken")[0] = "zero"
    root = writer._storage.commit(writer.commit("broken")).trees["broken"].root
    writer.close()
    path = next(Path(repository.path).rglob(f"{root.place.object.hex()}*"))
    path.write_bytes(bytes(path.stat().st_size))
    repository = Repository(repository.path)
    writer = repository.checkout(write=True, branch="master")
    with pytest.raises(CorruptDataError):
        writer["broken", 0]
    writer.columns.delete("broken")
    writer.add_str_column("broken")[0] = "zero"
    writer.close()
    writer = repository.checkout(write=True, branch="master")
    assert writer["broken", 0] == "zero", "what cannot be compared is kept"
    writer.close()
