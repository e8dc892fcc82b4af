"""Integrity: healthy repositories of every kind give no finding."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.filling import fill, noise
from tests.repository.making import add_commit, files_of, make_repository
from tests.repository.making import noise as picture


@pytest.mark.parametrize("level", ["all", "records"])
class TestHealthy:
    def check(self, repository, level, capsys):
        assert repository.fsck(level=level) == []
        capsys.readouterr()
        assert repository.verify_repo_integrity(level=level) is True
        assert capsys.readouterr().out == ""

    def test_local(self, healthy, level, capsys):
        before = files_of(healthy.path)
        self.check(healthy, level, capsys)
        assert files_of(healthy.path) == before

    def test_without_a_commit(self, empty, level, capsys):
        self.check(empty, level, capsys)

    def test_of_several_leaves_with_merges_and_deleted_branches(self, tmp_path, level, capsys):
        repository = make_repository(tmp_path / "repository")
        add_commit(repository, {n: np.array([n, n]) for n in range(20_000)}, column="numbers")
        repository.create_branch("side")
        repository.create_branch("gone")
        add_commit(repository, {n: np.array([n, 0]) for n in range(0, 20_000, 999)}, column="numbers")
        add_commit(repository, {"new": noise(1)}, column="other", branch="side")
        add_commit(repository, {"lost": noise(2)}, column="lost", branch="gone")
        repository.checkout(write=True, branch="master").close()
        repository.merge("both", "master", "side")
        repository.remove_branch("gone", force_delete=True)
        self.check(repository, level, capsys)

    def test_of_every_type(self, tmp_path, level, capsys):
        repository = make_repository(tmp_path / "repository")
        writer = repository.checkout(write=True)
        for kind in ("?", "b", "H", "<i4", ">i8", "e", "f", "d", "F", "D"):
            for shape, variable in (((), False), ((3,), True), ((40, 3), True), ((1,), False)):
                name = f"{np.dtype(kind).name}.{len(shape)}.{variable}.{shape[0] if shape else 0}"
                column = writer.add_ndarray_column(name, shape, kind, variable_shape=variable)
                column.update({key: np.full(shape, key == "a", kind) for key in ("a", "b", "c/d", "e.f")})
                column[2**63 - 1] = np.zeros(shape, kind)
        writer.add_str_column("str").update({0: "", 1: "\ud800", 2: "x" * 50_000, 3: "\0"})
        writer.add_bytes_column("bytes").update({0: b"", 1: bytes(33), 2: bytes(100_000)})
        writer.commit("all")
        writer.close()
        self.check(repository, level, capsys)

    @pytest.mark.parametrize("variable", [False, True])
    def test_nested(self, tmp_path, level, capsys, variable):
        repository = make_repository(tmp_path / "repository")
        writer = repository.checkout(write=True)
        column = writer.add_ndarray_column("n", (200,), np.uint8, variable_shape=variable, contains_subsamples=True)
        for n in range(20):
            column[n] = {sub: noise(n, 200) for sub in (*range(5), "x")}
        writer.add_str_column("s", contains_subsamples=True)["a"] = {"b": "c" * 200, 1: "d"}
        writer.commit("nested")
        writer.close()
        self.check(repository, level, capsys)

    def test_bucket_in_memory(self, tmp_path, level, capsys):
        place = f"memory://{tmp_path.name}-{level}"
        self.check(fill(make_repository(place, cache_dir=tmp_path / "cache")), level, capsys)
        self.check(Repository(place, cache_dir=tmp_path / "elsewhere"), level, capsys)

    def test_bucket_in_a_folder(self, tmp_path, level, capsys):
        self.check(fill(make_repository((tmp_path / "bucket").as_uri(), cache_dir=tmp_path / "cache")), level, capsys)

    def test_bucket_in_s3(self, s3_url, s3_options, tmp_path, level, capsys):
        place = f"{s3_url}/{level}"
        repository = make_repository(place, storage_options=s3_options, cache_dir=tmp_path / "cache")
        self.check(fill(repository, big=False), level, capsys)


def test_staged_changes_are_no_damage(healthy):
    writer = healthy.checkout(write=True)
    writer["shared", 99] = noise(99)
    assert healthy.fsck() == []
    writer.close()
    assert healthy.fsck() == []


@pytest.mark.parametrize("level", ["all", "records"])
def test_renamed_altered_and_empty_columns_merged_from_two_branches(healthy, level):
    writer = healthy.checkout(write=True)
    writer.columns.rename("shared", "pictures")
    writer.columns.alter("pictures", dtype=np.int16)
    writer.add_ndarray_column("empty", shape=(4,), dtype=np.int8)
    writer.commit("renamed, altered, and an empty column")
    writer.columns.alter("pictures", variable_shape=True)
    writer.commit("of variable shape, for which no row changes")
    writer.close()
    healthy.create_branch("side")
    writer = healthy.checkout(write=True, branch="side")
    writer["pictures"][1000] = np.arange(9, dtype=np.int16)
    del writer["labels"][0]
    writer.commit("on the side")
    writer.close()
    writer = healthy.checkout(write=True, branch="master")
    writer["pictures"][2000] = np.arange(200, dtype=np.int16)
    writer.commit("on master")
    assert writer.merge("both", "side")
    writer.close()
    assert healthy.fsck(level=level) == []


def test_a_clone_in_parts_of_a_bucket_in_s3(clone):
    for kept in (3, 7):
        checkout = clone.checkout()
        assert np.array_equal(checkout["images", kept], picture(kept))
        checkout.close()
        (finding,) = clone.fsck()
        assert (finding.kind, finding.is_damage) == ("remote", False)
        assert "samples are not on this machine" in finding.message
    assert clone.fsck(fetch=True) == []


def test_a_clone_in_parts_of_a_bucket_in_memory(healthy, tmp_path):
    address = f"memory://{tmp_path.name}-partial"
    healthy.remote.add("origin", address)
    healthy.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Test User", "test@example.org", address)
    checkout = clone.checkout()
    assert checkout["labels", 3] == "label 3"
    checkout.close()
    assert {finding.kind for finding in clone.fsck()} == {"remote"}
    assert clone.fsck(fetch=True) == []
