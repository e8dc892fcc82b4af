"""The golden repository of tags, logs, receipts, moves and purged samples opens, and holds what it held."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import PurgedError
from tests.golden.make_golden_upkeep import FOLDER, KEY, PURGED, REASON, image, note
from tests.repository.making import same


@pytest.fixture
def golden(tmp_path: Path) -> Repository:
    shutil.copytree(FOLDER, tmp_path / "golden")
    return Repository(f"file://{tmp_path / 'golden'}", cache_dir=tmp_path / "cache")


def test_every_value_reads_back_that_was_not_purged(golden: Repository) -> None:
    assert (FOLDER / "moves").is_dir()
    checkout = golden.checkout()
    for name, made in (("images", image), ("notes", note)):
        assert list(checkout[name].keys()) == list(range(8))
        for number in range(8):
            if number != PURGED[name]:
                assert same(checkout[name][number], made(number)), (name, number)


def test_what_was_purged_says_so(golden: Repository) -> None:
    checkout = golden.checkout()
    for name, key in PURGED.items():
        with pytest.raises(PurgedError, match=REASON):
            checkout[name][key]


def test_tags_and_logs_are_as_they_were(golden: Repository) -> None:
    order = golden.log(return_contents=True)["order"]
    assert [(tag.name, tag.digest, tag.message) for tag in golden.list_tags()] == [("v1", order[5], "the first three")]
    assert list(golden.checkout(commit="v1")["images"].keys()) == [0, 1, 2]
    assert [entry.action for entry in golden.reflog("moved")] == ["reset", "create"]
    assert golden.checkout(commit="moved@{1}").commit_hash == order[5]
    assert golden.restore_branch("gone").digest == order[5]


def test_work_with_a_key_is_known(golden: Repository) -> None:
    assert golden.find_commit(KEY) == golden.checkout().commit_hash
    assert golden.find_commit("another") is None


def test_it_verifies(golden: Repository) -> None:
    (finding,) = golden.fsck()
    assert (finding.kind, finding.message.split(" of ")[0]) == ("purged", "2 samples")
    assert golden.verify_repo_integrity()


def test_it_is_cloned_repacked_and_collected_today(golden: Repository, tmp_path: Path) -> None:
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("C", "c@example.org", f"file://{tmp_path / 'golden'}")
    with pytest.warns(UserWarning, match="2 purged samples are left out"):
        clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    clone.repack()
    clone.gc(grace=0, keep_reflog=0)
    assert clone.verify_repo_integrity()
    assert same(clone.checkout()["images"][7], image(7))
    assert clone.checkout(commit="v1")["notes"][2] == note(2)
