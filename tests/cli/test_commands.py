"""Each command does its work on a repository given as click's obj."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import cli, main
from tests.cli.running import invoke

WHO = ("--name", "Ben", "--email", "ben@example.org")


def head(repo: Repository, branch: str = "master") -> str:
    contents = repo.log(branch, return_contents=True)
    assert contents is not None
    return contents["head"]


def test_init(place):
    repo = Repository(place, exists=False)
    result = invoke(cli.init, *WHO, obj=repo)
    assert repo.initialized
    assert result.stdout == f"Hangar Repo initialized at: {place / '.hangar'}\n"


def test_init_asks_for_what_is_missing(place):
    repo = Repository(place, exists=False)
    invoke(cli.init, obj=repo, text="Ben\nben@example.org\n")
    assert repo.initialized


def test_init_overwrite(filled):
    result = invoke(cli.init, *WHO, obj=filled, code=1)
    assert "give --overwrite to delete it and all its data" in result.stderr
    assert head(filled)
    invoke(cli.init, *WHO, "--overwrite", obj=filled)
    assert filled.log(return_contents=True) is None


def test_clone(shared, bucket, tmp_path):
    copy = Repository(tmp_path / "copy", exists=False)
    result = invoke(cli.clone, *WHO, bucket, obj=copy)
    assert "`hangar fetch-data origin master`" in result.stdout
    assert copy.list_branches() == ["master", "origin/master"]
    assert head(copy) == head(shared)


def test_clone_overwrite(shared, bucket, tmp_path):
    copy = Repository(tmp_path / "copy", exists=False)
    invoke(cli.clone, *WHO, bucket, obj=copy)
    assert "give --overwrite" in invoke(cli.clone, *WHO, bucket, obj=copy, code=1).stderr
    invoke(cli.clone, *WHO, bucket, "--overwrite", obj=copy)


def test_a_relative_address_holds_from_everywhere(shared, tmp_path, place, monkeypatch):
    copy = Repository(tmp_path / "copy", exists=False)
    invoke(cli.clone, *WHO, "../bucket", obj=copy)
    assert copy.remote.list_all() == [("origin", str(tmp_path / "bucket"))]


@pytest.mark.parametrize(
    ("arguments", "column_type", "dtype", "shape", "schema_type"),
    [
        (["c", "UINT8", "28", "28"], "ndarray", np.uint8, (28, 28), "fixed_shape"),
        (["c", "float32", "7", "--variable-shape"], "ndarray", np.float32, (7,), "variable_shape"),
        (["--variable-shape", "c", "FLOAT64", "7"], "ndarray", np.float64, (7,), "variable_shape"),
        (["c", "INT64"], "ndarray", np.int64, (), "fixed_shape"),
        (["c", "BOOL", "2"], "ndarray", np.bool_, (2,), "fixed_shape"),
        (["c", "COMPLEX64", "2"], "ndarray", np.complex64, (2,), "fixed_shape"),
        (["c", "STR"], "str", str, None, "variable_shape"),
        (["c", "BYTES"], "bytes", bytes, None, "variable_shape"),
    ],
)
def test_column_create(repo, arguments, column_type, dtype, shape, schema_type):
    invoke(cli.create_column, *arguments, obj=repo)
    co = repo.checkout(write=True)
    column = co["c"]
    assert (column.column_type, column.dtype) == (column_type, dtype)
    assert (column.shape, column.schema_type) == (shape, schema_type)
    co.close()


def test_column_remove(filled):
    result = invoke(cli.remove_column, "labels", obj=filled)
    assert "`hangar commit` records it" in result.stdout
    co = filled.checkout(write=True)
    assert list(co) == ["images"]
    co.close()


def test_commit(repo):
    invoke(cli.create_column, "c", "STR", obj=repo)
    result = invoke(cli.commit, "-m", "one", "-m", "two", obj=repo)
    contents = repo.log(return_contents=True)
    assert result.stdout == f"Committed to branch master: {contents['head'][:12]}\n"
    assert contents["specs"][contents["head"]]["commit_message"] == "one\ntwo"
    assert "nothing to commit" in invoke(cli.commit, "-m", "again", obj=repo, code=1).stderr


@pytest.mark.parametrize(("arguments", "code", "said"), [(["-m", " "], 1, "the message is empty"), ([], 2, "-m")])
def test_commit_wants_a_message(repo, arguments, code, said):
    invoke(cli.create_column, "c", "STR", obj=repo)
    assert said in invoke(cli.commit, *arguments, obj=repo, code=code).stderr
    assert repo.log(return_contents=True) is None


def test_log(filled):
    assert invoke(cli.log, obj=filled).stdout == f"* {head(filled)[:12]} (master) : ten samples\n"


@pytest.mark.parametrize("by", ["branch", "digest"])
def test_log_and_summary_start_anywhere(filled, by):
    start = "master" if by == "branch" else head(filled)[:8]
    filled.create_branch("dev")
    invoke(cli.checkout, "dev", obj=filled)
    invoke(cli.remove_column, "labels", obj=filled)
    invoke(cli.commit, "-m", "no labels", obj=filled)
    assert "no labels" in invoke(cli.log, obj=filled).stdout
    assert "no labels" not in invoke(cli.log, start, obj=filled).stdout
    assert "Number of Named Columns: 1\n" in invoke(cli.summary, obj=filled).stdout
    assert "Number of Named Columns: 2\n" in invoke(cli.summary, start, obj=filled).stdout


def test_before_the_first_commit(repo):
    assert invoke(cli.log, obj=repo).stdout == "No commits have been made yet.\n"
    assert "No commits have been made yet." in invoke(cli.summary, obj=repo).stdout


def test_branches(filled):
    assert f"Branch dev is at {head(filled)[:12]}" in invoke(cli.branch_create, "dev", obj=filled).stdout
    invoke(cli.branch_create, "by-branch", "dev", obj=filled)
    invoke(cli.branch_create, "by-digest", head(filled)[:8], obj=filled)
    invoke(cli.checkout, "dev", obj=filled)
    assert invoke(cli.branch_list, obj=filled).stdout == "  by-branch\n  by-digest\n* dev\n  master\n"
    invoke(cli.branch_remove, "by-branch", obj=filled)
    assert "by-branch" not in filled.list_branches()


def test_branch_delete_force(filled):
    invoke(cli.branch_create, "dev", obj=filled)
    invoke(cli.checkout, "dev", obj=filled)
    invoke(cli.remove_column, "labels", obj=filled)
    invoke(cli.commit, "-m", "no labels", obj=filled)
    invoke(cli.checkout, "master", obj=filled)
    assert "--force" in invoke(cli.branch_remove, "dev", obj=filled, code=1).stderr
    invoke(cli.branch_remove, "dev", "-f", obj=filled)
    assert filled.list_branches() == ["master"]


def test_remotes(repo, bucket):
    assert invoke(cli.list_remotes, obj=repo).stdout == ""
    invoke(cli.add_remote, "origin", bucket, obj=repo)
    invoke(cli.add_remote, "else", "anything at all", obj=repo)
    assert invoke(cli.list_remotes, obj=repo).stdout == f"else    anything at all\norigin  {bucket}\n"
    assert "there is a remote 'origin' already" in invoke(cli.add_remote, "origin", "x", obj=repo, code=1).stderr
    assert bucket in invoke(cli.remove_remote, "origin", obj=repo).stdout
    assert [known.name for known in repo.remote.list_all()] == ["else"]


def test_ping(shared):
    assert re.fullmatch(r"origin answered in \d+\.\d ms\.\n", invoke(cli.ping_remote, "origin", obj=shared).stdout)


def test_push(filled, bucket):
    filled.remote.add("origin", bucket)
    assert invoke(cli.push, "origin", "master", obj=filled).stdout == "Pushed master to origin.\n"
    again = invoke(cli.push, "origin", "master", obj=filled)
    assert again.stdout == ""
    assert again.stderr.startswith("Warning: branch 'master' at ")
    assert again.stderr.count("\n") == 1


def test_fetch(shared, bucket, tmp_path):
    shared.create_branch("dev")
    shared.remote.push("origin", "dev")
    copy = Repository(tmp_path / "copy", exists=False)
    invoke(cli.clone, *WHO, bucket, obj=copy)
    assert invoke(cli.fetch_records, "origin", "dev", obj=copy).stdout == "Fetched origin/dev.\n"
    assert "origin/dev" in copy.list_branches()
    assert "nothing to fetch" in invoke(cli.fetch_records, "origin", "dev", obj=copy).stderr


@pytest.mark.parametrize("start", ["master", "dev", "digest"])
def test_fetch_data(shared, bucket, tmp_path, start):
    """`dev` is no branch of the clone's, but the remote's: it is what a person means."""
    shared.create_branch("dev")
    shared.remote.push("origin", "dev")
    copy = Repository(tmp_path / "copy", exists=False)
    invoke(cli.clone, *WHO, bucket, obj=copy)
    invoke(cli.fetch_records, "origin", "dev", obj=copy)
    startpoint = head(shared)[:10] if start == "digest" else start
    result = invoke(cli.fetch_data, "origin", startpoint, "-d", "images", "-d", "labels", "-a", obj=copy)
    assert head(shared)[:12] in result.stdout
    co = copy.checkout()
    assert len(list(co["images"].keys(local=True))) == 10
    co.close()


@pytest.mark.parametrize(("size", "local"), [("0", 0), ("1GB", 10), ("1.5 gib", 10), ("10 kB", 10)])
def test_fetch_data_within_a_size(shared, bucket, tmp_path, size, local):
    copy = Repository(tmp_path / "copy", exists=False)
    invoke(cli.clone, *WHO, bucket, obj=copy)
    invoke(cli.fetch_data, "origin", "master", "-n", size, obj=copy)
    co = copy.checkout()
    assert len(list(co["images"].keys(local=True))) == local
    co.close()


def test_writer_lock(repo):
    assert "is free" in invoke(cli.writer_lock_held, obj=repo).stdout
    co = repo.checkout(write=True)
    assert "is held" in invoke(cli.writer_lock_held, obj=repo).stdout
    assert "is released" in invoke(cli.writer_lock_held, "--force-release", obj=repo).stdout
    assert not repo.writer_lock_held
    with pytest.raises(PermissionError, match="lock was released"):
        co.add_str_column("late")


@pytest.mark.parametrize("given", ["obj", "cwd", "folder", "url"])
def test_every_way_to_name_a_repository(shared, bucket, place, given):
    arguments = {"folder": ["-C", str(place)], "url": ["-C", bucket]}.get(given, [])
    result = invoke(main, *arguments, "log", obj=shared if given == "obj" else None)
    assert head(shared)[:12] in result.stdout


def test_a_bucket_is_written_to_directly(shared, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    invoke(main, "-C", bucket, "column", "create", "more", "STR")
    assert "new column       more (str)" in invoke(main, "-C", bucket, "status").stdout
    invoke(main, "-C", bucket, "commit", "-m", "one more")
    assert "one more" in invoke(main, "-C", bucket, "log").stdout
    assert "CLEAN" in invoke(main, "-C", bucket, "status").stdout


def test_another_branch_of_a_bucket(shared, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    invoke(main, "-C", bucket, "branch", "create", "dev")
    on_dev = ("-C", bucket, "--branch", "dev")
    invoke(main, *on_dev, "column", "create", "more", "STR")
    assert "On branch dev" in invoke(main, *on_dev, "status").stdout
    assert "more" in invoke(main, *on_dev, "column", "list").stdout
    assert "more" not in invoke(main, "-C", bucket, "column", "list").stdout
    invoke(main, *on_dev, "commit", "-m", "only here")
    assert "only here" in invoke(main, *on_dev, "log").stdout
    assert "only here" not in invoke(main, "-C", bucket, "log").stdout
    assert "* dev" in invoke(main, *on_dev, "branch", "list").stdout
    for command in (["commit", "-m", "x"], ["status"], ["log"]):
        assert "Did you mean 'dev'?" in invoke(main, "-C", bucket, "-b", "dve", *command, code=1).stderr
    assert "`hangar checkout dev`" in invoke(main, "--branch", "dev", "log", code=2).stderr


def test_no_progress(shared, monkeypatch):
    from hangar_cloud import progress

    monkeypatch.setitem(progress._settings, "enabled", True)
    invoke(main, "--no-progress", "log", obj=shared)
    assert progress._settings["enabled"] is False
