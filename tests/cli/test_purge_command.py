"""`hangar purge`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hangar_cloud.cli import cli
from hangar_cloud.errors import PurgedError
from tests.cli.running import invoke, shell

WHY = ("--reason", "asked for by the person")


def image(repository, key):
    checkout = repository.checkout()
    try:
        return checkout["images"][key]
    finally:
        checkout.close()


def test_a_dry_run_and_then_the_real_one(filled):
    told = invoke(cli.purge, "images", "3", *WHY, "--dry-run", obj=filled).output
    assert "dry run: nothing was changed" in told
    assert "column 'images', sample 3: 1 commits" in told
    assert image(filled, 3)[0, 0] == 3
    done = shell("purge", "images", "3", *WHY, "--yes", cwd=Path(filled.path)).stdout
    assert "Rewritten    : 1 objects, 784 B of samples erased" in done
    filled._storage.forget()
    with pytest.raises(PurgedError, match="sample 3: the sample was purged at .* by Ada .*: asked for by the person"):
        image(filled, 3)
    assert image(filled, 4)[0, 0] == 4


def test_by_digest(filled):
    (digest,) = filled.purge(column="images", key=5, reason="x", dry_run=True).digests
    invoke(cli.purge, "--digest", digest, *WHY, "--yes", obj=filled)
    with pytest.raises(PurgedError):
        image(filled, 5)


def test_without_a_terminal_it_does_nothing_unless_told_to(filled):
    output = invoke(cli.purge, "images", "3", *WHY, obj=filled, code=1).output
    assert "column 'images', sample 3" in output
    assert "give --yes to purge without asking" in output
    assert np.array_equal(image(filled, 3), np.full((28, 28), 3, np.uint8))


def test_a_key_in_quotes_is_text(filled):
    output = invoke(cli.purge, "images", '"3"', *WHY, "--yes", obj=filled, code=1).output
    assert "column 'images' has no sample '3'" in output


def test_what_cannot_be_meant(filled):
    assert "Missing option '--reason'" in invoke(cli.purge, "images", "3", obj=filled, code=2).output
    assert "give either digest=" in invoke(cli.purge, *WHY, obj=filled, code=1).output
    assert "give either digest=" in invoke(cli.purge, "images", *WHY, obj=filled, code=1).output
    assert "64 hexadecimal digits" in invoke(cli.purge, "--digest", "12", *WHY, obj=filled, code=1).output
