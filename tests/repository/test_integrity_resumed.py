"""Integrity checks that were interrupted, and go on."""

from __future__ import annotations

import os
import signal
import time

import pytest

from hangar_cloud import Repository, pack_integrity
from hangar_cloud.backends.pack_check import check_contents
from hangar_cloud.backends.store import open_store
from tests.repository.filling import noise
from tests.repository.forging import damage, flip, kinds, store_files
from tests.repository.making import add_commit, finish, make_repository, start_process, wait_for_line


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
    real = check_contents

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


def test_a_pack_of_which_the_same_is_asked_under_another_key_is_not_read_again(many_packs, reads):
    done = interrupt(many_packs, reads, 5)
    n = next(n for n in range(6) if _pack_of(many_packs, n) == done[0])
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
    reads.clear()
    interrupt(many_packs, reads, 3)
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


KILLED = """
    import sys, time
    from hangar_cloud import Repository, pack_integrity

    def slowly(path, pack, asked, check=pack_integrity.check_contents):
        time.sleep(0.05)
        print(pack.hex(), flush=True)
        return check(path, pack, asked)

    pack_integrity.check_contents = slowly
    pack_integrity._AT_ONCE = 1
    print(Repository(sys.argv[1]).fsck())
"""


def test_a_check_that_was_killed_goes_on_in_the_next_process(many_packs):
    process = start_process(KILLED, many_packs.path)
    begun = [wait_for_line(process) for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    *second, verdict = finish(start_process(KILLED, many_packs.path)).split()
    assert verdict == "[]"
    # The one that it was at may have been finished, but not those before it be forgotten.
    assert not set(begun[:3]) & set(second)
    assert len(second) in (2, 3)
    assert not progress_file(many_packs).exists()


def test_what_changed_without_a_trace_is_found_by_starting_anew(many_packs, reads):
    """A disk that decays changes neither size nor time: an interrupted check believes for a week what it saw."""
    done = interrupt(many_packs, reads, 3)
    path = next(path for path in store_files(many_packs, "packs/*/*") if path.stem == done[0].hex())
    before = path.stat()
    flip(path, 40)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kinds(many_packs, resume=False) == {"damaged"}
    reads.clear()
    assert kinds(many_packs) == {"damaged"}, "as does every check after one that came to its end"
