"""A purge and everybody else: clones, remotes, other machines, writers, collections and repacks."""

from __future__ import annotations

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import open_store
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import (
    GarbageCollectionError,
    InvalidArgumentError,
    InvalidSampleError,
    PurgedError,
    SampleNotFoundError,
)
from tests.repository.making import add_commit, make_repository, noise
from tests.repository.purging import REASON, check_purged, contents, everywhere, holders, local_files, objects_of


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol beside writers, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.3)


@pytest.fixture
def open_bucket(s3_url, s3_options, tmp_path):
    """Opens one bucket of thirty small samples and three large ones, as if on a machine of the given name."""
    maker = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "maker")
    add_commit(maker, {n: noise(n, 300) for n in range(30)})
    add_commit(maker, {n: noise(n, 20_000) for n in range(3)}, column="large")
    writer = maker.checkout(write=True)
    writer.add_str_column("text").update({n: f"{n:02}: too long to stand for itself in history" for n in range(30)})
    writer.commit("text")
    writer.close()
    return lambda machine: Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / machine)


def cloned(place, url, options):
    made = Repository(place, exists=False)
    made.clone("C", "c@example.org", url, storage_options=options)
    return made


def test_a_clone_made_before_takes_the_purge_over_when_it_fetches(open_bucket, s3_url, s3_options, tmp_path):
    clone = cloned(tmp_path / "clone", s3_url, s3_options)
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    before = contents(clone)
    report = open_bucket("one").purge(column="array", key=7, reason=REASON)
    (digest,) = report.digests
    open_bucket("one").purge(column="text", key=3, reason=REASON)
    assert holders(local_files(clone), noise(7, 300).tobytes(), digest)
    with pytest.warns(UserWarning, match="up to date"):
        clone.remote.fetch("origin", "master")
    assert holders(local_files(clone), noise(7, 300).tobytes(), digest) == []
    assert holders(local_files(clone), b"03: too long", digest) == []
    gone = {("array", 7), ("text", 3)}
    check_purged(before, contents(Repository(clone.path)), gone)
    assert clone.verify_repo_integrity()
    check_purged(before, contents(Repository(clone.path, offline=True)), gone)


def test_a_clone_with_parts_takes_the_purge_over(open_bucket, s3_url, s3_options, tmp_path):
    clone = cloned(tmp_path / "clone", s3_url, s3_options)
    checkout = clone.checkout()
    assert checkout["array"][7].tobytes() == noise(7, 300).tobytes()
    assert checkout["large"][1].tobytes() == noise(1, 20_000).tobytes()
    checkout.close()
    one = open_bucket("one")
    small, large = (one.purge(column=c, key=k, reason=REASON).digests[0] for c, k in (("array", 7), ("large", 1)))
    with pytest.warns(UserWarning, match="up to date"):
        clone.remote.fetch("origin", "master")
    assert holders(local_files(clone), noise(7, 300).tobytes(), small) == []
    assert holders(local_files(clone), noise(1, 20_000).tobytes(), large) == []
    checkout = Repository(clone.path, storage_options=s3_options).checkout()
    assert checkout["array"][8].tobytes() == noise(8, 300).tobytes()
    for column, key in (("array", 7), ("large", 1)):
        with pytest.raises(PurgedError, match=REASON):
            checkout[column][key]
    checkout.close()


def test_a_clone_made_afterwards_reads_and_fetches_all_else(open_bucket, s3_url, s3_options, tmp_path):
    before = contents(open_bucket("zero"))
    open_bucket("one").purge(column="array", key=7, reason=REASON)
    open_bucket("one").purge(column="large", key=1, reason=REASON)
    open_bucket("one").purge(column="text", key=3, reason=REASON)
    gone = {("array", 7), ("large", 1), ("text", 3)}
    clone = cloned(tmp_path / "clone", s3_url, s3_options)
    check_purged(before, contents(clone), gone)
    with pytest.warns(UserWarning, match="3 purged samples are left out"):
        clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    with pytest.raises(PurgedError, match=REASON):
        clone.remote.fetch_data_sample("origin", "array", 7, branch="master")
    check_purged(before, contents(Repository(clone.path, offline=True)), gone)
    assert clone.verify_repo_integrity()


