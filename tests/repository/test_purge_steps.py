"""A purge that dies, is run again, is refused, or has others beside it."""

from __future__ import annotations

import json

import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import (
    ColumnNotFoundError,
    CorruptDataError,
    DirtyStagingError,
    InvalidArgumentError,
    InvalidNameError,
    RefNotFoundError,
    SampleNotFoundError,
    StoreUnavailableError,
    WriterLockError,
)
from tests.repository.making import add_commit, files_of, finish, make_repository, noise, start_process, wait_for_line
from tests.repository.purging import REASON, check_purged, contents, everywhere, holders
from tests.repository.stepping import Killed, step_through

LONG = "a sentence that is too long to stand for itself in history, and is kept in its record"
SECRET = noise(7, 300).tobytes()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol beside writers, shortened; a collection that died counts as over at once."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 0.0)


def fill(repository):
    add_commit(repository, {n: noise(n, 300) for n in range(10)})
    writer = repository.checkout(write=True)
    writer.add_str_column("text").update({n: f"{n}: {LONG}" for n in range(10)})
    writer.commit("text")
    writer.close()
    return repository


@pytest.fixture(params=["folder", "bucket"])
def opened(request, tmp_path):
    """Opens one repository of two columns, a bucket's as if on a machine of the given name."""
    place = tmp_path / "repository" if request.param == "folder" else (tmp_path / "bucket").as_uri()
    fill(make_repository(place, cache_dir=tmp_path / "maker"))
    return lambda machine: Repository(place, cache_dir=tmp_path / machine)


@pytest.fixture
def repository(opened):
    return opened("one")


@pytest.mark.parametrize(("column", "secret"), [("array", SECRET), ("text", f"7: {LONG}".encode())])
def test_a_process_may_die_before_any_change_and_a_second_purge_ends_it(tmp_path, column, secret):
    finished = False
    changes = 0
    while not finished:
        place = (tmp_path / f"bucket-{changes}").as_uri()

        def on(machine: str, place: str = place, number: int = changes) -> Repository:
            return Repository(place, cache_dir=tmp_path / f"{machine}-{number}")

        before = contents(fill(make_repository(place, cache_dir=tmp_path / f"maker-{changes}")))
        (digest,) = on("maker").purge(column=column, key=7, reason=REASON, dry_run=True).digests
        dying = on("maker")
        step_through(dying, kill_at_change(changes))
        try:
            dying.purge(column=column, key=7, reason=REASON)
            finished = True
        except Killed:
            changes += 1
        check_purged_or_whole(before, contents(on("reader")), column)
        assert on("verifier").verify_repo_integrity()
        again = on("maker")
        again.purge(column=column, key=7, reason=REASON)
        assert holders(everywhere(again), secret, digest) == []
        check_purged(before, contents(on("second")), {(column, 7)})
        assert again.verify_repo_integrity()
    assert changes >= 8


def kill_at_change(number):
    """Die before the request of a number, of those that change the store."""
    seen = []

    def before(step, operation, argument):
        if operation in ("put_if_absent", "upload", "delete"):
            seen.append(operation)
            if len(seen) > number:
                raise Killed(f"{operation} {argument}")

    return before


def check_purged_or_whole(before, after, column):
    purged = (
        {(column, 7)}
        if any(after[commit].get(column, {}).get(7) != before[commit].get(column, {}).get(7) for commit in before)
        else set()
    )
    check_purged(before, after, purged)


def test_a_second_purge_says_that_it_was_purged_before(repository):
    first = repository.purge(column="array", key=7, reason=REASON)
    assert first.before == []
    again = repository.purge(column="array", key=7, reason="another reason")
    assert (again.before, again.rewritten, again.erased) == (first.digests, [], 0)
    assert again.samples == first.samples
    assert "Purged before: 1 of 1" in repr(again)
    assert REASON in str(contents(repository)[again.commits[0]]["array"][7])


def test_a_dry_run_touches_nothing(repository):
    before = files_of(repository._storage.root), {i.path for i in repository._storage.store.list()}
    report = repository.purge(column="array", key=7, reason=REASON, dry_run=True)
    after = files_of(repository._storage.root), {i.path for i in repository._storage.store.list()}
    assert {n: d for n, d in after[0].items() if not n.endswith(".lock")} == {
        n: d for n, d in before[0].items() if not n.endswith(".lock")
    }
    assert after[1] == before[1]
    assert report.dry_run
    assert (report.branches, report.tags, len(report.commits)) == (["master"], [], 2)
    assert "dry run: nothing was changed" in repr(report)


def test_what_is_found_names_branches_tags_and_every_key(repository):
    repository.create_tag("v1")
    repository.create_branch("side")
    add_commit(repository, {70: noise(7, 300), 7: noise(700, 300)}, branch="side")
    report = repository.purge(column="array", key=7, commit="v1", reason=REASON, dry_run=True)
    assert [(one.key, len(one.commits)) for one in report.samples] == [(7, 2), (70, 1)]
    assert (report.branches, report.tags) == (["master", "side"], ["v1"])
    every = repository.purge(column="array", key=7, reason=REASON, dry_run=True)
    assert len(every.digests) == 2
    assert set(report.digests) < set(every.digests)


