"""`hangar gc`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hangar_cloud.cli import cli
from tests.cli.running import invoke, shell


@pytest.fixture
def with_garbage(filled):
    """A repository with a deleted branch of one commit."""
    filled.create_branch("side")
    writer = filled.checkout(write=True, branch="side")
    writer["labels", 77] = "only here"
    writer.commit("garbage to be")
    writer.close()
    filled.checkout(write=True, branch="master").close()
    filled.remove_branch("side", force_delete=True)
    return filled


def commits(repository):
    return repository._storage.store.list_children("commits")


def test_young_things_and_the_log_stay_by_default(with_garbage):
    assert "Deleted      : 0 (0 B)" in invoke(cli.gc, obj=with_garbage).output
    assert "Kept, young  : 2 (" in invoke(cli.gc, "--keep-reflog", "0", obj=with_garbage).output
    assert "Deleted      : 0 (0 B)" in invoke(cli.gc, "--grace", "0", "--keep-reflog", "1h", obj=with_garbage).output
    assert len(commits(with_garbage)) == 2


def test_a_dry_run_and_then_the_real_one(with_garbage):
    told = invoke(cli.gc, "--dry-run", "--grace", "0", "--keep-reflog", "0s", "--names", obj=with_garbage).output
    assert "dry run: nothing was deleted" in told
    (name,) = [line for line in told.splitlines() if line.startswith("commits/")]
    assert name.removeprefix("commits/") in commits(with_garbage)
    done = shell("gc", "--grace", "0", "--keep-reflog", "0", cwd=Path(with_garbage.path))
    assert "Deleted      : 2 (" in done.stdout
    assert len(commits(with_garbage)) == 1


@pytest.mark.parametrize("wrong", ["yesterday", "-1d", "1y", "", "1.5h", "9" * 9 + "d"])
def test_what_is_no_time(with_garbage, wrong):
    output = invoke(cli.gc, "--grace", wrong, obj=with_garbage, code=2).output
    assert "is not a time such as 90s, 15m, 24h, 30d or 2w" in output


def test_an_open_writer_is_in_the_way(with_garbage):
    writer = with_garbage.checkout(write=True)
    output = shell("gc", cwd=Path(with_garbage.path), code=1).stderr
    assert "only one writer checkout can be open" in output
    writer.close()
