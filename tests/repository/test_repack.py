"""Repacking: many small objects become few, and nothing else changes."""

from __future__ import annotations

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.moves import moves_path
from hangar_cloud.catalog.moves_file import decode_moves
from hangar_cloud.errors import CorruptDataError
from hangar_cloud.repack_report import RepackReport
from tests.repository.making import add_commit, files_of, make_repository, noise, read_all, same_columns

ALL = {"grace": 0, "keep_reflog": 0}


def objects(repository: Repository, kind: str) -> dict[str, int]:
    """Sizes of a repository's packs or records, by name."""
    return {info.path: info.size for info in repository._storage.store.list(f"{kind}/")}


def moves_of(repository: Repository):
    """Every entry of a repository's log of moves."""
    names = [info.path for info in repository._storage.store.list("moves/")]
    return [decode_moves(repository._storage.store.get(moves_path(seq)), seq) for seq in range(len(names))]


def small_commits(repository: Repository, numbers, **options) -> dict[str, dict]:
    """One commit for each number; what each of them holds, by its digest."""
    digests = [add_commit(repository, {n: noise(n, 500)}, **options) for n in numbers]
    return {digest: read_all(repository, commit=digest) for digest in digests}


def assert_held(repository: Repository, held: dict[str, dict]) -> None:
    for digest, columns in held.items():
        assert same_columns(read_all(repository, commit=digest), columns)


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "repository")


def test_many_small_commits_become_one_pack_and_one_records_object_with_every_digest_as_it_was(repository):
    held = small_commits(repository, range(30))
    log = repository.log(return_contents=True)
    before = {kind: objects(repository, kind) for kind in ("packs", "records")}
    planned = repository.repack(dry_run=True)
    assert {kind: objects(repository, kind) for kind in ("packs", "records")} == before
    assert repository._storage.store.list_children("moves") == []
    report = repository.repack()
    assert report.merged == planned.merged
    assert report.before == report.merged
    assert {kind: count.objects for kind, count in report.merged.items()} == {"records": 30, "packs": 30}
    assert {kind: count.objects for kind, count in report.made.items()} == {"records": 1, "packs": 1}
    collected = repository.gc(**ALL)
    assert collected.total == report.freed
    for kind in ("packs", "records"):
        (size,) = objects(repository, kind).values()
        assert size == report.made[kind].bytes == report.after[kind].bytes
    fresh = Repository(repository.path)
    assert fresh.log(return_contents=True) == log
    assert_held(fresh, held)
    assert fresh.verify_repo_integrity()


def test_there_is_nothing_to_do_twice(repository):
    small_commits(repository, range(5))
    repository.repack()
    before = files_of(repository._storage.root / "store")
    for report in (repository.repack(), repository.repack(dry_run=True)):
        assert report.freed.objects == 0
        assert "Nothing to do" in repr(report)
    repository.gc(**ALL)
    assert repository.repack().freed.objects == 0
    after = files_of(repository._storage.root / "store")
    assert after.items() <= before.items()


@pytest.mark.parametrize("commits", [0, 1])
def test_there_is_nothing_to_do_with_one_small_object(repository, commits):
    small_commits(repository, range(commits))
    assert repository.repack() == RepackReport(False, before=repository.repack(dry_run=True).before)
    assert repository._storage.store.list_children("moves") == []


def test_what_was_repacked_is_repacked_again_with_what_came_since(repository):
    held = small_commits(repository, range(6))
    for start in (6, 8, 10):
        repository.repack()
        if start != 8:
            repository.gc(**ALL)
        held |= small_commits(repository, range(start, start + 2))
    repository.repack()
    repository.gc(**ALL)
    assert len(objects(repository, "packs")) == len(objects(repository, "records")) == 1
    assert len(moves_of(repository)) == 4
    fresh = Repository(repository.path)
    assert_held(fresh, held)
    assert fresh.verify_repo_integrity()


def test_dead_blocks_are_gone_to_the_byte(repository):
    add_commit(repository, {n: noise(n, 9000) for n in range(3)})
    repository.create_branch("side")
    for n in range(3, 6):
        add_commit(repository, {n: noise(n, 9000), -n + 100: noise(50 + n, 9000)}, branch="side")
    writer = repository.checkout(write=True, branch="master")
    for n in range(3, 6):
        writer["array", n] = noise(n, 9000)  # found in the packs of the other branch
    tip = writer.commit("half of each pack")
    writer.close()
    repository.remove_branch("side", force_delete=True)
    assert repository.gc(**ALL).removed["packs"].objects == 0
    held = {tip: read_all(repository, commit=tip)}
    repository.repack()
    repository.gc(**ALL)
    stored = b"".join(files_of(repository._storage.root / "store").values())
    assert all(noise(n, 9000).tobytes() in stored for n in range(6))
    assert not any(noise(50 + n, 9000).tobytes() in stored for n in range(3, 6))
    (size,) = objects(repository, "packs").values()
    assert size == 8 + 6 * (24 + 9000) + 6 * 16 + 32
    assert_held(Repository(repository.path), held)
    assert repository.verify_repo_integrity()


