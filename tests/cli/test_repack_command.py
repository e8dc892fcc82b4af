"""`hangar repack`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hangar_cloud.cli import cli
from tests.cli.running import invoke, shell
from tests.repository.making import add_commit, noise


@pytest.fixture
def many(filled):
    """A repository with three more small packs."""
    for n in range(3):
        add_commit(filled, {n: noise(n, 500)}, column="noise")
    return filled


def packs(repository):
    return [info.path for info in repository._storage.store.list("packs/")]


def test_a_dry_run_and_then_the_real_one(many):
    before = packs(many)
    told = invoke(cli.repack, "--dry-run", obj=many).output
    assert "dry run: nothing was written" in told
    assert "Would make" in told
    assert packs(many) == before
    done = shell("repack", cwd=Path(many.path)).stdout
    assert "Run gc to delete the old objects" in done
    assert len(packs(many)) == len(before) + 1
    shell("gc", "--grace", "0", cwd=Path(many.path))
    assert len(packs(many)) == 1
    assert "Nothing to do" in invoke(cli.repack, obj=many).output


def test_the_outcome_as_json(many):
    count = len(packs(many))
    told = json.loads(invoke(cli.repack, "--json", obj=many).output)
    assert told["dry_run"] is False
    assert told["before"]["packs"]["objects"] == told["merged"]["packs"]["objects"] == count
    assert told["made"]["packs"]["objects"] == told["after"]["packs"]["objects"] == 1
    assert told["freed"]["objects"] == sum(told["merged"][kind]["objects"] for kind in ("packs", "records"))


def test_an_open_writer_is_in_the_way(many):
    writer = many.checkout(write=True)
    output = shell("repack", cwd=Path(many.path), code=1).stderr
    assert "only one writer checkout can be open" in output
    writer.close()