def test_a_commit_that_no_branch_reaches_is_purged_too(repository):
    repository.create_branch("side")
    tip = add_commit(repository, {80: noise(80, 300)}, branch="side")
    repository.checkout(write=True, branch="master").close()
    repository.remove_branch("side", force_delete=True)
    (digest,) = repository.purge(column="array", key=80, reason=REASON).digests
    assert holders(everywhere(repository), noise(80, 300).tobytes(), digest) == []
    repository.restore_branch("side")
    assert sorted(repository.checkout(commit=tip)["array"].keys()) == [*range(10), 80]
    assert repository.verify_repo_integrity()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({}, InvalidArgumentError, "give either digest=, or column= and key="),
        ({"column": "array"}, InvalidArgumentError, "give either digest="),
        ({"digest": "ab" * 32, "column": "array", "key": 1}, InvalidArgumentError, "give either digest="),
        ({"digest": "AB" * 32}, InvalidArgumentError, "64 hexadecimal digits"),
        ({"digest": "ab" * 32}, SampleNotFoundError, "no commit in .* has a sample of digest abab"),
        ({"digest": "ab" * 32, "commit": "master"}, InvalidArgumentError, "go with column="),
        ({"column": "array", "key": 77}, SampleNotFoundError, "column 'array' has no sample 77 at any commit"),
        ({"column": "array", "key": 7, "subkey": 1}, SampleNotFoundError, "no sample"),
        ({"column": "array", "key": "a b"}, InvalidNameError, "not suitable"),
        ({"column": "arrays", "key": 7}, ColumnNotFoundError, "has a column 'arrays'"),
        ({"column": 5, "key": 7}, InvalidArgumentError, "the name of a column"),
        ({"column": "array", "key": 7, "commit": "nowhere"}, RefNotFoundError, "nowhere"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(repository, wrong, error, message):
    before = {info.path for info in repository._storage.store.list()}
    with pytest.raises(error, match=message):
        repository.purge(**wrong, reason=REASON)
    assert {info.path for info in repository._storage.store.list()} == before


@pytest.mark.parametrize("reason", ["", "  ", None, 5, "two\nlines", "bell\a", "x" * 5000, "half \ud800"])
def test_a_reason_is_one_line_of_text(repository, reason):
    with pytest.raises(InvalidArgumentError, match="reason"):
        repository.purge(column="array", key=7, reason=reason)
    assert repository._storage.store.list_children("purged") == []


def test_uncommitted_changes_of_the_sample_are_in_the_way(repository):
    writer = repository.checkout(write=True)
    writer["array"][70] = noise(7, 300)
    if not repository._storage.is_bucket:
        with pytest.raises(WriterLockError):
            repository.purge(column="array", key=7, reason=REASON)
    writer.close()
    with pytest.raises(
        DirtyStagingError, match="is among the uncommitted changes of staging area 0 .* Nothing was purged"
    ):
        repository.purge(column="array", key=7, reason=REASON)
    writer = repository.checkout(write=True)
    writer.stash("later")
    writer.close()
    with pytest.raises(DirtyStagingError, match="of stash 'later'"):
        repository.purge(column="array", key=7, reason=REASON)
    writer = repository.checkout(write=True)
    writer.stash.drop("later")
    writer["array"][71] = noise(71, 300)
    writer.close()
    (digest,) = repository.purge(column="array", key=7, reason=REASON).digests
    assert holders(everywhere(repository), SECRET, digest) == []
    writer = repository.checkout(write=True)
    assert writer["array"][71].tobytes() == noise(71, 300).tobytes()
    writer.commit("was kept")
    writer.close()
    assert repository.verify_repo_integrity()


def test_a_damaged_pack_is_not_touched(repository, tmp_path):
    store = repository._storage.store
    (name,) = [info.path for info in store.list("packs/")]
    path = store.local_path(name)
    assert path is not None
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"What is in it cannot be told, so nothing was changed"):
        repository.purge(column="array", key=7, reason=REASON)
    assert store.list_children("purged") == []
    assert path.read_bytes() == data


def test_damaged_tombstones_excuse_nothing(repository):
    (digest,) = repository.purge(column="array", key=7, reason=REASON).digests
    path = repository._storage.store.local_path(f"purged/{digest}.json")
    assert path is not None
    text = path.read_bytes()
    path.write_bytes(text.replace(b"asked", b"axked"))
    kinds = {finding.kind for finding in repository.fsck() if finding.is_damage}
    assert "damaged" in kinds
    path.write_bytes(text)
    notes = list(repository.fsck())
    assert [(note.kind, note.message) for note in notes] == [
        ("purged", "1 sample of history was purged; reading one says when, by whom and why")
    ]


def test_an_offline_bucket_is_refused(tmp_path):
    place = (tmp_path / "bucket").as_uri()
    fill(make_repository(place, cache_dir=tmp_path / "one"))
    with pytest.raises(StoreUnavailableError, match="offline=True"):
        Repository(place, cache_dir=tmp_path / "one", offline=True).purge(column="array", key=7, reason=REASON)


def test_a_reader_meanwhile_sees_the_value_or_that_it_was_purged(s3_url, s3_options, tmp_path):
    repository = fill(make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "maker"))
    script = """
        import sys, json, itertools
        import numpy as np
        from hangar_cloud import Repository
        from hangar_cloud.errors import PurgedError
        url, options, cache = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
        wanted = {n: np.random.default_rng(n).integers(0, 256, 300, np.uint8).tobytes() for n in range(10)}
        after = 0
        for turn in itertools.count():
            checkout = Repository(url, storage_options=options, cache_dir=f"{cache}/{turn}").checkout()
            for key in range(10):
                try:
                    assert checkout["array"][key].tobytes() == wanted[key]
                    assert not (key == 7 and after)
                except PurgedError:
                    assert key == 7
                    after += 1
            checkout.close()
            if turn == 0:
                print("reading", flush=True)
            if after == 3:
                break
        print("done", turn)
    """
    reader = start_process(script, s3_url, json.dumps(s3_options), str(tmp_path / "caches"))
    assert wait_for_line(reader) == "reading"
    repository.purge(column="array", key=7, reason=REASON)
    assert "done" in finish(reader)
