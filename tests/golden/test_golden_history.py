"""The golden repository of nested columns, metadata, merges and changed columns opens, and holds what it held."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hangar_cloud import Repository
from tests.golden.make_golden_history import FOLDER, METADATA, expected
from tests.repository.making import same


@pytest.fixture
def golden(tmp_path: Path) -> Repository:
    shutil.copytree(FOLDER, tmp_path / "golden")
    return Repository(f"file://{tmp_path / 'golden'}", cache_dir=tmp_path / "cache")


def test_every_value_reads_back(golden: Repository) -> None:
    checkout = golden.checkout()
    contents = expected()
    assert list(checkout) == sorted(contents)
    for name, samples in contents.items():
        assert set(checkout[name].keys()) == set(samples)
        for key, value in samples.items():
            found = checkout[name][key]
            if checkout[name].contains_subsamples:
                assert dict.fromkeys(value, True) == {sub: same(found[sub], value[sub]) for sub in found}, (name, key)
            else:
                assert same(found, value), (name, key)
    assert dict(checkout.metadata.items()) == METADATA


def test_earlier_commits_have_their_own_names_and_dtypes(golden: Repository) -> None:
    history = golden.log(return_contents=True)
    assert history is not None
    assert len(history["ancestors"][history["head"]]) == 2
    first = golden.checkout(commit=history["order"][-1])
    assert "images" in first
    assert "pictures" not in first
    assert first["counts"].dtype == "int16"
    assert first["images"][3].dtype == "uint8"
    assert first["notes"]["gone"][0] == "removed on the branch"
    assert first.metadata["licence"] == "unknown"


def test_it_verifies(golden: Repository) -> None:
    assert golden.fsck() == []


def test_digests_have_not_changed(golden: Repository) -> None:
    """The same contents, written today, have the same roots."""
    writer = golden.checkout(write=True)
    for name, samples in expected().items():
        writer[name].update(samples)
    writer.metadata.update(METADATA)
    with pytest.raises(RuntimeError, match="nothing to commit"):
        writer.commit("the same again")
    writer.close()


def test_it_is_merged_and_diffed_today(golden: Repository) -> None:
    history = golden.log(return_contents=True)
    assert history is not None
    diff = golden.diff(history["order"][-1], "master").diff
    assert {record.key for record in diff.added.metadata} == {"card"}
    assert golden.merge("nothing new", "master", "dev") == history["head"]
