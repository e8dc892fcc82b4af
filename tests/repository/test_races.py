"""Losing a race for a branch, and running the same work twice."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.errors import (
    CommitConflictError,
    HeadMovedError,
    InvalidArgumentError,
    InvalidNameError,
    MergeConflictError,
    NothingToCommitError,
)
from tests.repository.making import add_commit, finish, make_repository, noise, read_all, start_process

SAMPLE = np.arange(3, dtype=np.float32)


@pytest.fixture
def bucket(tmp_path, s3_url, s3_options):
    """A repository in S3 with one commit of ten samples in "array"."""
    repository = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    add_commit(repository, {number: SAMPLE + number for number in range(10)})
    return repository


@pytest.fixture
def rivals(bucket, s3_url, s3_options, tmp_path):
    """Two writers of one bucket, as if on two machines, both at the same commit."""
    options = {"storage_options": s3_options}
    other = Repository(s3_url, cache_dir=tmp_path / "other", **options)
    writers = bucket.checkout(write=True), other.checkout(write=True)
    yield writers
    for writer in writers:
        if writer._alive.open:
            writer.close()


def test_disjoint_changes_land_on_top_of_each_other(rivals, bucket):
    one, two = rivals
    one["array", 1] = SAMPLE
    two["array", 2] = SAMPLE * 2
    first = one.commit("one")
    second = two.commit("two")
    assert bucket.log(return_contents=True)["ancestors"][second] == [first]
    assert two["array", 1].tobytes() == SAMPLE.tobytes()


def test_fail_refuses_to_go_on_from_another_head(rivals):
    one, two = rivals
    one["array", 1] = SAMPLE
    two["array", 2] = SAMPLE * 2
    one.commit("one")
    with pytest.raises(
        HeadMovedError, match="on_conflict='fail' refuses to go on from there. Your staged changes are kept"
    ):
        two.commit("two", on_conflict="fail")
    assert two.diff.status() == "DIRTY"
    assert np.array_equal(two["array", 2], SAMPLE * 2)
    two.commit("two")
    assert np.array_equal(two["array", 1], SAMPLE)


def test_conflicts_raise_and_keep_what_is_staged(rivals):
    one, two = rivals
    one["array", 1] = SAMPLE * 7
    two["array", 1] = SAMPLE * 8
    two["array", 2] = SAMPLE * 9
    one.commit("one")
    with pytest.raises(
        CommitConflictError, match=r"column 'array' sample 1\b.*on_conflict='theirs'.*on_conflict='ours'"
    ):
        two.commit("two")
    assert np.array_equal(two["array", 1], SAMPLE * 8)
    assert np.array_equal(two["array", 2], SAMPLE * 9)


def test_a_conflict_of_metadata_is_called_that(rivals):
    one, two = rivals
    one.metadata["place"] = "north"
    two.metadata["place"] = "south"
    one.commit("one")
    with pytest.raises(CommitConflictError, match=r"what is staged here too: metadata sample 'place'\. Your"):
        two.commit("two")
    two.commit("two", on_conflict="ours")
    assert two.metadata["place"] == "south"


def test_what_is_advised_where_a_whole_column_is_gone_keeps_the_changes(rivals, bucket):
    one, two = rivals
    base = two.commit_hash
    one.columns.delete("array")
    two["array", 1] = SAMPLE * 8
    one.commit("without the column")
    advised = f"No on_conflict settles changes of whole columns.* a branch made from commit {base[:12]}, and commit"
    with pytest.raises(CommitConflictError, match=advised):
        two.commit("two", on_conflict="ours")
    two.stash("mine")
    two.close()
    bucket.create_branch("mine", base)
    writer = Repository._of(two._storage).checkout(write=True, branch="mine")
    writer.stash.pop("mine")
    writer.commit("kept")
    writer.close()
    assert np.array_equal(read_all(bucket, branch="mine")["array"][1], SAMPLE * 8)


@pytest.mark.parametrize(("strategy", "kept"), [("ours", 8), ("theirs", 7)])
def test_a_strategy_settles_samples(rivals, bucket, strategy, kept):
    one, two = rivals
    one["array", 1] = SAMPLE * 7
    del one["array"][5]
    two["array", 1] = SAMPLE * 8
    two["array", 2] = SAMPLE * 9
    two["array", 5] = SAMPLE * 10
    one.commit("one")
    digest = two.commit("two", on_conflict=strategy)
    found = read_all(bucket, commit=digest)["array"]
    assert np.array_equal(found[1], SAMPLE * kept)
    assert np.array_equal(found[2], SAMPLE * 9)
    assert (5 in found) == (strategy == "ours")
    assert two.diff.status() == "CLEAN"
    assert np.array_equal(two["array", 1], SAMPLE * kept)


def test_nothing_is_left_to_commit_where_theirs_win_all(rivals):
    one, two = rivals
    one["array", 1] = SAMPLE * 7
    two["array", 1] = SAMPLE * 8
    one.commit("one")
    with pytest.raises(NothingToCommitError):
        two.commit("two", on_conflict="theirs")
    assert np.array_equal(two["array", 1], SAMPLE * 7)


def test_a_function_settles_samples(rivals, bucket):
    one, two = rivals
    for writer, factor in ((one, 7), (two, 8)):
        for key in range(4):
            writer["array", key] = SAMPLE * factor + key
    del one["array"][9]
    two["array", 9] = SAMPLE
    one.commit("one")
    asked = []

    def decide(column, key, ancestor, ours, theirs):
        asked.append((column, key, theirs.exists))
        if key == 0:
            return theirs
        if key == 1:
            return ancestor
        if key == 2:
            return ours.get() + theirs.get()
        return ours

    digest = two.commit("two", on_conflict=decide)
    found = read_all(bucket, commit=digest)["array"]
    assert asked == [
        ("array", 0, True),
        ("array", 1, True),
        ("array", 2, True),
        ("array", 3, True),
        ("array", 9, False),
    ]
    assert np.array_equal(found[0], SAMPLE * 7)
    assert np.array_equal(found[1], SAMPLE + 1)
    assert np.array_equal(found[2], SAMPLE * 15 + 4)
    assert np.array_equal(found[3], SAMPLE * 8 + 3)
    assert np.array_equal(found[9], SAMPLE)


def test_a_function_that_refuses_or_fails_changes_nothing(rivals):
    one, two = rivals
    for writer, factor in ((one, 7), (two, 8)):
        for key in range(2):
            writer["array", key] = SAMPLE * factor
    one.commit("one")
    with pytest.raises(CommitConflictError, match="column 'array' sample 1"):
        two.commit("two", on_conflict=lambda column, key, ancestor, ours, theirs: theirs if key == 0 else None)
    with pytest.raises(ValueError, match="what on_conflict gave for column 'array', sample 0"):
        two.commit("two", on_conflict=lambda *_: np.zeros(5, np.float32))
    with pytest.raises(ZeroDivisionError):
        two.commit("two", on_conflict=lambda *_: 1 // 0)
    assert np.array_equal(two["array", 0], SAMPLE * 8)
    assert np.array_equal(two["array", 1], SAMPLE * 8)


def test_conflicts_about_columns_are_not_settled(rivals):
    one, two = rivals
    one.add_ndarray_column("new", shape=(2,), dtype=np.uint8)
    two.add_ndarray_column("new", shape=(3,), dtype=np.uint8)
    one.commit("one")
    with pytest.raises(CommitConflictError, match="column 'new'"):
        two.commit("two", on_conflict="ours")


@pytest.mark.parametrize(
    "wrong", [{"on_conflict": "merge"}, {"on_conflict": None}, {"attempts": 0}, {"attempts": True}, {"attempts": 1.5}]
)
def test_arguments_that_cannot_be_meant(rivals, wrong):
    rivals[0]["array", 1] = SAMPLE
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        rivals[0].commit("x", **wrong)


@pytest.mark.parametrize("key", ["", "  ", "x" * 121, "ü" * 61, 5, b"x", "\ud800"], ids=repr)
def test_idempotency_keys_that_are_not_suitable(rivals, key):
    rivals[0]["array", 1] = SAMPLE
    with pytest.raises(InvalidNameError, match="idempotency_key .* is not suitable: give text"):
        rivals[0].commit("x", idempotency_key=key)
    assert rivals[0].diff.status() == "DIRTY"


def test_a_lost_race_uploads_no_sample_again(bucket, s3_url, s3_options, tmp_path):
    setup = bucket.checkout(write=True)
    setup.add_ndarray_column("image", shape=(5_000,), dtype=np.uint8)
    setup.commit("a column")
    setup.close()
    other = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "other")
    two = other.checkout(write=True)
    for key in range(100):
        two["image", key] = noise(key)
    counting = CountingStore(other._storage.store)
    two._committer.publisher._store = counting
    pointers = two._committer._pointers
    real, races = pointers.move, iter(range(3))

    def move(*arguments, **named):
        race = next(races, None)
        if race is not None:
            add_commit(bucket, {1000 + race: SAMPLE})
        return real(*arguments, **named)

    pointers.move = move
    two.commit("late")
    two.close()
    sent = counting.bytes_sent
    assert 100 * 5_000 < sent < 1.2 * 100 * 5_000, sent
    assert len(read_all(bucket)["image"]) == 100
    assert {1000, 1001, 1002} <= set(read_all(bucket)["array"])


def test_attempts_are_limited(rivals, bucket):
    one, two = rivals
    one.close()
    two["array", 2] = SAMPLE
    pointers, races = two._committer._pointers, []
    real = pointers.move

    def move(*arguments, **named):
        races.append(add_commit(bucket, {1000 + len(races): SAMPLE}))
        return real(*arguments, **named)

    pointers.move = move
    with pytest.raises(HeadMovedError):
        two.commit("late", attempts=3)
    assert len(races) == 3
    pointers.move = real
    two.commit("late")


def test_work_with_a_key_is_done_once(bucket):
    writer = bucket.checkout(write=True)
    writer["array", 100] = SAMPLE
    digest = writer.commit("batch", idempotency_key="2026-11-21-batch-7")
    writer.close()
    assert bucket.find_commit("2026-11-21-batch-7") == digest
    assert bucket.find_commit("2026-11-21-batch-8") is None
    before = bucket.reflog("master")

    again = bucket.checkout(write=True)
    again["array", 100] = SAMPLE
    assert again.commit("batch", idempotency_key="2026-11-21-batch-7") == digest
    assert again.diff.status() == "CLEAN"
    assert again.commit("batch", idempotency_key="2026-11-21-batch-7") == digest, "nothing staged at all"
    again["array", 101] = SAMPLE
    later = again.commit("batch", idempotency_key="2026-11-21-batch-8")
    again["array", 102] = SAMPLE
    head = again.commit("no key")
    again["array", 101] = SAMPLE
    assert again.commit("batch", idempotency_key="2026-11-21-batch-7") == digest
    assert again.commit_hash == head
    again.close()
    assert len(bucket.reflog("master")) == len(before) + 2
    assert bucket.find_commit("2026-11-21-batch-8") == later
    assert list(read_all(bucket)["array"]) == [*range(10), 100, 101, 102]


def test_work_that_came_out_another_way_is_kept_aside(bucket):
    writer = bucket.checkout(write=True)
    writer["array", 100] = SAMPLE
    digest = writer.commit("batch", idempotency_key="k")
    writer["array", 100] = SAMPLE * 2
    with pytest.warns(UserWarning, match=r"did the work of idempotency_key 'k' before.*is kept in stash 'repeated-"):
        assert writer.commit("batch", idempotency_key="k") == digest
    assert np.array_equal(writer["array", 100], SAMPLE)
    assert writer.diff.status() == "CLEAN"
    (kept,) = writer.stash.list()
    writer.stash.pop(kept.name)
    assert np.array_equal(writer["array", 100], SAMPLE * 2)
    writer.close()


def test_two_jobs_of_one_key_at_once_do_it_once(rivals, bucket):
    one, two = rivals
    for writer in rivals:
        writer["array", 100] = SAMPLE
        writer["array", 3] = SAMPLE
    first = one.commit("batch", idempotency_key="k")
    assert two.commit("batch", idempotency_key="k") == first
    assert bucket.reflog("master")[0].commit == first


def test_a_lost_answer_is_found_by_the_next_run(bucket, s3_url, s3_options, tmp_path):
    """The job dies after its pointer landed, before it heard of it; it runs again on another machine."""
    job = """
        import sys, os, json
        import numpy as np
        from hangar_cloud import Repository
        repo = Repository(sys.argv[1], storage_options=json.loads(sys.argv[2]), cache_dir=sys.argv[3])
        writer = repo.checkout(write=True)
        for key in range(50, 60):
            writer["array", key] = np.full(3, key, np.float32)
        if sys.argv[4] == "die":
            log = writer._committer._pointers
            real = log.move
            log.move = lambda *a, **k: (real(*a, **k), os._exit(9))
        print(writer.commit("batch", idempotency_key="batch-50"))
    """
    import json

    process = start_process(job, s3_url, json.dumps(s3_options), str(tmp_path / "machine-1"), "die")
    process.communicate()
    assert process.returncode == 9
    landed = bucket.reflog("master", limit=1)[0].commit
    for machine in ("machine-2", "machine-1"):
        out = finish(start_process(job, s3_url, json.dumps(s3_options), str(tmp_path / machine), "live"))
        assert out.split()[-1] == landed
    assert bucket.reflog("master", limit=1)[0].commit == landed


def test_keys_go_with_the_history(tmp_path, s3_url, s3_options):
    """Pushed, cloned and merged with it, and gone where a branch is moved back."""
    repository = make_repository(tmp_path / "r", storage_options=s3_options)
    first = add_commit(repository, {0: SAMPLE})
    repository.create_branch("side")
    writer = repository.checkout(write=True, branch="side")
    writer["array", 1] = SAMPLE
    writer.metadata["licence"] = "CC0"
    batch = writer.commit("batch", idempotency_key="k")
    assert list(writer.metadata) == ["licence"]
    assert len(writer.metadata) == 1
    writer.close()
    assert repository.find_commit("k", "master") is None
    add_commit(repository, {2: SAMPLE}, branch="master")
    assert not repository.diff("master", "side").diff.added.metadata[1:]
    repository.merge("both", "master", "side")
    assert repository.find_commit("k", "master") == batch
    repository.remote.add("origin", s3_url)
    repository.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False, storage_options=s3_options)
    clone.clone("a", "a@b.c", s3_url)
    assert clone.find_commit("k") == batch
    clone.reset_branch("master", first)
    assert clone.find_commit("k") is None


def test_reserved_metadata_keys_are_ours(bucket):
    writer = bucket.checkout(write=True)
    writer["array", 1] = SAMPLE
    writer.commit("x", idempotency_key="k")
    with pytest.raises(InvalidNameError, match="keys that begin with '.hangar/' are ours"):
        writer.metadata[".hangar/idempotency/00"] = "x"
    assert len(writer.metadata) == 0
    assert list(writer.metadata.items()) == []
    key = next(iter(writer._metadata_column()))
    assert key not in writer.metadata
    assert writer.metadata.get(key) is None
    with pytest.raises(KeyError):
        writer.metadata[key]
    with pytest.raises(KeyError):
        del writer.metadata[key]
    writer.close()


@pytest.fixture
def clones(tmp_path, s3_url, s3_options):
    """Two clones of one bucket with one commit of three samples."""
    origin = make_repository(tmp_path / "origin", storage_options=s3_options)
    add_commit(origin, dict.fromkeys(range(3), SAMPLE))
    origin.remote.add("origin", s3_url)
    origin.remote.push("origin", "master")
    made = [Repository(tmp_path / name, exists=False, storage_options=s3_options) for name in ("a", "b")]
    for clone in made:
        clone.clone("a", "a@b.c", s3_url)
    return made


def test_a_push_that_lost_a_race_merges_and_goes_on(clones):
    one, two = clones
    first = add_commit(one, {10: SAMPLE})
    second = add_commit(two, {20: SAMPLE})
    one.remote.push("origin", "master")
    with pytest.raises(HeadMovedError, match="has commits that this one has not"):
        two.remote.push("origin", "master")
    assert two.remote.push("origin", "master", on_conflict="merge") == "master"
    head = two.checkout().commit_hash
    assert set(two.log(return_contents=True)["ancestors"][head]) == {first, second}
    one.remote.fetch("origin", "master")
    assert list(read_all(one, branch="origin/master")["array"]) == [0, 1, 2, 10, 20]


def test_a_push_settles_conflicts_where_it_is_told_to(clones):
    one, two = clones
    add_commit(one, {0: SAMPLE * 2})
    add_commit(two, {0: SAMPLE * 3})
    one.remote.push("origin", "master")
    with pytest.raises(MergeConflictError):
        two.remote.push("origin", "master", on_conflict="merge")
    two.remote.push("origin", "master", on_conflict="ours")
    one.remote.fetch("origin", "master")
    assert np.array_equal(read_all(one, branch="origin/master")["array"][0], SAMPLE * 3)


@pytest.mark.parametrize(
    "wrong",
    [{"on_conflict": "rebase"}, {"on_conflict": None}, {"attempts": 0}, {"force": True, "on_conflict": "merge"}],
)
def test_push_arguments_that_cannot_be_meant(clones, wrong):
    with pytest.raises(InvalidArgumentError):
        clones[0].remote.push("origin", "master", **wrong)


def test_a_push_with_nothing_to_push_still_warns_the_caller(clones):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clones[0].remote.push("origin", "master")
    assert [str(each.message).endswith("nothing to push") for each in caught] == [True]
    assert caught[0].filename == __file__
