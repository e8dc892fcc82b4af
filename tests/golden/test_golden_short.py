"""The golden repository of purged short values opens, says what was purged, and holds all else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import PurgedError
from tests.golden.make_golden_short import FOLDER, PURGED, REASON


@pytest.fixture
def golden(tmp_path: Path) -> Repository:
    shutil.copytree(FOLDER, tmp_path / "golden")
    return Repository(f"file://{tmp_path / 'golden'}", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(("commit", "fifth"), [("master@{0}", 7), ("master@{1}", 1)])
def test_equal_values_of_other_keys_are_there(golden: Repository, commit: str, fifth: int) -> None:
    checkout = golden.checkout(commit=commit)
    for name, column in checkout.items():
        assert list(column.keys()) == list(range(8))
        with pytest.raises(PurgedError, match=REASON):
            column[PURGED[name]]
    assert {checkout["name"][n] for n in range(8) if n != PURGED["name"]} == {"Ada"}
    labels = {n: int(checkout["label"][n]) for n in range(8) if n != PURGED["label"]}
    assert labels == {0: 0, 1: 1, 2: 0, 3: 1, 5: fifth, 6: 0, 7: 1}


def test_it_verifies_and_says_what_cannot_be_checked(golden: Repository) -> None:
    (finding,) = golden.fsck()
    assert "2 samples of history were purged" in finding.message
    assert "the digests of 2 of the leaves that held them cannot be checked" in finding.message
    assert golden.verify_repo_integrity()


def test_it_is_cloned_today(golden: Repository, tmp_path: Path) -> None:
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("C", "c@example.org", str(golden.path))
    assert clone.checkout()["label"][5] == 7
    with pytest.raises(PurgedError, match=REASON):
        clone.checkout()["name"][3]
