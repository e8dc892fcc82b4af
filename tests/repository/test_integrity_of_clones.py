"""Integrity where not everything is here: clones, and remotes that do not answer."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import StoreUnavailableError
from tests.repository.filling import fill, noise
from tests.repository.forging import damage, flip, kinds, store_files
from tests.repository.making import add_commit, files_of, make_repository


@pytest.fixture
def bucket(tmp_path):
    """URL of a folder that a repository was pushed to."""
    address = (tmp_path / "bucket").as_uri()
    source = fill(make_repository(tmp_path / "source"), big=False)
    source.remote.add("origin", address)
    source.remote.push("origin", "master")
    return address


@pytest.fixture
def clone(bucket, tmp_path):
    """A clone that holds no records and no samples."""
    made = Repository(tmp_path / "clone", exists=False)
    made.clone("Test User", "test@example.org", bucket)
    return made


def notes(repository, **how):
    findings = repository.fsck(**how)
    assert not any(finding.is_damage for finding in findings), findings
    return [(finding.kind, finding.message) for finding in findings]


@pytest.mark.parametrize("level", ["all", "records"])
def test_a_clone_without_data_has_notes_and_fetches_nothing(clone, level, capsys):
    before = files_of(clone._storage.root)
    ((kind, message),) = notes(clone, level=level)
    assert kind == "remote"
    assert "records of 121 samples" in message
    assert "a remote has them" in message
    assert files_of(clone._storage.root) == before
    assert clone.verify_repo_integrity(level=level) is True
    assert capsys.readouterr().out.splitlines()[-1].startswith("note: the records")


def test_a_clone_with_some_samples_counts_the_others(clone):
    checkout = clone.checkout()
    assert np.array_equal(checkout["shared", 5], noise(500))
    assert checkout["labels", 3] == "label 3"
    checkout.close()
    found = notes(clone)
    assert any("samples are not on this machine" in message for _, message in found)


def test_a_clone_with_all_data_has_nothing_to_note(clone):
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    assert clone.fsck() == []


def test_damage_in_what_a_clone_holds_is_damage_though_a_remote_has_it(clone):
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    for pack in store_files(clone, "packs/*/*"):
        flip(pack, 40)
    assert kinds(clone) >= {"damaged"}


def test_damage_in_a_file_of_parts_is_the_same_as_a_hole(clone):
    checkout = clone.checkout()
    checkout["shared", 5]
    checkout.close()
    for path in (clone._storage.root / "partial").rglob("*"):
        if path.is_file():
            flip(path, path.stat().st_size - 20)
            flip(path, path.stat().st_size // 2)
    assert notes(clone)


@pytest.mark.parametrize("what", ["packs", "records"])
@pytest.mark.parametrize("level", ["all", "records"])
def test_what_neither_clone_nor_remote_has_is_missing(clone, tmp_path, what, level):
    checkout = clone.checkout()
    if what == "packs":
        list(clone._storage.nodes.leaves(clone._storage.commit(checkout.commit_hash).columns["shared"].root))
        assert checkout["labels", 3] == "label 3"
        assert 5 in checkout["shared"]
    checkout.close()
    shutil.rmtree(tmp_path / "bucket" / what)
    assert kinds(clone, level=level) == {"missing"}


def test_a_pack_lost_from_a_repository_whose_remote_never_had_it(bucket, tmp_path):
    source = Repository(tmp_path / "source")
    add_commit(source, {"mine": noise(77)}, column="late")
    (lost,) = set(store_files(source, "packs/*/*")) - {
        source._storage.root / "store" / path.relative_to(tmp_path / "bucket")
        for path in (tmp_path / "bucket").glob("packs/*/*")
    }
    lost.unlink()
    assert [(f.kind, f.column, f.key) for f in damage(source)] == [("missing", None, None), ("missing", "late", "mine")]


def test_a_pack_lost_that_the_remote_has_is_a_note(bucket, tmp_path):
    source = Repository(tmp_path / "source")
    for pack in store_files(source, "packs/*/*"):
        pack.unlink()
    ((kind, message),) = notes(source)
    assert kind == "remote"
    assert message.startswith("31 samples are not on this machine")


def test_a_remote_that_is_gone_or_may_not_be_asked(bucket, clone, tmp_path):
    offline = Repository(tmp_path / "clone", offline=True)
    ((_, message),) = notes(offline)
    assert "no remote could be asked" in message
    shutil.rmtree(tmp_path / "bucket")
    assert kinds(clone) == {"missing"}


def test_a_remote_that_does_not_answer_is_no_damage(clone, monkeypatch):
    def silent(*_):
        raise StoreUnavailableError("no network")

    clone._storage.wrap_remote("origin", lambda store: store)
    monkeypatch.setattr(clone._storage.remote_store("origin"), "stat", silent)
    ((_, message),) = notes(clone)
    assert "no remote could be asked" in message


def test_a_remote_tracking_branch_is_a_head_too(bucket, clone, tmp_path):
    source = Repository(tmp_path / "source")
    source.create_branch("side")
    digest = add_commit(source, {"x": noise(3)}, column="late", branch="side")
    source.remote.push("origin", "side")
    clone.remote.fetch("origin", "side")
    flip(clone._storage.store.local_path(f"commits/{digest}.json"), 50)
    assert [(f.kind, f.commit) for f in damage(clone)] == [("damaged", digest)]


def test_fetching_checks_what_only_a_remote_has_and_keeps_nothing(clone):
    before = files_of(clone._storage.root)
    assert clone.fsck(fetch=True) == []
    assert clone.fsck(fetch=True, level="records") == []
    assert files_of(clone._storage.root) == before


@pytest.mark.parametrize("folder", ["packs", "records"])
def test_fetching_finds_damage_at_the_remote_and_says_where(clone, tmp_path, folder):
    path = next((tmp_path / "bucket" / folder).rglob("*.p*"))
    flip(path, 100)
    assert notes(clone), "without fetching, the remote is only asked what it has"
    findings = damage(clone, fetch=True)
    assert {finding.object.rpartition("/")[2] for finding in findings} == {path.name}
    assert all(f"(as read from {tmp_path / 'bucket'})" in finding.message for finding in findings)


def test_fetching_leaves_alone_what_is_here(clone, tmp_path):
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    shutil.rmtree(tmp_path / "bucket")
    assert clone.fsck(fetch=True) == []


def test_fetching_what_no_remote_has(clone, tmp_path):
    shutil.rmtree(tmp_path / "bucket" / "packs")
    findings = damage(clone, fetch=True)
    assert {finding.kind for finding in findings} == {"missing"}
    assert {finding.column for finding in findings} == {None, "shared"}


def test_fetching_is_refused_offline(clone, tmp_path):
    offline = Repository(tmp_path / "clone", offline=True)
    with pytest.raises(StoreUnavailableError, match="offline=True"):
        offline.fsck(fetch=True)


def test_a_damaged_pack_is_whole_again_once_it_is_deleted_and_fetched(clone):
    """What the documentation advises."""
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    pack = store_files(clone, "packs/*/*")[0]
    flip(pack, 40)
    (name,) = {finding.object for finding in damage(clone)}
    (clone._storage.root / "store" / name).unlink()
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    assert clone.fsck() == []
