"""Garbage collection of a local repository: what nothing refers to goes, and nothing else."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import (
    CorruptDataError,
    GarbageCollectionError,
    HangarError,
    InvalidArgumentError,
    NotInitializedError,
    RefNotFoundError,
    WriterLockError,
)
from hangar_cloud.referring import alone_with_refs
from tests.repository.forging import flip, store_files
from tests.repository.making import (
    add_commit,
    files_of,
    finish,
    make_repository,
    noise,
    read_all,
    same_columns,
    start_process,
    wait_for_line,
)

ALL = {"grace": 0, "keep_reflog": 0}
DATA = ("commits", "records", "packs")


def objects(repository: Repository) -> dict[str, bytes]:
    """All commits, records and packs of a local repository."""
    found = files_of(Path(repository.path, ".hangar", "store"))
    return {name: data for name, data in found.items() if name.startswith(DATA)}


def make_older(repository: Repository, seconds: float) -> None:
    """Let everything in the store have been written some time ago."""
    for path in store_files(repository, "**/*"):
        status = path.stat()
        os.utime(path, (status.st_atime, status.st_mtime - seconds))


@pytest.fixture
def forked(tmp_path):
    """A repository with a deleted branch "side" beside master; what was master before, and the tip of side."""
    repository = make_repository(tmp_path / "forked")
    add_commit(repository, {n: noise(n) for n in range(5)})
    before = objects(repository)
    repository.create_branch("side")
    tip = add_commit(repository, {n: noise(n + 50) for n in range(3, 8)}, branch="side")
    repository.checkout(write=True, branch="master").close()
    repository.remove_branch("side", force_delete=True)
    return repository, before, tip


def test_what_only_a_deleted_branch_reached_goes_to_the_byte(forked):
    repository, before, _tip = forked
    content = read_all(repository)
    gone = objects(repository).keys() - before.keys()
    report = repository.gc(**ALL)
    assert objects(repository) == before
    assert set(report.names) == gone
    assert report.total.objects == len(gone) == sum(count.objects for count in report.removed.values())
    assert report.removed["commits"].objects == 1
    assert report.removed["packs"].bytes > 5 * 5000
    assert same_columns(read_all(repository), content)
    assert repository.verify_repo_integrity()
    assert repository.gc(**ALL).total == (0, 0)


def test_a_dry_run_tells_the_same_and_deletes_nothing(forked):
    repository, _, _ = forked
    before = files_of(repository.path)
    planned = repository.gc(True, **ALL)
    assert {n: d for n, d in files_of(repository.path).items() if not n.endswith(".lock")} == {
        n: d for n, d in before.items() if not n.endswith(".lock")
    }
    done = repository.gc(**ALL)
    assert (planned.names, planned.removed, planned.young) == (done.names, done.removed, done.young)
    assert planned.dry_run
    assert not done.dry_run
    assert "dry run: nothing was deleted" in repr(planned)
    assert "Would delete : 3 (" in repr(planned)
    assert "Deleted      : 3 (" in repr(done)


def test_a_deleted_branch_can_be_restored_until_its_time_is_over(forked):
    repository, _, tip = forked
    assert repository.gc(grace=0).total.objects == 0
    assert repository.gc(grace=0, keep_reflog=timedelta(hours=1)).total.objects == 0
    assert repository.restore_branch("side").digest == tip
    repository.remove_branch("side", force_delete=True)
    time.sleep(0.3)
    assert repository.gc(grace=0, keep_reflog=0.2).total.objects == 3
    with pytest.raises(RefNotFoundError, match=rf"commit {tip[:12]} is not in .* any more: .*\(gc\) removed it"):
        repository.restore_branch("side")
    with pytest.raises(ValueError, match=tip[:12]):
        repository.checkout(commit=tip)
    with pytest.raises(RefNotFoundError, match=rf"commit {tip[:12]} is not in .* any more: .*\(gc\) removed it"):
        repository.checkout(commit="side@{1}")
    with pytest.raises(RefNotFoundError, match=rf"commit {tip[:12]} is not in .* any more: .*\(gc\) removed it"):
        repository.checkout(branch="side", as_of=repository.reflog("side")[1].time)
    assert repository.reflog("side")[1].commit == tip


def test_a_commit_that_a_branch_was_at_long_ago_counts_from_when_it_was_left(tmp_path):
    repository = make_repository(tmp_path / "moved")
    first = add_commit(repository, {1: noise(1)})
    second = add_commit(repository, {2: noise(2)})
    time.sleep(0.4)
    repository.reset_branch("master", first)
    assert repository.gc(grace=0, keep_reflog=0.3).total.objects == 0
    assert repository.checkout(commit=second)["array"][2].tobytes() == noise(2).tobytes()
    time.sleep(0.4)
    assert repository.gc(grace=0, keep_reflog=0.3).removed["commits"].objects == 1
    assert repository.verify_repo_integrity()


def test_tags_keep_what_they_name(forked):
    repository, _, _tip = forked
    repository.restore_branch("side")
    repository.create_tag("kept", "side")
    repository.remove_branch("side", force_delete=True)
    assert repository.gc(**ALL).total.objects == 0
    assert 7 in read_all(repository, commit="kept")["array"]
    repository.delete_tag("kept")
    assert repository.gc(**ALL).total.objects == 3
    with pytest.raises(RefNotFoundError, match="any more"):
        repository.create_tag("again", "side@{1}")


def test_young_objects_stay_with_all_that_young_commits_refer_to(forked):
    repository, before, tip = forked
    report = repository.gc(keep_reflog=0)
    assert report.total.objects == 0
    assert report.young.objects == 3
    make_older(repository, 25 * 3600)
    (commit,) = store_files(repository, f"commits/{tip}.json")
    os.utime(commit)
    assert repository.gc(keep_reflog=0).young.objects == 3
    os.utime(commit, (0, time.time() - 25 * 3600))
    assert repository.gc(keep_reflog=0, grace=timedelta(hours=26)).total.objects == 0
    assert repository.gc(keep_reflog=0).total.objects == 3
    assert objects(repository) == before


def test_what_is_staged_or_stashed_stays(forked):
    repository, _, _ = forked
    writer = repository.checkout(write=True)
    writer["array", 100] = noise(53)  # which only the deleted branch holds: its pack is named again
    writer["array", 101] = noise(101)
    writer.stash("later")
    writer["array", 102] = noise(54)
    writer.close()
    report = repository.gc(**ALL)
    assert report.removed["packs"].objects == 0
    assert report.removed["commits"].objects == 1
    writer = repository.checkout(write=True)
    writer.commit("what was staged")
    writer.stash.pop("later")
    writer.commit("what was stashed")
    writer.close()
    found = read_all(repository)["array"]
    assert [found[key].tobytes() for key in (100, 101, 102)] == [noise(n).tobytes() for n in (53, 101, 54)]
    assert repository.gc(**ALL).total.objects == 0
    assert repository.verify_repo_integrity()


def test_the_base_of_a_stash_stays_though_its_branch_left_it(tmp_path):
    repository = make_repository(tmp_path / "stashed")
    first = add_commit(repository, {1: noise(1)})
    second = add_commit(repository, {2: noise(2)})
    writer = repository.checkout(write=True)
    writer["array", 3] = noise(3)
    writer.stash("later")
    writer.close()
    repository.reset_branch("master", first)
    assert repository.gc(**ALL).total.objects == 0
    assert repository.create_branch("back", second).digest == second
    writer = repository.checkout(write=True)
    writer.stash.pop()
    writer.commit("brought back")
    writer.close()
    assert sorted(read_all(repository)["array"]) == [1, 3]


def test_an_open_writer_keeps_it_out(forked):
    repository, _, _ = forked
    before = objects(repository)
    writer = repository.checkout(write=True)
    with pytest.raises(WriterLockError, match="only one writer checkout can be open"):
        repository.gc(**ALL)
    writer.close()
    assert objects(repository) == before


def test_a_reader_in_another_process_goes_on_reading(forked):
    repository, _, _ = forked
    reader = start_process(
        """
        import sys
        from hangar_cloud import Repository
        column = Repository(sys.argv[1]).checkout()["array"]
        print(column[0][0])
        input()
        print([int(column[key].sum()) for key in range(5)])
        """,
        repository.path,
    )
    wait_for_line(reader)
    assert repository.gc(**ALL).total.objects == 3
    assert finish(reader, "\n").strip() == str([int(noise(n).sum()) for n in range(5)])


def test_unknown_objects_are_left_alone_and_counted(forked):
    repository, _before, _ = forked
    strange = ["notes.txt", "packs/00/readme.md", "commits/draft.json", "packs/00/" + "1" * 32 + ".pack"]
    for name in strange:
        path = Path(repository.path, ".hangar", "store", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    report = repository.gc(**ALL)
    assert report.unknown == 4
    assert "Left alone   : 4 objects of unknown names" in repr(report)
    assert all(Path(repository.path, ".hangar", "store", name).exists() for name in strange)


def test_an_empty_repository_has_no_garbage(empty):
    assert empty.gc(**ALL).total == (0, 0)
    assert empty.gc(True).total == (0, 0)
    add_commit(empty, {1: noise(1)})
    assert len(read_all(empty)["array"]) == 1


def test_no_repository_no_collection(tmp_path):
    with pytest.raises(NotInitializedError, match="there is no Hangar repository"):
        Repository(tmp_path / "nothing", exists=False).gc()


@pytest.mark.parametrize("name", ["grace", "keep_reflog"])
@pytest.mark.parametrize("wrong", [-1, timedelta(seconds=-1), "1d", None, True, float("nan"), float("inf")], ids=repr)
def test_times_that_cannot_be_meant(forked, name, wrong):
    repository, _, _ = forked
    before = objects(repository)
    with pytest.raises(
        InvalidArgumentError, match=f"{name} must be a time: a datetime.timedelta or a number of seconds"
    ):
        repository.gc(**{**ALL, name: wrong})
    assert objects(repository) == before


@pytest.mark.parametrize("pattern", ["commits/*.json", "records/*.parquet"])
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_where_it_cannot_be_known_what_is_in_use_nothing_is_deleted(forked, pattern, how):
    repository, before, _ = forked
    path = next(p for p in store_files(repository, pattern) if str(p).endswith(tuple(before)))
    if how == "damaged":
        flip(path, 60)
    else:
        path.unlink()
    left = objects(repository)
    with pytest.raises(CorruptDataError, match=r"nothing was deleted. Run verify_repo_integrity") as caught:
        Repository(repository.path).gc(**ALL)
    assert isinstance(caught.value, HangarError)
    assert path.name in str(caught.value)
    assert objects(repository) == left


def test_a_pack_that_is_missing_stops_it_too(forked):
    repository, before, _ = forked
    path = next(p for p in store_files(repository, "packs/*/*.pack") if str(p).endswith(tuple(before)))
    path.unlink()
    left = objects(repository)
    with pytest.raises(CorruptDataError, match=f"{path.name} is referred to and is missing"):
        repository.gc(**ALL)
    assert objects(repository) == left


def test_damage_in_what_is_garbage_does_no_harm(forked):
    repository, before, _ = forked
    for path in store_files(repository, "*/**/*"):
        if (path.parts[-2] in DATA or path.suffix == ".pack") and not str(path).endswith(tuple(before)):
            flip(path, 60)
    assert repository.gc(**ALL).total.objects == 3
    assert objects(repository) == before


def test_a_damaged_pointer_stops_it(forked):
    repository, _, _ = forked
    left = objects(repository)
    flip(store_files(repository, "refs/heads/master/*.json")[-1], 40)
    with pytest.raises(CorruptDataError, match="pointer 1 of branch 'master' is damaged"):
        Repository(repository.path).gc(**ALL)
    assert objects(repository) == left


def test_a_clone_keeps_what_it_has_and_reads_what_it_has_not(clone, tmp_path):
    clone.checkout()["images"][3]
    clone.create_branch("mine")
    mine = add_commit(clone, {n: noise(n + 900) for n in range(4)}, column="images", branch="mine")
    clone.create_branch("gone")
    add_commit(clone, {n: noise(n + 950) for n in range(4)}, column="images", branch="gone")
    clone.checkout(write=True, branch="mine").close()
    clone.remove_branch("gone", force_delete=True)
    report = clone.gc(**ALL)
    assert report.removed["commits"].objects == 1
    assert report.removed["packs"].objects == 1
    found = read_all(clone, commit=mine)["images"]
    assert found[2].tobytes() == noise(902).tobytes()
    assert found[199].tobytes() == noise(199).tobytes()
    assert clone.checkout(branch="origin/master")["images"][2].tobytes() == noise(2).tobytes()


def test_a_remote_tracking_branch_keeps_its_commits(clone):
    head = clone.checkout(branch="origin/master").commit_hash
    clone.create_branch("mine")
    add_commit(clone, {"x": noise(5)}, column="images", branch="mine")
    clone.remove_branch("master", force_delete=True)
    clone.gc(**ALL)
    assert clone.checkout(branch="origin/master").commit_hash == head


def test_offline_it_asks_nobody(clone):
    offline = Repository(clone.path, offline=True)
    clone.create_branch("gone")
    add_commit(clone, {"x": noise(5)}, column="images", branch="gone")
    clone.checkout(write=True, branch="master").close()
    clone.remove_branch("gone", force_delete=True)
    assert offline.gc(**ALL).removed["commits"].objects == 1


def test_a_value_that_was_collected_is_stored_anew(forked):
    repository, _, _ = forked
    repository.gc(**ALL)
    add_commit(repository, {200: noise(53), 201: noise(1)})
    found = Repository(repository.path).checkout()["array"]
    assert np.array_equal(found[200], noise(53))
    assert repository.verify_repo_integrity()


def test_a_fetch_or_a_new_name_waits_for_it(forked, monkeypatch):
    repository, _, tip = forked
    monkeypatch.setattr("hangar_cloud.referring._LOCK_SECONDS", 0.2)
    with alone_with_refs(repository._storage):
        for blocked in (
            lambda: repository.create_branch("late", tip),
            lambda: repository.create_tag("late", tip),
            lambda: repository.restore_branch("side"),
            lambda: Repository(repository.path).gc(),
        ):
            with pytest.raises(GarbageCollectionError, match="in another process holds its branches"):
                blocked()
    assert repository.create_branch("late", tip).digest == tip
