"""Integrity where not everything is here: clones, buckets with caches, remotes that do not answer; and going on."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from hangar_cloud import Repository, pack_integrity
from hangar_cloud.backends.store import open_store
from hangar_cloud.errors import StoreUnavailableError
from tests.repository.forging import damage, flip, kinds, store_files
from tests.repository.making import add_commit, files_of, make_repository
from tests.repository.test_integrity import fill, noise


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


def held(repository):
    """The files of a repository without what reading commits may leave."""
    return files_of(repository._storage.root)


# ---------------------------------------------------------------- clones


@pytest.mark.parametrize("level", ["all", "records"])
def test_a_clone_without_data_has_notes_and_fetches_nothing(clone, level, capsys):
    before = held(clone)
    ((kind, message),) = notes(clone, level=level)
    assert kind == "remote"
    assert "records of 123 samples" in message
    assert "a remote has them" in message
    assert held(clone) == before
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
        5 in checkout["shared"]  # noqa: B015 - reads the records
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
    assert notes(source) if False else True


def test_a_pack_lost_that_the_remote_has_is_a_note(bucket, tmp_path):
    source = Repository(tmp_path / "source")
    for pack in store_files(source, "packs/*/*"):
        pack.unlink()
    ((kind, message),) = notes(source)
    assert kind == "remote"
    assert message.startswith("32 samples are not on this machine")


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


# ---------------------------------------------------------------- buckets


@pytest.fixture
def cached(tmp_path):
    """A repository in a bucket that is not on this disk, all of it cached on this machine."""
    return fill(make_repository(f"memory://{tmp_path.name}-cached", cache_dir=tmp_path / "cache"), big=False)


def test_a_bucket_is_read_itself_and_not_its_cache(cached):
    store = cached._storage.store
    for info in list(store.list("packs/")):
        data = bytearray(store.get(info.path))
        data[100] ^= 1
        store.put(info.path, bytes(data))
    assert "damaged" in kinds(cached)
    assert kinds(cached, level="records") == set()


@pytest.mark.parametrize("folder", ["packs/", "records/", "commits/"])
def test_an_object_gone_from_a_bucket_is_missing_though_it_is_cached(cached, folder):
    store = cached._storage.store
    store.delete([info.path for info in store.list(folder)])
    assert kinds(cached) == {"missing"}


@pytest.mark.parametrize("folder", ["packs/", "records/"])
def test_an_object_cut_short_in_a_bucket(cached, folder):
    store = cached._storage.store
    for info in list(store.list(folder)):
        store.put(info.path, store.get(info.path)[:-1])
    assert kinds(cached)
    assert kinds(cached, level="records")


def test_damage_in_a_cache_is_not_the_buckets(cached):
    for path in cached._storage.root.rglob("*.pack"):
        flip(path, 100)
    assert cached.fsck() == []


def test_an_offline_bucket_cannot_be_verified(cached, tmp_path):
    offline = Repository(cached.path, cache_dir=tmp_path / "cache", offline=True)
    with pytest.raises(StoreUnavailableError, match="offline=True"):
        offline.fsck()


def test_checking_a_bucket_leaves_nothing_on_this_machine(cached):
    before = held(cached)
    assert cached.fsck() == []
    assert held(cached) == before


def test_a_bucket_that_stops_answering_is_an_error_and_no_finding(cached, monkeypatch):
    def silent(*_, **__):
        raise StoreUnavailableError("no network")

    monkeypatch.setattr(cached._storage.store, "get_ranges", silent)
    with pytest.raises(StoreUnavailableError):
        cached.fsck()
    monkeypatch.undo()
    monkeypatch.setattr(cached._storage.store, "download", silent)
    with pytest.raises(StoreUnavailableError):
        cached.fsck()
    monkeypatch.undo()
    assert cached.fsck() == []


# ---------------------------------------------------------------- going on after an interruption


@pytest.fixture
def many_packs(tmp_path):
    """A local repository of six packs."""
    repository = make_repository(tmp_path / "many")
    for n in range(6):
        add_commit(repository, {n: noise(n)})
    return repository


@pytest.fixture
def reads(monkeypatch):
    """The packs read so far; raises KeyboardInterrupt at the one given as `reads.stop_at`."""

    class Reads(list):
        stop_at: int | None = None

    seen = Reads()
    real = pack_integrity.check_contents

    def counted(path, pack, asked):
        if seen.stop_at is not None and len(seen) >= seen.stop_at:
            raise KeyboardInterrupt
        seen.append(pack)
        return real(path, pack, asked)

    monkeypatch.setattr(pack_integrity, "check_contents", counted)
    monkeypatch.setattr(pack_integrity, "_AT_ONCE", 1)
    return seen


def interrupt(repository, reads, after):
    reads.stop_at = after
    with pytest.raises(KeyboardInterrupt):
        repository.fsck()
    reads.stop_at = None
    done = list(reads)
    reads.clear()
    return done


def progress_file(repository):
    return repository._storage.root / "verified.jsonl"


def test_an_interrupted_check_goes_on_where_it_was(many_packs, reads):
    done = interrupt(many_packs, reads, 3)
    again = Repository(many_packs.path)
    assert again.fsck() == []
    assert len(reads) == 3
    assert not set(done) & set(reads)
    assert not progress_file(many_packs).exists()
    reads.clear()
    assert again.fsck() == []
    assert len(reads) == 6, "a check that came to its end is no reason to believe the disk"


def test_starting_anew_reads_everything(many_packs, reads):
    interrupt(many_packs, reads, 3)
    assert many_packs.fsck(resume=False) == []
    assert len(reads) == 6


def test_the_level_without_samples_keeps_what_was_verified(many_packs, reads):
    interrupt(many_packs, reads, 3)
    assert many_packs.fsck(level="records", resume=False) == []
    assert many_packs.fsck() == []
    assert len(reads) == 3


def test_a_pack_that_changed_is_read_again(many_packs, reads):
    done = interrupt(many_packs, reads, 3)
    path = next(path for path in store_files(many_packs, "packs/*/*") if path.stem == done[0].hex())
    flip(path, 40)
    assert "damaged" in kinds(many_packs)
    assert done[0] in reads


def test_a_pack_of_which_more_is_asked_is_read_again(many_packs, reads):
    interrupt(many_packs, reads, 6) if False else None
    done = interrupt(many_packs, reads, 5)
    n = next(n for n in range(6) if _pack_of(many_packs, n) == done[0])
    # The same bytes under another key ask for the same sample; as another type they would be stored anew.
    add_commit(many_packs, {100 + n: noise(n)})
    assert many_packs.fsck() == []
    assert done[0] not in reads


def _pack_of(repository, key):
    entry = repository._storage.commit(repository.log(return_contents=True)["head"]).columns["array"]
    return repository._storage.nodes.find(entry.root, entry.schema, key).place.pack


def test_a_damaged_pack_is_told_again_after_an_interruption(many_packs, reads):
    for path in store_files(many_packs, "packs/*/*"):
        flip(path, 40)
    interrupt(many_packs, reads, 3)
    assert len([finding for finding in damage(many_packs) if finding.key is None]) == 6


def test_old_or_damaged_progress_is_not_believed(many_packs, reads, monkeypatch):
    interrupt(many_packs, reads, 3)
    file = progress_file(many_packs)
    with file.open("a") as stream:
        stream.write('[1, "cut sho')
    assert many_packs.fsck() == []
    assert len(reads) == 3
    interrupt(many_packs, reads, 3) if False else None
    reads.clear()
    interrupt(many_packs, reads, 3)
    import time

    now = time.time()
    monkeypatch.setattr("hangar_cloud.verified_packs.time.time", lambda: now + 8 * 24 * 3600)
    assert many_packs.fsck() == []
    assert len(reads) == 6


def test_a_bucket_goes_on_too(tmp_path, reads):
    repository = make_repository(f"memory://{tmp_path.name}-resumed", cache_dir=tmp_path / "cache")
    for n in range(4):
        add_commit(repository, {n: noise(n)})
    interrupt(repository, reads, 2)
    assert repository.fsck() == []
    assert len(reads) == 2
    assert not list(repository._storage.root.glob("verify-*"))


def test_what_a_killed_check_left_is_removed_after_a_week(many_packs):
    root = many_packs._storage.root
    for name in ("verify-old", "verify-new"):
        (root / name).mkdir()
        (root / name / "00.samples").write_bytes(b"x")
    os.utime(root / "verify-old", (1, 1))
    assert many_packs.fsck() == []
    assert [path.name for path in root.glob("verify-*")] == ["verify-new"]


def test_other_remote_stores_are_not_needed(many_packs, tmp_path):
    many_packs.remote.add("nonsense", "gopher://x")
    assert many_packs.fsck() == []
    store_files(many_packs, "packs/*/*")[0].unlink()
    assert kinds(many_packs) == {"missing"}
    assert open_store(str(tmp_path)).can_list
