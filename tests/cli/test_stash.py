"""`hangar stash`: what it prints, what it does, and what it refuses."""

from __future__ import annotations

import pytest

from hangar_cloud.cli import cli
from tests.cli.running import invoke


@pytest.fixture
def staged(filled):
    """The filled repository, with a changed label staged."""
    writer = filled.checkout(write=True)
    writer["labels", 0] = "new"
    writer.close()
    return filled


def label(repo):
    writer = repo.checkout(write=True)
    text = writer["labels", 0]
    writer.close()
    return text


def test_away_and_back(staged):
    head = staged.log(return_contents=True)["head"][:12]
    result = invoke(cli.save_stash, "mine", obj=staged)
    assert result.output == (
        f"Stashed 1 sample of labels (branch master, at {head}); `hangar stash pop mine` brings it back.\n"
    )
    assert label(staged) == "label 0"
    writer = staged.checkout(write=True)  # which needs no lock to be looked at
    listed = invoke(cli.list_stashes, obj=staged).output
    writer.close()
    assert listed.startswith("mine  20")
    assert listed.endswith(f" UTC  1 sample of labels (branch master, at {head})\n")
    result = invoke(cli.pop_stash, obj=staged)
    assert result.output == "Stash mine is staged on branch master again; `hangar commit` records it.\n"
    assert label(staged) == "new"
    assert invoke(cli.list_stashes, obj=staged).output == ""


def test_dropped(staged):
    invoke(cli.save_stash, "mine", obj=staged)
    assert invoke(cli.drop_stash, "mine", obj=staged).output == "Dropped stash mine.\n"
    assert invoke(cli.pop_stash, "mine", obj=staged, code=1).output == (
        "Error: there is no stash 'mine'; there is: none\n"
    )
    assert label(staged) == "label 0"


def test_what_is_refused_says_what_to_do(staged):
    invoke(cli.save_stash, "mine", obj=staged)
    assert "nothing is staged" in invoke(cli.save_stash, "other", obj=staged, code=1).output
    writer = staged.checkout(write=True)
    writer["labels", 1] = "more"
    writer.close()
    assert "pop or drop it, or choose another name" in invoke(cli.save_stash, "mine", obj=staged, code=1).output
    refused = invoke(cli.pop_stash, "mine", obj=staged, code=1).output
    assert "`hangar commit` or `hangar stash save` them before" in refused
    assert "reset_staging_area" not in refused


def test_metadata_has_a_name_here(filled):
    writer = filled.checkout(write=True)
    writer.metadata["licence"] = "CC0"
    writer.close()
    assert "1 sample of metadata" in invoke(cli.save_stash, "card", obj=filled).output
