"""Purges, writers, repacks and other purges of one bucket that meet at the worst moment."""

from __future__ import annotations

import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import InvalidSampleError
from tests.repository.making import add_commit, make_repository, noise
from tests.repository.purging import REASON, check_purged, contents, everywhere, holders
from tests.repository.stepping import step_through

SECRET = noise(7, 300).tobytes()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol beside writers, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.2)


@pytest.fixture
def opened(tmp_path):
    """Opens one bucket of two columns, as if on a machine of the given name."""
    place = (tmp_path / "bucket").as_uri()
    maker = make_repository(place, cache_dir=tmp_path / "maker")
    add_commit(maker, {n: noise(n, 300) for n in range(10)})
    add_commit(maker, {n: noise(n, 20_000) for n in range(3)}, column="large")
    return lambda machine: Repository(place, cache_dir=tmp_path / machine)


def once_before(repository, operation, beginning, action):
    """Do something right before the first request of a kind."""
    done = []

    def before(_, name, argument):
        if name == operation and str(argument).startswith(beginning) and not done:
            done.append(True)
            action()

    step_through(repository, before)
    return done


def stale_writer(repository):
    """A writer that has looked for purged samples, and finds no equal ones."""
    writer = repository.checkout(write=True)
    writer["array"][50] = noise(50, 300)
    writer._samples._index.find = lambda *_: {}
    return writer


def test_a_writer_that_commits_the_sample_just_before_the_tombstone(opened):
    writer = stale_writer(opened("writer"))
    writer["array"][100] = noise(7, 300)
    purging = opened("one")
    done = once_before(purging, "put_if_absent", "purged/", lambda: writer.commit("just in time"))
    (digest,) = purging.purge(column="array", key=7, reason=REASON).digests
    assert done
    writer.close()
    assert holders(everywhere(opened("one")), SECRET, digest) == []
    found = contents(opened("two"))
    (last,) = [columns["array"] for columns in found.values() if 100 in columns["array"]]
    assert REASON in str(last[100])
    assert last[50][2] == noise(50, 300).tobytes()
    assert opened("three").verify_repo_integrity()


@pytest.mark.parametrize("moment", [("upload", "packs/"), ("put_if_absent", "moves/"), ("delete", "['packs/")])
def test_a_writer_that_commits_the_sample_in_the_midst_of_it_is_refused(opened, moment):
    writer = stale_writer(opened("writer"))
    writer["array"][100] = noise(7, 300)
    refused = []

    def commit():
        with pytest.raises(InvalidSampleError, match="sample 100: the sample was purged"):
            writer.commit("too late")
        refused.append(True)

    purging = opened("one")
    once_before(purging, moment[0], moment[1], commit)
    (digest,) = purging.purge(column="array", key=7, reason=REASON).digests
    assert refused
    writer.close()
    assert holders(everywhere(opened("one")), SECRET, digest) == []
    assert opened("three").verify_repo_integrity()


def test_two_purges_that_record_moves_at_once(opened):
    before = contents(opened("zero"))
    purging = opened("one")
    other = opened("two")
    done = once_before(
        purging, "put_if_absent", "moves/", lambda: other.purge(column="array", key=8, reason=f"{REASON} too")
    )
    reports = [purging.purge(column="array", key=7, reason=REASON)]
    assert done
    for number, digest in ((7, reports[0].digests[0]), (8, "00" * 32)):
        assert holders(everywhere(opened("one")), noise(number, 300).tobytes(), digest) == []
    check_purged(before, contents(opened("three")), {("array", 7), ("array", 8)})
    assert opened("three").verify_repo_integrity()


def test_a_repack_in_the_midst_of_a_purge_brings_nothing_back(opened):
    for n in range(5):
        add_commit(opened("zero"), {200 + n: noise(200 + n, 300)})
    before = contents(opened("zero"))
    purging = opened("one")
    done = once_before(purging, "put_if_absent", "moves/", lambda: opened("two").repack())
    (digest,) = purging.purge(column="array", key=7, reason=REASON).digests
    assert done
    assert holders(everywhere(opened("one")), SECRET, digest) == []
    check_purged(before, contents(opened("three")), {("array", 7)})
    opened("one").gc(grace=0, keep_reflog=0)
    check_purged(before, contents(opened("four")), {("array", 7)})
    assert opened("three").verify_repo_integrity()


def test_a_purge_in_the_midst_of_a_repack(opened):
    for n in range(5):
        add_commit(opened("zero"), {200 + n: noise(200 + n, 300)})
    before = contents(opened("zero"))
    repacking = opened("one")
    reports = []
    done = once_before(
        repacking,
        "put_if_absent",
        "moves/",
        lambda: reports.append(opened("two").purge(column="array", key=7, reason=REASON)),
    )
    repacking.repack()
    assert done
    check_purged(before, contents(opened("three")), {("array", 7)})
    opened("two").purge(column="array", key=7, reason=REASON)
    assert opened("two").gc(grace=0, keep_reflog=0).total.objects >= 0
    assert holders(everywhere(opened("two")), SECRET, reports[0].digests[0]) == []
    check_purged(before, contents(opened("four")), {("array", 7)})
    assert opened("three").verify_repo_integrity()