def test_a_clone_with_parts_alone_says_where_to_purge(open_bucket, s3_url, s3_options, tmp_path):
    clone = cloned(tmp_path / "clone", s3_url, s3_options)
    before = contents(clone)
    for column, key in (("array", 7), ("text", 3)):
        with pytest.raises(InvalidArgumentError, match="not in this clone as a whole.* Purge it in the remote"):
            clone.purge(column=column, key=key, reason=REASON)
    assert contents(clone) == before
    assert clone._storage.store.list_children("purged") == []


def test_a_purge_here_changes_nothing_in_the_remotes(s3_url, s3_options, tmp_path):
    repository = make_repository(tmp_path / "repository")
    add_commit(repository, {n: noise(n, 300) for n in range(30)})
    repository.remote.add("origin", s3_url, storage_options=s3_options)
    repository.remote.push("origin", "master")
    before = contents(repository)
    (digest,) = repository.purge(column="array", key=7, reason=REASON).digests
    again = Repository(repository.path, storage_options=s3_options)
    check_purged(before, contents(again), {("array", 7)})
    assert holders(local_files(again), noise(7, 300).tobytes(), digest) == []
    assert contents(Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")) == before
    assert again.verify_repo_integrity()
    add_commit(again, {100: noise(100, 300)})
    again.remote.push("origin", "master")
    assert (
        contents(Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")).items() > before.items()
    )


@pytest.mark.parametrize("repacked", [False, True])
def test_a_push_to_an_empty_bucket_says_there_what_was_purged(repacked, s3_url, s3_options, tmp_path):
    repository = make_repository(tmp_path / "repository")
    add_commit(repository, {n: noise(n, 300) for n in range(30)})
    writer = repository.checkout(write=True)
    writer.add_str_column("text").update({n: f"{n:02}: too long to stand for itself in history" for n in range(30)})
    writer.commit("text")
    writer.close()
    before = contents(repository)
    repository.purge(column="array", key=7, reason=REASON)
    repository.purge(column="text", key=3, reason=REASON)
    if repacked:
        repository.repack()
        repository.gc(grace=0, keep_reflog=0)
    repository.remote.add("origin", s3_url, storage_options=s3_options)
    repository.remote.push("origin", "master")
    there = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    check_purged(before, contents(there), {("array", 7), ("text", 3)})
    assert there.verify_repo_integrity()
    clone = cloned(tmp_path / "clone", s3_url, s3_options)
    check_purged(before, contents(clone), {("array", 7), ("text", 3)})
    assert clone.verify_repo_integrity()


def test_a_push_brings_nothing_purged_back(open_bucket, s3_url, s3_options, tmp_path):
    clone = cloned(tmp_path / "clone", s3_url, s3_options)
    clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    add_commit(clone, {100: noise(100, 300)})
    open_bucket("one").purge(column="array", key=7, reason=REASON)
    clone.remote.push("origin", "master")
    store = open_store(s3_url, s3_options)
    digest = store.list_children("purged")[0].removesuffix(".json")
    assert holders(objects_of(store), noise(7, 300).tobytes(), digest) == []
    found = read_one_by_one(open_bucket("two"), "array")
    assert found.pop(7) is None
    assert {key: value.tobytes() for key, value in found.items()} == {
        n: noise(n, 300).tobytes() for n in (*range(7), *range(8, 30), 100)
    }
    assert open_bucket("two").verify_repo_integrity()


def test_a_purged_value_written_in_a_clone_is_pushed_only_without_it(open_bucket, s3_url, s3_options, tmp_path):
    clone = cloned(tmp_path / "clone", s3_url, s3_options)
    add_commit(clone, {100: noise(7, 300), 101: noise(101, 300)})
    (digest,) = open_bucket("one").purge(column="array", key=7, reason=REASON).digests
    with pytest.raises(PurgedError, match="cannot be pushed to .*: the sample was purged at .*`fetch` takes the purge"):
        clone.remote.push("origin", "master")
    with pytest.warns(UserWarning, match="up to date"):
        clone.remote.fetch("origin", "master")
    clone.remote.push("origin", "master")
    assert holders(objects_of(open_store(s3_url, s3_options)), noise(7, 300).tobytes(), digest) == []
    found = read_one_by_one(open_bucket("two"), "array")
    assert [key for key, value in found.items() if value is None] == [7, 100]
    assert found[101].tobytes() == noise(101, 300).tobytes()
    assert open_bucket("two").verify_repo_integrity()


def read_one_by_one(repository, column):
    """The values of a column; None for those that were purged."""
    checkout = repository.checkout()
    found = {}
    for key in checkout[column]:
        try:
            found[key] = checkout[column][key]
        except PurgedError:
            found[key] = None
    checkout.close()
    return found


def test_a_purged_value_is_not_stored_again(open_bucket):
    repository = open_bucket("one")
    repository.purge(column="array", key=7, reason=REASON)
    writer = repository.checkout(write=True)
    with pytest.raises(InvalidSampleError, match="sample 500: the sample was purged .* not stored again"):
        writer["array"][500] = noise(7, 300)
    writer["array"][501] = noise(501, 300)
    with pytest.raises(InvalidSampleError, match="sample 503: the sample was purged .* not stored again"):
        writer["array"].update({502: noise(502, 300), 503: noise(7, 300)})
    assert not {500, 502, 503} & set(writer["array"])
    with pytest.raises(InvalidSampleError, match="sample 504: the sample was purged"), writer["array"] as column:
        column[504] = noise(7, 300)
    del writer["array"][504]
    writer.commit("goes on")
    writer.close()
    found = read_one_by_one(open_bucket("two"), "array")
    assert 501 in found
    assert not {500, 502, 503, 504} & found.keys()


def test_a_staging_area_can_be_reset_where_a_purged_value_waits_in_memory(open_bucket):
    repository = open_bucket("one")
    head = repository.checkout().commit_hash
    repository.purge(column="array", key=7, reason=REASON)
    writer = repository.checkout(write=True)
    with pytest.raises(InvalidSampleError, match="sample 500: the sample was purged"), writer["array"] as column:
        column[500] = noise(7, 300)
    assert writer.reset_staging_area() == head
    writer = repository.checkout(write=True)
    assert 500 not in writer["array"]
    writer.close()


def test_a_value_of_the_metadata_is_purged(open_bucket):
    repository = open_bucket("one")
    writer = repository.checkout(write=True)
    secret = "the owner can be reached under this address, which is long"
    writer.metadata.update({"contact": secret, "short": "no", "other": "some other text that is longer than 32 bytes"})
    writer.commit("metadata")
    writer.close()
    report = repository.purge(column="", key="contact", reason=REASON)
    assert [(sample.column, sample.key) for sample in report.samples] == [("", "contact")]
    assert holders(everywhere(repository), secret.encode(), report.digests[0]) == []
    metadata = open_bucket("two").checkout().metadata
    assert metadata["other"].startswith("some other text")
    with pytest.raises(PurgedError, match=REASON):
        metadata["contact"]
    with pytest.raises(SampleNotFoundError, match="metadata has no sample 'nix'"):
        repository.purge(column="", key="nix", reason=REASON)
    writer = repository.checkout(write=True)
    with pytest.raises(InvalidSampleError, match="^metadata, sample 'again': the sample was purged"):
        writer.metadata["again"] = secret
    writer.close()
    assert repository.verify_repo_integrity()


def test_gc_and_repack_go_on_and_lose_nothing(open_bucket):
    repository = open_bucket("one")
    for n in range(30):
        add_commit(repository, {1000 + n: noise(1000 + n, 300)})
    before = contents(repository)
    repository.purge(column="array", key=7, reason=REASON)
    repository.gc(grace=0, keep_reflog=0)
    check_purged(before, contents(open_bucket("two")), {("array", 7)})
    repository.repack()
    repository.gc(grace=0, keep_reflog=0)
    check_purged(before, contents(open_bucket("three")), {("array", 7)})
    assert repository.verify_repo_integrity()
    report = repository.purge(column="array", key=1005, reason=REASON)
    assert report.erased == 300
    check_purged(before, contents(open_bucket("four")), {("array", 7), ("array", 1005)})
    for number, digest in ((7, None), (1005, report.digests[0])):
        assert holders(everywhere(repository), noise(number, 300).tobytes(), digest or "00" * 32) == []
    assert repository.verify_repo_integrity()


def test_merges_and_diffs_across_a_purged_sample(open_bucket):
    repository = open_bucket("one")
    repository.create_branch("side")
    add_commit(repository, {40: noise(40, 300)}, branch="side")
    repository.purge(column="array", key=7, reason=REASON)
    add_commit(repository, {41: noise(41, 300)}, branch="master")
    assert {str(one.sample) for one in repository.diff("master", "side").diff.added.samples} == {"40"}
    repository.merge("both", "master", "side")
    found = read_one_by_one(open_bucket("two"), "array")
    assert [key for key, value in found.items() if value is None] == [7]
    assert {40, 41} <= found.keys()
    assert open_bucket("two").verify_repo_integrity()


def test_iterating_yields_what_comes_before_and_names_the_purged_sample(open_bucket):
    repository = open_bucket("one")
    repository.purge(column="array", key=7, reason=REASON)
    checkout = open_bucket("two").checkout()
    column = checkout["array"]
    assert list(column.keys()) == list(range(30))
    items = column.items()
    assert [next(items)[0] for _ in range(7)] == list(range(7))
    with pytest.raises(PurgedError, match="column 'array', sample 7: the sample was purged") as caught:
        next(items)
    assert (caught.value.column, caught.value.key, caught.value.reason) == ("array", 7, REASON)
    with pytest.raises(PurgedError, match="sample 7"):
        column.get_batch([1, 7, 2])
    assert column.get_batch([1, 2])[1].tobytes() == noise(2, 300).tobytes()
    assert column.get(7777, default=5) == 5
    checkout.close()


def test_a_writer_that_reused_a_pack_commits_once_it_was_rewritten(open_bucket):
    writer = open_bucket("writer").checkout(write=True)
    writer["array"][100] = noise(8, 300)
    writer["array"][101] = noise(101, 300)
    open_bucket("one").purge(column="array", key=7, reason=REASON)
    writer.commit("reused")
    writer.close()
    found = read_one_by_one(open_bucket("two"), "array")
    assert [key for key, value in found.items() if value is None] == [7]
    assert [found[key].tobytes() for key in (100, 101)] == [noise(n, 300).tobytes() for n in (8, 101)]
    assert open_bucket("two").verify_repo_integrity()


@pytest.mark.parametrize("known", [True, False])
def test_a_writer_that_staged_the_sample_before_it_was_purged_is_refused(open_bucket, known):
    repository = open_bucket("writer")
    writer = repository.checkout(write=True)
    if not known:
        writer._samples._index.find = lambda *_: {}
    writer["array"][100] = noise(7, 300)
    writer["array"][101] = noise(101, 300)
    (digest,) = open_bucket("one").purge(column="array", key=7, reason=REASON).digests
    for take_back in (True, False):
        with pytest.raises(InvalidSampleError, match="'array', sample 100: the sample was purged .* would come back"):
            writer.commit("too late")
        if take_back:  # its bytes are in the staged pack all the same
            del writer["array"][100]
    writer.reset_staging_area()
    writer = repository.checkout(write=True)
    writer["array"][101] = noise(101, 300)
    writer.commit("without it")
    writer.close()
    found = read_one_by_one(open_bucket("two"), "array")
    assert [key for key, value in found.items() if value is None] == [7]
    assert found[101].tobytes() == noise(101, 300).tobytes()
    assert holders(objects_of(repository._storage.store), noise(7, 300).tobytes(), digest) == []
    assert open_bucket("two").verify_repo_integrity()


def test_a_purge_that_a_collection_keeps_waiting_says_to_purge_again(open_bucket):
    repository = open_bucket("one")
    report = repository.purge(column="array", key=7, reason=REASON, dry_run=True)
    store = repository._storage.store
    store.put_if_absent(condemned.list_path(1), condemned.encode_list([]))
    store.put_if_absent(condemned.sweep_path(1), condemned.encode_note(called_off=False, host="another"))
    with pytest.raises(
        GarbageCollectionError, match=r"purge .* is deleting, or died at it; run purge again in \d+ sec"
    ):
        repository.purge(column="array", key=7, reason=REASON)
    store.put_if_absent(condemned.done_path(1), condemned.encode_note(ended="by the other"))
    repository.purge(column="array", key=7, reason=REASON)
    assert holders(everywhere(repository), noise(7, 300).tobytes(), report.digests[0]) == []
