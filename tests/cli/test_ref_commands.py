"""`hangar tag`, `hangar reflog`, `hangar branch restore` and `hangar branch reset`."""

from __future__ import annotations

import pytest

from hangar_cloud.cli import cli
from tests.cli.running import invoke


@pytest.fixture
def two(filled):
    """Two commits on master, the older first."""
    first = filled.log(return_contents=True)["head"]
    writer = filled.checkout(write=True)
    writer["labels", 99] = "later"
    second = writer.commit("later")
    writer.close()
    return filled, first, second


def test_a_tag_is_made_listed_and_removed(two):
    repository, first, second = two
    assert invoke(cli.tag_create, "v2", obj=repository).output == f"Tag v2 is at {second[:12]}.\n"
    assert invoke(cli.tag_create, "v1", "master@{1}", "-m", "the first", obj=repository).exit_code == 0
    assert invoke(cli.tag_list, obj=repository).output == f"v1  {first[:12]}  the first\nv2  {second[:12]}\n"
    assert invoke(cli.tag_delete, "v1", obj=repository).output == f"Tag v1 is removed; it was at {first[:12]}.\n"
    assert invoke(cli.tag_list, obj=repository).output == f"v2  {second[:12]}\n"
    assert "there is no tag 'v1'" in invoke(cli.tag_delete, "v1", obj=repository, code=1).output


def test_the_log_of_a_branch(two):
    repository, first, second = two
    lines = invoke(cli.reflog, obj=repository).output.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["master@{0}", second[:12], "commit"],
        ["master@{1}", first[:12], "commit"],
        ["master@{2}", "-" * 12, "init"],
    ]
    assert invoke(cli.reflog, "master", "-n", "1", obj=repository).output.splitlines() == lines[:1]
    assert "there never was a branch 'nix'" in invoke(cli.reflog, "nix", obj=repository, code=1).output


def test_a_tag_and_what_a_branch_was_can_be_given_where_a_commit_can(two):
    repository, first, second = two
    repository.create_tag("v1", first)
    for name in ("v1", "master@{1}"):
        lines = invoke(cli.log, name, obj=repository).output
        assert first[:12] in lines
        assert second[:12] not in lines
        assert f"Commit: {first}" in invoke(cli.summary, name, obj=repository).output
    assert "there is no branch 'nix'" in invoke(cli.log, "nix", obj=repository, code=1).output


def test_a_branch_is_moved_back_and_forth(two):
    repository, first, second = two
    assert (
        invoke(cli.branch_reset, "master", first[:10], obj=repository).output == f"Branch master is at {first[:12]}.\n"
    )
    invoke(cli.branch_reset, "master", "master@{1}", obj=repository)
    assert repository.checkout().commit_hash == second


def test_a_deleted_branch_is_restored(two):
    repository, _, second = two
    repository.create_branch("side")
    repository.remove_branch("side")
    assert invoke(cli.branch_restore, "side", obj=repository).output == f"Branch side is back, at {second[:12]}.\n"
    assert "was not deleted" in invoke(cli.branch_restore, "side", obj=repository, code=1).output