def test_a_pack_that_is_mostly_dead_is_copied_alone(repository):
    add_commit(repository, {0: noise(0, 9000)})
    repository.create_branch("side")
    add_commit(repository, {n: noise(n, 9000) for n in range(1, 9)}, branch="side")
    repository.create_branch("kept", repository.checkout(branch="master").commit_hash)
    add_commit(repository, {1: noise(1, 9000)}, branch="kept")
    repository.remove_branch("side", force_delete=True)
    repository.remove_branch("master", force_delete=True)
    repository.gc(**ALL)
    sizes = objects(repository, "packs")
    repository.repack()
    repository.gc(**ALL)
    assert sum(objects(repository, "packs").values()) < 2.1 * 9100 < max(sizes.values())
    assert same_columns(read_all(repository, branch="kept"), {"array": {0: noise(0, 9000), 1: noise(1, 9000)}})


def test_columns_of_many_kinds_and_metadata_come_back(repository):
    from tests.repository.filling import fill

    fill(repository)
    add_commit(repository, {n: noise(n, 400_000) for n in range(30)}, column="large")
    add_commit(repository, {n: noise(n, 9_000_000) for n in range(1)}, column="huge")
    before = read_all(repository)
    assert repository.repack().freed.objects > 4
    repository.gc(**ALL)
    fresh = Repository(repository.path)
    assert same_columns(read_all(fresh), before)
    assert fresh.verify_repo_integrity()
    assert repository.repack().freed.objects == 0


def test_what_was_deleted_and_collected_after_a_repack_can_be_written_again(repository):
    """The same samples make an object of the same name as the one that was moved and then collected."""
    first = add_commit(repository, {0: noise(0, 500)})
    repository.create_branch("side")
    old = small_commits(repository, [7, 8], branch="side")
    repository.repack()
    repository.checkout(write=True, branch="master").close()
    repository.remove_branch("side", force_delete=True)
    repository.gc(**ALL)
    repository.repack()
    repository.gc(**ALL)
    repository.create_branch("side", first)
    new = small_commits(repository, [7, 8], branch="side")
    assert_held(Repository(repository.path), new)
    repository.gc(**ALL)
    repository.repack()
    repository.gc(**ALL)
    repository.repack()
    repository.gc(**ALL)
    assert_held(Repository(repository.path), new)
    assert not old.keys() & new.keys()
    assert len(objects(repository, "packs")) == 1
    assert repository.verify_repo_integrity()


def test_staged_changes_and_stashes_find_what_they_reuse(repository):
    small_commits(repository, range(4))
    writer = repository.checkout(write=True)
    writer["array", 10] = noise(1, 500)
    writer.stash("away")
    writer["array", 11] = noise(2, 500)
    writer.close()
    repository.repack()
    repository.gc(**ALL)
    small = objects(repository, "packs")
    writer = repository.checkout(write=True)
    assert writer["array", 11].tobytes() == noise(2, 500).tobytes()
    writer.commit("staged before")
    writer.stash.pop("away")
    writer.commit("stashed before")
    writer.close()
    assert objects(repository, "packs") == small
    repository.repack()
    repository.gc(**ALL)
    found = read_all(Repository(repository.path))["array"]
    assert (found[10].tobytes(), found[11].tobytes()) == (noise(1, 500).tobytes(), noise(2, 500).tobytes())
    assert repository.verify_repo_integrity()


def test_samples_are_found_where_they_were_moved_to_and_not_stored_twice(repository):
    small_commits(repository, range(4))
    repository.repack()
    repository.gc(**ALL)
    packs = objects(repository, "packs")
    writer = Repository(repository.path).checkout(write=True)
    for n in range(4):
        writer["array", 20 + n] = noise(n, 500)
    writer.commit("again")
    writer.close()
    assert objects(repository, "packs") == packs
    repository.gc(**ALL)
    assert sorted(read_all(Repository(repository.path))["array"]) == [0, 1, 2, 3, 20, 21, 22, 23]


def test_an_open_writer_is_in_the_way(repository):
    small_commits(repository, range(2))
    writer = repository.checkout(write=True)
    with pytest.raises(PermissionError, match="only one writer checkout can be open"):
        repository.repack()
    writer.close()
    assert repository.repack().freed.objects == 4


def test_an_open_reader_reads_on(repository):
    held = small_commits(repository, range(5))
    readers = [repository.checkout(commit=digest) for digest in held]
    other = Repository(repository.path)
    other.repack()
    other.gc(**ALL)
    for reader, columns in zip(readers, held.values(), strict=True):
        assert same_columns({"array": dict(reader["array"].items())}, columns)


