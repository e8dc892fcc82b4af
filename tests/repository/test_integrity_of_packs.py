"""Integrity of packs: which samples a damaged pack costs."""

from __future__ import annotations

import os

import pytest

from hangar_cloud.backends.packs import PACK_MAGIC
from tests.repository.filling import noise
from tests.repository.forging import damage, extents_of, flip, store_files
from tests.repository.making import add_commit, make_repository


def test_a_flipped_byte_in_a_block_names_the_samples_in_it(healthy, packs):
    first = next(pack for pack in packs if len(extents_of(pack)) == 1)
    flip(first, extents_of(first)[0].offset + 100)
    findings = damage(healthy)
    whole, *samples = findings
    assert (whole.kind, whole.column, whole.key) == ("damaged", None, None)
    assert "do not match its name" in whole.message
    assert "of the 30 samples in it cannot be read" in whole.message
    assert all(finding.column == "shared" and finding.object.endswith(first.name) for finding in samples)
    assert [finding.key for finding in samples] == list(range(30))
    assert {finding.kind for finding in samples} <= {"damaged", "digest"}
    assert all(healthy._storage.commit(finding.commit) for finding in samples)
    assert damage(healthy, level="records") == []


def test_a_flipped_byte_in_the_second_block_of_a_run_names_the_one_sample(healthy, packs):
    second = max(packs, key=lambda pack: pack.stat().st_size)
    flip(second, max(extents_of(second), key=lambda extent: extent.stored).offset + 4_300_000)
    assert [(f.column, f.key) for f in damage(healthy)] == [(None, None), ("many", "big")]


@pytest.mark.parametrize("where", ["magic", "block header", "index", "trailer"])
def test_a_damaged_frame_of_a_pack(healthy, packs, where):
    pack = packs[0]
    size = pack.stat().st_size
    flip(pack, {"magic": 0, "block header": len(PACK_MAGIC), "index": size - 48, "trailer": size - 20}[where])
    findings = damage(healthy)
    assert "damaged" in {finding.kind for finding in findings}
    spoilt = where == "block header"
    assert any(finding.key is not None for finding in findings) == spoilt
    assert bool(damage(healthy, level="records")) == (where in ("index", "trailer"))


def test_a_truncated_pack(healthy, packs):
    big = max(packs, key=lambda pack: pack.stat().st_size)
    os.truncate(big, 1_000_000)
    assert ("many", "big") in {(finding.column, finding.key) for finding in damage(healthy)}
    assert ("place", "many", "big") in {(f.kind, f.column, f.key) for f in damage(healthy, level="records")}


@pytest.mark.parametrize("level", ["all", "records"])
def test_a_missing_pack(healthy, packs, level, capsys):
    packs[0].unlink()
    finding, *samples = damage(healthy, level=level)
    assert finding.kind == "missing"
    assert {(lost.kind, lost.object) for lost in samples} == {("missing", finding.object)}
    assert all(lost.key is not None for lost in samples)
    assert f"{len(samples)} of the {len(samples)} samples" in finding.message
    assert finding.object == f"packs/{packs[0].parent.name}/{packs[0].name}"
    assert healthy.verify_repo_integrity(level=level) is False
    printed = capsys.readouterr().out
    assert finding.object in printed
    assert "The repository is damaged: " in printed


def test_thousands_of_lost_samples_are_counted_and_not_all_listed(tmp_path, capsys):
    repository = make_repository(tmp_path / "repository")
    add_commit(repository, {n: noise(n, 100) for n in range(1000)}, column="images")
    (pack,) = store_files(repository, "packs/*/*")
    pack.write_bytes(PACK_MAGIC + bytes(pack.stat().st_size - 8))
    findings = damage(repository)
    assert sum(finding.key is not None for finding in findings) == 100
    assert "900 more samples" in findings[-1].message
    assert repository.verify_repo_integrity() is False
    assert "... and " in capsys.readouterr().out
