"""Integrity: damage in any object is found, and what a finding is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from hangar_cloud import Finding
from hangar_cloud.catalog.commits import Commit
from hangar_cloud.errors import InvalidArgumentError
from tests.repository.filling import fill
from tests.repository.forging import damage, flip, store_files, swap
from tests.repository.making import files_of, make_repository


def test_another_level_is_refused(healthy):
    with pytest.raises(InvalidArgumentError, match="'all', 'records'"):
        healthy.fsck(level="some")


def test_any_flipped_byte_of_any_object_is_found(tmp_path):
    repository = fill(make_repository(tmp_path / "repository"), big=False)
    files = store_files(repository, "**/*")
    assert {path.suffix for path in files} == {".json", ".pack", ".parquet"}
    for path in files:
        intact = path.read_bytes()
        for position in sorted({0, 1, len(intact) - 1, *range(9, len(intact), max(len(intact) // 12, 1))}):
            flip(path, position)
            findings = repository.fsck()
            if path.name == "hint.json":
                assert [finding.kind for finding in findings] == ["hint"]
            else:
                assert any(path.name in finding.object for finding in findings if finding.is_damage), (path, position)
        path.write_bytes(intact)
    assert repository.fsck() == []


@pytest.mark.parametrize("how", ["gone", "empty", "shorter", "longer"])
def test_any_object_that_is_gone_or_of_another_length_is_found(tmp_path, how):
    repository = fill(make_repository(tmp_path / "repository"), big=False)
    for path in store_files(repository, "**/*"):
        intact = path.read_bytes()
        changed = {"gone": b"", "empty": b"", "shorter": intact[:-1], "longer": intact + b"\0"}[how]
        path.unlink()
        if how != "gone":
            path.write_bytes(changed)
        findings = repository.fsck()
        last = path.parent.name == "master" and path.name == "0000000002.json"
        if path.name == "hint.json":
            assert [finding.kind for finding in findings] == ([] if how == "gone" else ["hint"])
        elif how == "gone" and last:
            # Nothing but the hint knows that there was a later entry.
            assert [finding.kind for finding in findings] == ["hint"]
        else:
            found = {finding.kind for finding in findings if finding.is_damage and path.name in finding.object}
            assert found, path
            if how == "gone":
                assert found <= {"missing", "pointer"}
        path.write_bytes(intact)
    assert repository.fsck() == []


@pytest.mark.parametrize("pattern", ["packs/*/*", "records/*", "commits/*", "refs/heads/*/*"])
def test_any_two_swapped_objects_are_found(tmp_path, pattern):
    repository = fill(make_repository(tmp_path / "repository"), big=False)
    files = store_files(repository, pattern)
    assert len(files) > 1
    for one, other in itertools.combinations(files, 2):
        swap(one, other)
        named = {finding.object.rpartition("/")[2] for finding in damage(repository)}
        assert {one.name, other.name} & named
        if pattern.startswith("packs"):
            assert {one.name, other.name} <= named
        swap(one, other)
    assert repository.fsck() == []


def test_findings_are_data():
    finding = Finding("digest", "packs/00/x.pack", "images", ("a", 1), "ab" * 32, "not the same")
    assert (
        str(finding)
        == "digest: not the same | column 'images' | sample ('a', 1) | commit abababababab | packs/00/x.pack"
    )
    assert json.loads(json.dumps(finding._asdict()))["kind"] == "digest"
    assert str(Finding("remote", "", message="3 samples")) == "note: 3 samples"
    assert "metadata" in str(Finding("tree", "", column=""))


def test_a_commit_is_read_once_however_many_branches_reach_it(healthy, monkeypatch):
    for n in range(5):
        healthy.create_branch(f"b{n}")
    seen = []
    real = Commit.digest

    def digest(commit):
        seen.append(real(commit))
        return seen[-1]

    monkeypatch.setattr(Commit, "digest", digest)
    assert healthy.fsck() == []
    assert len(seen) == len(set(seen)) == 2


def test_a_store_that_cannot_be_written_is_verified(healthy, monkeypatch):
    make_folder, open_file = Path.mkdir, Path.open

    def refuse_folder(path, *arguments, **named):
        if path.is_relative_to(healthy._storage.root):
            raise PermissionError("read-only")
        make_folder(path, *arguments, **named)

    def refuse_to_append(path, mode="r", *arguments, **named):
        if "a" in mode and path.is_relative_to(healthy._storage.root):
            raise PermissionError("read-only")
        return open_file(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", refuse_folder)
    monkeypatch.setattr(Path, "open", refuse_to_append)
    before = files_of(healthy.path)
    assert healthy.fsck() == []
    assert files_of(healthy.path) == before
