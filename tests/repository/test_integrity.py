"""Integrity: healthy repositories of every kind give no finding, and every kind of damage that is planted gives one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Finding, Repository
from hangar_cloud.backends.packs import PACK_MAGIC, read_index
from hangar_cloud.catalog.commits import Commit, commit_path
from hangar_cloud.catalog.pointers import HINT_PATH, Pointer, pointer_path
from hangar_cloud.catalog.sealed_json import _checksum, canonical, seal, unseal
from hangar_cloud.errors import InvalidArgumentError
from tests.repository.forging import damage, flip, kinds, store_files, swap
from tests.repository.making import add_commit, files_of, make_repository


def noise(number, size=300):
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def fill(repository, *, big=True):
    """Two commits with inline and packed samples: small ones that share blocks, and one that has blocks of its own."""
    writer = repository.checkout(write=True)
    shared = writer.add_ndarray_column("shared", prototype=noise(0))
    shared.update({n: noise(n) for n in range(30)})
    labels = writer.add_str_column("labels")
    labels.update({n: f"label {n}" for n in range(30)})
    writer.metadata["licence"] = "CC0"
    writer.commit("first")
    many = writer.add_ndarray_column("many", shape=(3000, 2000), dtype=np.uint8, variable_shape=True)
    many["small"] = np.zeros((2, 2), np.uint8)
    if big:
        many["big"] = np.random.default_rng(9).integers(0, 256, (3000, 1500), np.uint8)
    shared[5] = noise(500)
    del labels[7]
    writer.commit("second")
    writer.close()
    return repository


@pytest.fixture
def healthy(tmp_path):
    return fill(make_repository(tmp_path / "repository"))


@pytest.fixture
def packs(healthy):
    """The files of its two packs."""
    found = store_files(healthy, "packs/*/*.pack")
    assert len(found) == 2
    return found


# ---------------------------------------------------------------- healthy


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


def test_another_level_is_refused(healthy):
    with pytest.raises(InvalidArgumentError, match="'all', 'records'"):
        healthy.fsck(level="some")


# ---------------------------------------------------------------- any object at all


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


# ---------------------------------------------------------------- packs


def extents_of(path):
    with path.open("rb") as file:
        return read_index(file)


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


# ---------------------------------------------------------------- names


def reseal(repository, path, **changes):
    """Change members of sealed JSON, with the right checksum."""
    store = repository._storage.store
    data = unseal(store.get(path), path)
    store.put(path, seal({**data, **changes}))


def test_a_missing_parent_names_its_child(healthy):
    second, first = healthy.log(return_contents=True)["order"]
    os.unlink(healthy._storage.store.local_path(commit_path(first)))
    (finding,) = damage(healthy)
    assert (finding.kind, finding.commit) == ("missing", first)
    assert second[:12] in finding.message


def test_a_commit_whose_contents_were_changed_with_the_checksum(healthy):
    head = healthy.log(return_contents=True)["head"]
    commit = healthy._storage.commit(head)
    healthy._storage.store.put(commit_path(head), dataclasses.replace(commit, message="another").encode())
    assert [(f.kind, f.commit) for f in damage(healthy)] == [("damaged", head)]


def test_a_commit_of_a_later_format_is_not_called_damaged(healthy):
    head = healthy.log(return_contents=True)["head"]
    data = json.loads(healthy._storage.store.get(commit_path(head)))
    del data["checksum"]
    data["format"] = 2
    text = canonical({**data, "checksum": _checksum(data)}) + b"\n"
    healthy._storage.store.put(commit_path(head), text)
    assert kinds(healthy) == {"unsupported"}


def test_a_root_that_lies_elsewhere_than_its_commit_says(healthy):
    """Places are not hashed, so only reading what is there can tell."""
    head = healthy.log(return_contents=True)["head"]
    path = commit_path(head)
    places = unseal(healthy._storage.store.get(path), path)["places"]
    for change in ({"offset": 1}, {"length": 2**50}, {"object": "00" * 16}, {"checksum": "0" * 16}, {"first": "0100"}):
        wrong = {**places, "labels": {**places["labels"], **change}}
        reseal(healthy, path, places=wrong)
        findings = damage(healthy)
        assert {finding.column for finding in findings} == {"labels"}, change
        reseal(healthy, path, places=places)
    assert healthy.fsck() == []


def test_a_gap_in_a_log(healthy):
    store = healthy._storage.store
    os.unlink(store.local_path(pointer_path("master", 1)))
    (finding,) = damage(healthy)
    assert (finding.kind, finding.object) == ("pointer", pointer_path("master", 1))
    assert "gap" in finding.message


def test_a_damaged_head_does_not_hide_what_is_behind_it(healthy, packs):
    flip(store_files(healthy, "refs/heads/master/0000000002.json")[0], 30)
    flip(next(pack for pack in packs if len(extents_of(pack)) == 1), 50)
    assert {finding.object.partition("/")[0] for finding in damage(healthy)} == {"refs", "packs"}


@pytest.mark.parametrize(
    "entry",
    [
        Pointer("master", 3, None, "commit", "", "", ""),
        Pointer("master", 3, "00" * 32, "explode", "", "", ""),
        Pointer("master", 3, "0", "commit", "", "", ""),
        Pointer("master", 3, "00" * 32, "delete", "", "", ""),
    ],
)
def test_a_pointer_that_says_what_none_may_say(healthy, entry):
    healthy._storage.store.put(pointer_path("master", 3), entry.encode())
    assert kinds(healthy) == {"pointer"}


def test_a_pointer_to_a_commit_that_is_not_there(healthy):
    healthy._storage.store.put(pointer_path("x", 0), Pointer("x", 0, "ab" * 32, "create", "", "", "").encode())
    (finding,) = damage(healthy)
    assert (finding.kind, finding.object) == ("missing", commit_path("ab" * 32))


@pytest.mark.parametrize(
    "hint",
    [b"", b"{", b"\xff", seal({"branches": 3}), seal({"branches": {"gone": 1}}), seal({"branches": {"master": 99}})],
)
def test_a_bad_hint_is_a_note(healthy, hint, capsys):
    healthy._storage.store.put(HINT_PATH, hint)
    (finding,) = healthy.fsck()
    assert finding.kind == "hint"
    assert not finding.is_damage
    assert healthy.verify_repo_integrity() is True
    assert capsys.readouterr().out.startswith("note: ")


def test_a_damaged_repository_file(healthy):
    flip(store_files(healthy, "hangar.json")[0], 20)
    assert [(f.kind, f.object) for f in damage(healthy)] == [("damaged", "hangar.json")]


def test_a_damaged_remote_tracking_branch(healthy, tmp_path):
    healthy.remote.add("origin", (tmp_path / "bucket").as_uri())
    healthy.remote.push("origin", "master")
    assert healthy.fsck() == []
    tracking = tmp_path / "repository/.hangar/remotes/origin/master.json"
    flip(tracking, 20)
    (finding,) = damage(healthy)
    assert finding.object == str(tracking)


# ---------------------------------------------------------------- what a finding is


def test_findings_are_data():
    finding = Finding("digest", "packs/00/x.pack", "images", ("a", 1), "ab" * 32, "not the same")
    assert str(finding) == "digest: not the same | column 'images' | sample ('a', 1) | commit abababababab | packs/00/x.pack"
    assert json.loads(json.dumps(finding._asdict()))["kind"] == "digest"
    assert str(Finding("remote", "", message="3 samples")) == "note: 3 samples"
    assert "metadata" in str(Finding("tree", "", column=""))


def test_a_commit_is_read_once_however_many_branches_reach_it(healthy, monkeypatch):
    for n in range(5):
        healthy.create_branch(f"b{n}")
    seen = []
    real = Commit.digest
    monkeypatch.setattr(Commit, "digest", lambda commit: seen.append(real(commit)) or real(commit))
    assert healthy.fsck() == []
    assert len(seen) == len(set(seen)) == 2


def test_a_store_that_cannot_be_written_is_verified(healthy, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(healthy.path, copy)
    repository = Repository(copy)
    monkeypatch.setattr("hangar_cloud.integrity.Path.mkdir", _refuse)
    monkeypatch.setattr("hangar_cloud.verified_packs.Path.open", _refuse_to_append)
    assert repository.fsck() == []


_open = Path.open


def _refuse(*_, **__):
    raise PermissionError("read-only")


def _refuse_to_append(path, mode="r", *more, **named):
    if "a" in mode and path.suffix == ".jsonl":
        raise PermissionError("read-only")
    return _open(path, mode, *more, **named)
