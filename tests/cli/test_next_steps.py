"""`hangar status` says what to do next, and mistakes say what was meant."""

from __future__ import annotations

import shutil
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangar_cloud import Repository
from hangar_cloud.catalog.commits import Commit
from hangar_cloud.catalog.history import ancestors, divergence
from hangar_cloud.cli import cli, main
from tests.cli.running import invoke

WHO = ("--name", "Ben", "--email", "ben@example.org")


def add(repo: Repository, key: str, branch: str = "") -> str:
    with closing(repo.checkout(write=True, branch=branch)) as writer:
        writer["labels", key] = "x"
        return str(writer.commit(f"add {key}"))


def status(repo: Repository) -> list[str]:
    return invoke(cli.status, obj=repo).stdout.splitlines()


@pytest.fixture
def copy(shared, bucket, tmp_path):
    made = Repository(tmp_path / "copy", exists=False)
    made.clone("Ben", "ben@example.org", bucket)
    return made


def test_ahead_of_and_behind_a_remote(shared, copy):
    assert status(copy)[1] == "It is where origin/master was when last seen."
    add(copy, "mine")
    assert status(copy)[1] == "It is 1 ahead of origin/master, as last seen."
    assert "`hangar push origin master`" in status(copy)[-1]
    add(shared, "theirs")
    add(shared, "theirs-too")
    invoke(cli.push, "origin", "master", obj=shared)
    invoke(cli.fetch_records, "origin", "master", obj=copy)
    assert status(copy)[1] == "It is 1 ahead of and 2 behind origin/master, as last seen."
    assert "`hangar merge origin/master`" in status(copy)[-1]
    assert ", then `hangar push origin master`" in status(copy)[-1]
    said = invoke(cli.push, "origin", "master", obj=copy, code=1).stderr
    assert "fetch it, merge it" in said
    invoke(cli.push, "origin", "master", "--on-conflict", "merge", obj=copy)
    assert status(copy)[1] == "It is where origin/master was when last seen."


def test_push_by_force(shared, copy):
    add(shared, "theirs")
    invoke(cli.push, "origin", "master", obj=shared)
    head = add(copy, "mine")
    assert (
        "--on-conflict"
        in invoke(cli.push, "origin", "master", "--force", "--on-conflict", "ours", obj=copy, code=2).stderr
    )
    invoke(cli.push, "origin", "master", "--force", obj=copy)
    invoke(cli.fetch_records, "origin", "master", obj=shared)
    assert shared.log("origin/master", return_contents=True)["head"] == head


def test_stashes_are_mentioned(filled):
    invoke(cli.create_column, "x", "STR", obj=filled)
    invoke(cli.save_stash, "later", obj=filled)
    assert status(filled)[-1].startswith("1 stash put away: `hangar stash list`")


HISTORIES = st.lists(st.lists(st.integers(0, 30), max_size=2, unique=True), min_size=1, max_size=30).map(
    lambda shape: {
        str(i): Commit(tuple(str(p) for p in parents if p < i), {}, "", "", f"2026-01-01T00:00:00.{i:06}", "")
        for i, parents in enumerate(shape)
    }
)


@settings(max_examples=100)
@given(HISTORIES, st.data())
def test_how_far_two_commits_are_apart(commits, data):
    one, other = (data.draw(st.sampled_from(sorted(commits))) for _ in range(2))
    behind_one, behind_other = (set(ancestors([digest], commits.__getitem__)) for digest in (one, other))
    counts = divergence(one, other, commits.__getitem__)
    assert counts == (len(behind_one - behind_other), len(behind_other - behind_one))


def test_a_distance_that_takes_too_long_is_not_counted():
    commits = {
        f"{side}{i}": Commit((f"{side}{i - 1}",) if i else (), {}, "", "", f"2026-01-01T00:00:00.{i:06}", "")
        for side in "ab"
        for i in range(600)
    }
    assert divergence("a599", "b599", commits.__getitem__) is None
    assert divergence("a599", "a0", commits.__getitem__) == (599, 0)


NEARLY_RIGHT = [
    (["comit"], 2, "Did you mean 'commit'?"),
    (["brnch", "list"], 2, "Did you mean 'branch'?"),
    (["branch", "lst"], 2, "Did you mean 'list'?"),
    (["frobnicate"], 2, "No such command 'frobnicate'.\n"),
    (["pull"], 2, "`hangar fetch REMOTE BRANCH`, then `hangar merge REMOTE/BRANCH`."),
    (["checkout", "-b", "x"], 2, "`hangar branch create NAME` makes a branch"),
    (["branch", "-d", "x"], 2, "`hangar branch delete NAME`"),
    (["log", "-C", "x"], 2, "It goes before the command: `"),
    (["branch", "list", "--offline"], 2, "It goes before the command: `"),
    (["view", "images", "3", "--no-pager"], 2, "It goes before the command: `"),
    (["import", "images", ".", "--debug"], 2, "It goes before the command: `"),
    (["--frobnicate"], 2, "No such option '--frobnicate'.\n"),
    (["log", "--oneline"], 2, "No such option '--oneline'.\n"),
    (["checkout", "mastre"], 1, "Did you mean 'master'?"),
    (["log", "mastr"], 1, "Did you mean 'master'?"),
    (["column", "rename", "label", "x"], 1, "Did you mean 'labels'?"),
    (["push", "orgin", "master"], 1, "Did you mean 'origin'?"),
    (["tag", "delete", "v"], 1, "Did you mean 'v1'?"),
    (["stash", "pop", "latr"], 1, "Did you mean 'later'?"),
]


