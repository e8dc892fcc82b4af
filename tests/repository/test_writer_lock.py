"""The writer lock, and what outlives a writer."""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import (
    AccessDeniedError,
    ClosedError,
    DirtyStagingError,
    ProtectedBranchError,
    WriterLockError,
)
from tests.forked import passes_forked
from tests.repository.making import (
    add_commit,
    finish,
    make_repository,
    read_all,
    start_process,
    wait_for_line,
)

_NOBODY = 65534


def test_a_second_writer_is_refused(committed):
    first = committed.checkout(write=True)
    for repository in (committed, Repository(committed.path)):
        with pytest.raises(PermissionError, match=r"lock.*is held.*Close the other one") as caught:
            repository.checkout(write=True)
        assert type(caught.value) is WriterLockError
        assert repository.writer_lock_held is True
    first["array", 0] = np.ones(3, np.float32)
    first.close()
    assert committed.writer_lock_held is False


def test_a_second_writer_in_another_process_is_refused(committed):
    script = """
        import sys
        from hangar_cloud import Repository
        writer = Repository(sys.argv[1]).checkout(write=True)
        print("open", flush=True)
        sys.stdin.readline()
        writer.close()
    """
    process = start_process(script, committed.path)
    assert wait_for_line(process) == "open"
    assert committed.writer_lock_held is True
    with pytest.raises(PermissionError, match="is held"):
        committed.checkout(write=True)
    finish(process, "\n")
    assert committed.writer_lock_held is False
    committed.checkout(write=True).close()


@contextlib.contextmanager
def read_only(folder):
    """A folder of somebody else's: nothing below it may be written, by root neither."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def shared_folder():
    """A folder that every user may look into, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "repository"


def test_a_repository_that_may_only_be_read_tells_whether_a_writer_is_open(shared_folder):
    repository = make_repository(shared_folder)
    for key in range(2):
        add_commit(repository, {key: np.ones(3, np.float32)})
    repository.create_branch("side")
    writer = repository.checkout(write=True)
    with read_only(shared_folder):
        assert repository.writer_lock_held is True
        assert "Writer-Lock Free : False" in repr(repository)
        with pytest.raises(ProtectedBranchError, match="while a writer checkout is open"):
            repository.reset_branch("side", "master")
    writer.close()
    with read_only(shared_folder):
        assert "Writer-Lock Free : True" in repr(repository)
        for change in (
            lambda: repository.remove_branch("side"),
            lambda: repository.reset_branch("master", "master@{1}"),
            lambda: repository.create_tag("v1"),
        ):
            with pytest.raises(AccessDeniedError, match="the operating system refused"):
                change()
    assert repository.list_branches() == ["master", "side"]


def test_force_release(committed):
    old = committed.checkout(write=True)
    old["array", "staged"] = np.ones(3, np.float32)
    with pytest.warns(ResourceWarning, match="released by force"):
        assert committed.force_release_writer_lock() is True
    assert committed.writer_lock_held is False
    uses = [
        lambda: old["array"],
        lambda: repr(old),
        lambda: old.commit("x"),
        lambda: old.__setitem__(("array", 1), np.ones(3, np.float32)),
        old.close,
    ]
    for use in uses:
        with pytest.raises(PermissionError, match="lock was released.*open a new checkout"):
            use()
    new = committed.checkout(write=True)
    assert new["array", "staged"][0] == 1, "what was staged is there for the next one"
    new["array", "more"] = np.ones(3, np.float32)
    new.commit("both")
    new.close()
    assert len(read_all(committed)["array"]) == 12


def test_force_release_while_another_process_holds_the_lock(committed):
    script = """
        import sys
        import numpy as np
        from hangar_cloud import Repository
        writer = Repository(sys.argv[1]).checkout(write=True)
        writer["array", "theirs"] = np.ones(3, np.float32)
        writer["blob", "theirs"] = bytes(1000)
        print("open", flush=True)
        sys.stdin.readline()
        sample = np.ones(3, np.float32)
        for use in (lambda: writer["array"].update({1: sample}), lambda: writer.commit("x"), writer.close):
            try:
                use()
            except PermissionError:
                print("refused")
    """
    process = start_process(script, committed.path)
    wait_for_line(process)
    with pytest.warns(ResourceWarning):
        committed.force_release_writer_lock()
    new = committed.checkout(write=True)
    assert new["array", "theirs"][0] == 1
    new["array", "ours"] = np.zeros(3, np.float32)
    assert finish(process, "\n").split() == ["refused"] * 3
    new.commit("both")
    new.close()
    assert {"ours", "theirs"} <= set(read_all(Repository(committed.path))["array"])
    assert read_all(committed)["blob"]["theirs"] == bytes(1000)


def test_force_release_without_a_writer(committed):
    for _ in range(3):
        with pytest.warns(ResourceWarning):
            committed.force_release_writer_lock()
    add_commit(committed, {99: np.ones(3, np.float32)})


def test_staged_changes_survive_close(committed):
    writer = committed.checkout(write=True)
    writer["array", 0] = np.full(3, 99, np.float32)
    del writer["text"][1]
    writer.add_str_column("fresh")["k"] = "value"
    writer.close()
    assert read_all(committed)["array"][0][0] == 0, "readers see commits only"
    writer = Repository(committed.path).checkout(write=True)
    assert writer["array", 0][0] == 99
    assert 1 not in writer["text"]
    assert writer["fresh", "k"] == "value"
    writer.commit("later")
    writer.close()
    assert read_all(committed)["fresh"] == {"k": "value"}