def test_damaged_bytes_are_not_copied_and_nothing_is_moved(repository):
    small_commits(repository, range(3))
    path = next(iter(objects(repository, "packs")))
    file = repository._storage.root / "store" / path
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(CorruptDataError, match=rf"{path}, bytes 8 to .* a block fails its checksum. Nothing was moved"):
        repository.repack()
    assert repository._storage.store.list_children("moves") == []
    assert list(repository._storage.root.glob(".hangar-tmp-*")) == []


class TestDamagedMoves:
    @pytest.fixture
    def moved(self, repository):
        small_commits(repository, range(3))
        repository.repack()
        repository.gc(**ALL)
        return repository, repository._storage.root / "store" / moves_path(0)

    def spoil(self, file):
        data = bytearray(file.read_bytes())
        data[30] ^= 255
        file.chmod(0o644)
        file.write_bytes(data)

    def test_reading_says_which_entry_is_damaged(self, moved):
        repository, file = moved
        self.spoil(file)
        with pytest.raises(CorruptDataError, match=r"moves/0000000000.parquet is damaged"):
            read_all(Repository(repository.path))

    def test_collections_and_repacks_do_nothing(self, moved):
        repository, file = moved
        before = objects(repository, "packs")
        self.spoil(file)
        for action in (lambda: repository.gc(**ALL), repository.repack):
            with pytest.raises(CorruptDataError, match=r"moves/0000000000.parquet is damaged"):
                action()
        assert objects(repository, "packs") == before

    def test_a_missing_entry_is_noticed_by_the_one_behind_it(self, moved):
        repository, file = moved
        small_commits(repository, range(3, 5))
        repository.repack()
        file.unlink()
        with pytest.raises(CorruptDataError, match=r"moves/0000000000.parquet is missing at "):
            repository.gc(**ALL)
        kinds = {(finding.kind, finding.object) for finding in repository.fsck()}
        assert ("missing", moves_path(0)) in kinds

    def test_an_integrity_check_tells(self, moved):
        repository, file = moved
        self.spoil(file)
        found = [finding for finding in repository.fsck() if finding.is_damage]
        assert ("damaged", moves_path(0)) in {(finding.kind, finding.object) for finding in found}
        assert "missing" in {finding.kind for finding in found}

    def test_an_integrity_check_tells_what_is_damaged_where_it_is_now(self, moved):
        repository, _ = moved
        (path,) = objects(repository, "packs")
        self.spoil(repository._storage.root / "store" / path)
        found = [finding for finding in repository.fsck() if finding.is_damage]
        assert {finding.object for finding in found} == {path}
        assert {"damaged"} == {finding.kind for finding in found}

    def test_an_integrity_check_tells_when_a_new_object_is_missing(self, moved):
        repository, _ = moved
        (path,) = objects(repository, "packs")
        (repository._storage.root / "store" / path).unlink()
        found = [finding for finding in repository.fsck() if finding.is_damage]
        assert ("missing", path) in {(finding.kind, finding.object) for finding in found}
        with pytest.raises(FileNotFoundError):
            read_all(repository)


def test_a_large_repack_is_recorded_in_many_entries(repository, monkeypatch):
    held = small_commits(repository, range(12))
    monkeypatch.setattr("hangar_cloud.backends.pack_writer.PACK_BYTES", 1500)
    monkeypatch.setattr("hangar_cloud.catalog.gathering.OBJECT_BYTES", 8000)
    monkeypatch.setattr("hangar_cloud.catalog.gathering.ENTRY_BYTES", 1)
    monkeypatch.setattr("hangar_cloud.repack._READ_EXTENTS", 2)
    report = repository.repack()
    assert report.made["packs"].objects == 3
    assert len(moves_of(repository)) > 4
    assert not list(repository._storage.root.glob("repack-*"))
    assert repository.gc(**ALL).total == report.freed
    assert_held(Repository(repository.path), held)
    assert repository.verify_repo_integrity()


def test_moves_that_do_not_fit_into_an_entry_go_into_several(repository, monkeypatch):
    held = small_commits(repository, range(8))
    monkeypatch.setattr("hangar_cloud.catalog.gathering._MOVES_AT_MOST", 2)
    monkeypatch.setattr("hangar_cloud.catalog.gathering._SEGMENTS_AT_MOST", 2)
    monkeypatch.setattr("hangar_cloud.catalog.gathering.MAX_MOVES", 3)
    monkeypatch.setattr("hangar_cloud.repack._READ_EXTENTS", 1)
    repository.repack()
    assert max(map(len, moves_of(repository))) <= 3
    assert repository.gc(**ALL).total.objects == 16
    assert_held(Repository(repository.path), held)