def test_what_is_nearly_right_is_suggested(shared):
    shared.create_tag("v1")
    invoke(cli.create_column, "x", "STR", obj=shared)
    invoke(cli.save_stash, "later", obj=shared)
    for arguments, code, said in NEARLY_RIGHT:
        assert said in invoke(main, *arguments, code=code).stderr, arguments


def test_short_digests(filled):
    """An ambiguous beginning names the commits that begin so; one digit more settles it."""
    digest = add(filled, "later")
    twin = digest[:4] + ("0" if digest[4] != "0" else "1") * 60
    commits = filled._storage.root / "store" / "commits"
    shutil.copyfile(commits / f"{digest}.json", commits / f"{twin}.json")
    said = invoke(cli.log, digest[:4], obj=filled, code=1).stderr
    assert "is the beginning of 2 commits: " in said
    assert digest[:12] in said
    assert twin[:12] in said
    assert digest[:12] in invoke(cli.log, digest[:5], obj=filled).stdout


@pytest.mark.parametrize("command", [["init"], ["clone", "../bucket"]])
def test_who_commits_may_be_in_the_environment(shared, tmp_path, monkeypatch, command):
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(there)
    assert "HANGAR_USER_NAME" in invoke(main, *command, code=2).stderr
    assert list(there.iterdir()) == []
    monkeypatch.setenv("HANGAR_USER_NAME", "Eve")
    monkeypatch.setenv("HANGAR_USER_EMAIL", "eve@example.org")
    invoke(main, *command)
    assert Repository(there)._user() == ("Eve", "eve@example.org")


def test_a_pushed_store_is_told_from_a_repository(shared, tmp_path):
    said = invoke(main, "-C", tmp_path / "bucket", "log", code=1).stderr
    assert f"`hangar -C {(tmp_path / 'bucket').as_uri()}`" in said


def test_a_path_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is a file; a repository needs a folder" in invoke(main, "-C", tmp_path / "file", "log", code=1).stderr


def test_exit_code_of_a_diff(filled):
    invoke(cli.diff, "--exit-code", obj=filled)
    invoke(cli.diff, "master", "--exit-code", obj=filled)
    invoke(cli.create_column, "x", "STR", obj=filled)
    assert "new column" in invoke(cli.diff, "--exit-code", obj=filled, code=1).stdout
    invoke(cli.diff, obj=filled)
    invoke(cli.commit, "-m", "x", obj=filled)
    invoke(cli.diff, "master", "master@{1}", "--exit-code", obj=filled, code=1)


def test_a_log_of_some_commits(filled):
    for number in range(3):
        add(filled, f"k{number}")
    assert len(invoke(cli.log, "-n", "2", obj=filled).stdout.splitlines()) == 2
    assert "(Ada)" in invoke(cli.log, "-n", "1", "--user", obj=filled).stdout
    assert " UTC) : add k2" in invoke(cli.log, "-n", "1", "--time", obj=filled).stdout
    assert invoke(cli.log, "-n", "0", obj=filled).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["images", "--dtype", "uint16"], 0, "Column images (uint16, fixed shape (28, 28)) is staged"),
        (["images", "--shape", "30,30", "--variable-shape"], 0, "variable shape (30, 30)"),
        (["images", "--dtype", "INT8", "--shape", "28"], 1, "cannot be altered to 1"),
        (["images"], 2, "say what to alter"),
        (["images", "--shape", "a,b"], 2, "--shape takes sizes with commas"),
        (["labels", "--dtype", "INT8"], 1, "only columns of arrays can be altered"),
    ],
)
def test_columns_are_altered(filled, arguments, code, said):
    result = invoke(cli.alter_column, *arguments, obj=filled, code=code)
    assert said in result.stdout + result.stderr


def test_columns_are_listed_as_staged_and_as_committed(filled):
    invoke(cli.rename_column, "labels", "names", obj=filled)
    assert (
        invoke(cli.list_columns, obj=filled).stdout == "images  uint8, 28 x 28: 10 samples\nnames   str: 10 samples\n"
    )
    assert "labels  str: 10 samples" in invoke(cli.list_columns, "master", obj=filled).stdout
    invoke(cli.reset, "--yes", obj=filled)
    assert "labels  str" in invoke(cli.list_columns, obj=filled).stdout