def test_another_branch_is_refused_while_changes_are_staged(committed):
    committed.create_branch("other")
    writer = committed.checkout(write=True)
    writer["array", 0] = np.full(3, 99, np.float32)
    writer.close()
    with pytest.raises(
        ValueError, match=r"uncommitted changes on branch 'master'.*reset_staging_area.*'other'"
    ) as caught:
        committed.checkout(write=True, branch="other")
    assert type(caught.value) is DirtyStagingError
    assert committed.writer_lock_held is False
    writer = committed.checkout(write=True, branch="master")
    assert writer["array", 0][0] == 99
    writer.reset_staging_area()
    committed.checkout(write=True, branch="other").close()


def test_checkout_by_branch_commit_and_short_digest(committed):
    first = committed.checkout().commit_hash
    second = add_commit(committed, {100: np.zeros(3, np.float32)})
    committed.create_branch("old", first)
    assert committed.checkout().commit_hash == second
    assert committed.checkout(branch="old").commit_hash == first
    assert committed.checkout(commit=first).commit_hash == first
    assert committed.checkout(commit=first[:8]).commit_hash == first
    assert committed.checkout(branch="old", commit=second[:4]).commit_hash == second, "commit goes before branch"
    assert len(committed.checkout(commit=first)["array"]) == 10


def test_a_repository_pickles(committed):
    again = pickle.loads(pickle.dumps(committed))
    assert again.list_branches() == ["master"]
    assert len(again.checkout()["array"]) == 10


def test_reprs(committed):
    assert "Repository Path" in repr(committed)
    assert "Writer-Lock Free : True" in repr(committed)
    writer = committed.checkout(write=True)
    assert "Writer-Lock Free : False" in repr(committed)
    assert "Base Branch  : master" in repr(writer)
    assert "Num Columns  : 3" in repr(writer)
    assert "Writeable         : True" in repr(writer.columns)
    assert "array" in repr(writer["array"])
    assert "Column Name              : array" in str(writer["array"])
    reader = committed.checkout()
    assert reader.commit_hash in repr(reader)
    assert "array / False" in repr(reader.columns)
    assert "Number of Samples        : 10" in str(reader["array"])
    assert "none" in repr(committed.remote)
    writer.close()


def test_log_and_summary(committed, capsys):
    first = committed.checkout().commit_hash
    second = add_commit(committed, {100: np.zeros(3, np.float32)})
    contents = committed.log(return_contents=True)
    assert contents["head"] == second
    assert contents["order"] == [second, first]
    assert contents["ancestors"] == {second: [first], first: []}
    assert contents["specs"][first]["commit_message"] == "ten samples"
    assert contents["branch_heads"] == {second: ["master"]}
    assert committed.checkout().log(return_contents=True) == contents
    writer = committed.checkout(write=True)
    assert writer.log(return_contents=True) == contents
    writer.close()
    capsys.readouterr()
    committed.log(show_time=True, show_user=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"* {second} (master)")
    assert "Test User" in printed[0]
    assert printed[1].startswith(f"* {first}")
    committed.summary()
    text = capsys.readouterr().out
    assert all(part in text for part in (second, "array", "float32", "Num Data Pieces: 11"))
    for use in (committed.log, committed.summary):
        with pytest.raises(ValueError, match="no branch 'nope'"):
            use(branch="nope")


def test_a_forgotten_writer_is_closed_at_exit_with_what_it_wrote(committed):
    script = """
        import sys
        import numpy as np
        from hangar_cloud import Repository
        writer = Repository(sys.argv[1]).checkout(write=True)
        column = writer["array"].__enter__()
        column["forgotten"] = np.ones(3, np.float32)
    """
    finish(start_process(script, committed.path))
    writer = committed.checkout(write=True)
    assert writer["array", "forgotten"][0] == 1
    writer.close()


def test_a_forked_child_cannot_use_or_close_the_writer(committed):
    writer = committed.checkout(write=True)

    def is_refused():
        with pytest.raises(PermissionError):
            column["child"] = np.ones(3, np.float32)
        return True

    with writer["array"] as column:
        column["parent"] = np.ones(3, np.float32)
        assert passes_forked(is_refused)
        assert committed.writer_lock_held is True
    writer.commit("parent's")
    writer.close()
    keys = set(read_all(committed)["array"])
    assert "parent" in keys
    assert "child" not in keys


def test_two_repositories_do_not_mix(tmp_path):
    one, two = make_repository(tmp_path / "one"), make_repository(tmp_path / "two")
    add_commit(one, {0: np.zeros(3)})
    add_commit(two, {0: np.ones(3)})
    assert read_all(one)["array"][0][0] == 0
    assert read_all(two)["array"][0][0] == 1
    with pytest.raises(ClosedError):
        checkout = one.checkout()
        checkout.close()
        checkout.close()


def test_in_a_bucket_what_was_staged_for_a_branch_is_found_though_an_earlier_area_is_free(tmp_path):
    """Each branch has a staging area of its own; the first one is free again after a commit."""
    bucket = make_repository(f"memory://areas-{uuid4().hex}", cache_dir=tmp_path)
    add_commit(bucket, {0: np.zeros(1)})
    bucket.create_branch("dev")
    for branch, key in (("master", 1), ("dev", 2)):
        writer = bucket.checkout(write=True, branch=branch)
        writer["array", key] = np.ones(1)
        writer.close()
    writer = bucket.checkout(write=True, branch="master")
    assert list(writer["array"]) == [0, 1]
    writer.commit("the first area is free now")
    writer.close()
    writer = bucket.checkout(write=True, branch="dev")
    assert list(writer["array"]) == [0, 2]
    writer.close()
    with pytest.warns(ResourceWarning):
        bucket.force_release_writer_lock()
    writer = bucket.checkout(write=True, branch="dev")
    assert list(writer["array"]) == [0, 2]
    writer.close()
