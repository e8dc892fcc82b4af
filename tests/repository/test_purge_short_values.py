"""Purging values of up to 32 bytes, which history hashes themselves: one key's goes, equal ones of other keys stay."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned
from hangar_cloud.catalog.tombstones import FOLDER, tombstone_path
from hangar_cloud.errors import DirtyStagingError, InvalidSampleError, PurgedError
from tests.repository.making import add_commit, files_of, make_repository, noise
from tests.repository.purging import REASON, check_purged, contents, everywhere, holders, local_files

NAME = "Ada King, b. 1815-12-10"
OTHER = "Charles Babbage, 1791"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol beside writers, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.3)


@pytest.fixture
def repository(opened):
    """Two commits of names, labels, short arrays of any shape, nested labels and metadata."""
    repository = opened("one")
    add_commit(repository, {n: noise(n, 300) for n in range(10)})
    writer = repository.checkout(write=True)
    names = writer.add_str_column("name")
    names.update(dict.fromkeys(range(5), OTHER))
    names.update({4711: NAME, "4711": OTHER, "twin": NAME, "long": NAME + ", and forty more characters than that"})
    writer.add_ndarray_column("label", prototype=np.array(0)).update({n: np.array(n % 3) for n in range(2000)})
    points = writer.add_ndarray_column("points", shape=(4,), dtype=np.uint8, variable_shape=True)
    points.update({n: np.arange(n % 4 + 1, dtype=np.uint8) for n in range(8)})
    nested = writer.add_bytes_column("codes", contains_subsamples=True)
    nested.update({n: {"a": b"secret%d" % n, 5: b"same", "none": b""} for n in range(4)})
    writer.metadata.update({"owner": NAME, "licence": "CC0"})
    writer.commit("short values")
    writer["label", 0] = np.array(7)
    writer["name", 1] = "somebody else"
    writer.commit("beside them")
    writer.close()
    return repository


@pytest.mark.parametrize(
    ("column", "key", "secret"),
    [
        ("name", "twin", None),
        ("points", 3, None),
        ("codes", (2, "a"), b"secret2"),
        ("codes", (2, "none"), None),
    ],
)
def test_one_keys_value_is_gone_and_equal_ones_of_other_keys_stay(opened, repository, column, key, secret):
    before = contents(repository)
    report = repository.purge(column=column, key=key, reason=REASON)
    assert {(sample.column, sample.key) for sample in report.samples} == {(column, key)}
    fresh = opened("two")
    check_purged(before, contents(fresh), {(column, key)})
    if secret is not None:
        assert holders(everywhere(repository), secret, report.digests[0]) == []
    assert fresh.verify_repo_integrity()
    assert fresh._storage.store.list_children("purged") == [f"{report.digests[0]}.json"]


def test_every_value_that_a_key_ever_had_goes(opened, repository):
    before = contents(repository)
    report = repository.purge(column="label", key=0, reason=REASON)
    assert len(report.digests) == 2
    check_purged(before, contents(opened("two")), {("label", 0)})
    again = repository.purge(column="label", key=0, reason=REASON)
    assert again.before == report.digests
    assert again.erased == 0
    assert again.rewritten == []
    assert [one.key for one in again.samples] == [0, 0]


def test_a_value_of_the_metadata_goes_and_its_bytes_with_it(opened, repository):
    writer = repository.checkout(write=True)
    for key in (4711, "twin", "long"):
        del writer["name"][key]
    writer.commit("without names")
    writer.close()
    for column, key in (("", "owner"), ("name", 4711), ("name", "twin"), ("name", "long")):
        repository.purge(column=column, key=key, reason=REASON)
    assert holders(everywhere(repository), NAME.encode(), "00" * 32) == []
    metadata = opened("two").checkout().metadata
    assert metadata["licence"] == "CC0"
    with pytest.raises(PurgedError, match=f"'owner'.*{REASON}"):
        metadata["owner"]


def test_by_its_digest_a_value_goes_under_every_key(opened, repository):
    from hangar_cloud.backends.values import STR_PREFIX, sample_digest

    before = contents(repository)
    report = repository.purge(digest=sample_digest(STR_PREFIX, NAME.encode()).hex(), reason=REASON)
    gone = {(sample.column, sample.key) for sample in report.samples}
    assert gone == {("", "owner"), ("name", 4711), ("name", "twin")}
    assert len(report.digests) == 3
    check_purged(before, contents(opened("two")), gone - {("", "owner")})
    assert repository.purge(digest=report.digests[0], reason=REASON).before == report.digests[:1]


def test_the_same_value_is_not_stored_again_under_that_key_but_under_others(repository):
    repository.purge(column="label", key=5, reason=REASON)
    writer = repository.checkout(write=True)
    with pytest.raises(InvalidSampleError, match=f"column 'label', sample 5: the sample was purged.*{REASON}"):
        writer["label", 5] = np.array(2)
    writer["label", 5] = np.array(1)
    writer["label", 9000] = np.array(2)
    writer.commit("another value")
    assert writer["label", 5] == 1
    assert writer["label", 9000] == 2
    writer.close()
    assert repository.verify_repo_integrity()


def test_what_is_staged_is_in_the_way(repository):
    writer = repository.checkout(write=True)
    writer["name", "new"] = NAME
    writer["name", 3] = NAME
    writer.close()
    repository.purge(column="name", key=4711, reason=REASON)
    with pytest.raises(DirtyStagingError, match=r"column 'name', sample 3, even if"):
        writer = repository.checkout(write=True)
        writer["name", 3] = OTHER
        writer.close()
        repository.purge(column="name", key=3, reason=REASON)


@pytest.mark.parametrize("opened", ["s3"], indirect=True)
def test_a_writer_that_staged_it_before_is_refused(opened, repository):
    writer = opened("writer").checkout(write=True)
    writer["label", 0] = np.array(0)
    repository.purge(column="label", key=0, reason=REASON)
    with pytest.raises(InvalidSampleError, match="column 'label', sample 0: .*staged before"):
        writer.commit("brings it back")
    writer.close()


def test_history_goes_on_after_it(opened, repository):
    base = repository.checkout().commit_hash
    repository.create_branch("side", base)
    repository.purge(column="label", key=4, reason=REASON)
    for branch, key in (("master", 3), ("side", 6)):
        writer = repository.checkout(write=True, branch=branch)
        writer["label", key] = np.array(40)
        writer.commit(f"beside it on {branch}")
        writer.close()
    difference = repository.diff(base, "master").diff
    assert {(r.column, r.sample) for r in difference.mutated.samples} == {("label", 3)}
    assert not difference.added.samples
    assert not difference.deleted.samples
    repository.merge("both", "master", "side")
    fresh = opened("two")
    labels = fresh.checkout(branch="master")["label"]
    assert (labels[3], labels[6], labels[5]) == (40, 40, 2)
    with pytest.raises(PurgedError, match="'label', sample 4"):
        labels[4]
    assert fresh.verify_repo_integrity()
    repository.gc(grace=0, keep_reflog=0)
    before = contents(fresh)
    repository.repack()
    repository.gc(grace=0, keep_reflog=0)
    again = opened("three")
    after = contents(again)
    for commit, columns in before.items():
        if "label" in columns:
            assert isinstance(columns["label"].pop(4), PurgedError)
            assert isinstance(after[commit]["label"].pop(4), PurgedError)
    assert before == after
    assert again.verify_repo_integrity()


def test_only_an_intact_tombstone_excuses_the_digest_of_a_leaf(repository):
    (digest,) = repository.purge(column="label", key=4, reason=REASON).digests
    (note,) = repository.fsck()
    assert note.kind == "purged"
    assert "1 sample of history was purged" in note.message
    assert "the digests of 2 of the leaves that held them cannot be checked" in note.message
    store = repository._storage.store
    kept = store.get(tombstone_path(bytes.fromhex(digest)))
    store.delete([tombstone_path(bytes.fromhex(digest))])
    assert "digest" in {finding.kind for finding in repository.fsck()}
    assert not repository.verify_repo_integrity()
    store.put_if_absent(tombstone_path(bytes.fromhex(digest)), kept)
    assert repository.verify_repo_integrity()
    assert store.list_children(FOLDER) == [f"{digest}.json"]


def test_clones_made_before_and_after(s3_url, s3_options, tmp_path):
    maker = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "maker")
    writer = maker.checkout(write=True)
    writer.add_str_column("name").update({n: f"{NAME}{n}" for n in range(9)})
    writer.add_ndarray_column("label", prototype=np.array(0)).update({n: np.array(n) for n in range(9)})
    writer.commit("names")
    writer.close()
    early, behind, late = (Repository(tmp_path / name, exists=False) for name in ("early", "behind", "late"))
    for clone in (early, behind):
        clone.clone("C", "c@example.org", s3_url, storage_options=s3_options)
        clone.remote.fetch_data("origin", "master", retrieve_all_history=True)
    before = contents(early)
    (digest,) = maker.purge(column="name", key=3, reason=REASON).digests
    late.clone("C", "c@example.org", s3_url, storage_options=s3_options)
    with pytest.warns(UserWarning, match="up to date"):
        early.remote.fetch("origin", "master")
    assert holders(local_files(early), f"{NAME}3".encode(), digest) == []
    with pytest.warns(UserWarning, match="1 purged samples are left out"):
        late.remote.fetch_data("origin", "master", retrieve_all_history=True)
    for clone in (early, late):
        check_purged(before, contents(Repository(clone.path, offline=True)), {("name", 3)})
        assert clone.verify_repo_integrity()
    writer = early.checkout(write=True)
    writer["name", 4] = OTHER
    writer.commit("beside it")
    writer.close()
    early.remote.push("origin", "master")
    writer = behind.checkout(write=True)
    writer["label", 4] = np.array(44)
    writer["name", 20] = f"{NAME}3"
    writer.commit("from a clone that knows nothing")
    writer.close()
    behind.remote.push("origin", "master", on_conflict="merge")
    fresh = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "fresh")
    checkout = fresh.checkout()
    assert checkout["label", 4] == 44
    assert checkout["name", 4] == OTHER
    assert checkout["name", 20] == f"{NAME}3"
    with pytest.raises(PurgedError, match=REASON):
        checkout["name", 3]
    assert fresh.verify_repo_integrity()


def test_a_push_takes_the_tombstone_along_and_never_the_value_back(s3_url, s3_options, tmp_path):
    local = make_repository(tmp_path / "local")
    writer = local.checkout(write=True)
    writer.add_str_column("name").update({n: f"{NAME}{n}" for n in range(9)})
    writer.commit("names")
    writer.close()
    other = Repository(tmp_path / "other", exists=False)
    other.clone("C", "c@example.org", str(tmp_path / "local"))
    other.remote.fetch_data("origin", "master", retrieve_all_history=True)
    before = contents(local)
    local.purge(column="name", key=3, reason=REASON)
    local.remote.add("bucket", s3_url)
    Repository(tmp_path / "local", storage_options=s3_options).remote.push("bucket", "master")
    bucket = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "cache")
    check_purged(before, contents(bucket), {("name", 3)})
    assert bucket.verify_repo_integrity()
    writer = other.checkout(write=True)
    writer["name", 5] = OTHER
    writer.commit("has the value still, in a leaf of its own")
    writer.close()
    other.remote.add("bucket", s3_url)
    with pytest.raises(PurgedError, match="cannot be pushed"):
        Repository(tmp_path / "other", storage_options=s3_options).remote.push("bucket", "master")
    assert bucket.verify_repo_integrity()


def test_a_remote_that_knows_nothing_of_a_purge_does_not_bring_the_value_back(tmp_path):
    local = make_repository(tmp_path / "local")
    writer = local.checkout(write=True)
    writer.add_str_column("name").update({n: f"{NAME}{n}" for n in range(9)})
    writer["name", "long"] = NAME * 4
    writer.add_bytes_column("codes", contains_subsamples=True)["p"] = {0: b"", "0": b"same"}
    writer.commit("names")
    writer.close()
    other = Repository(tmp_path / "other", exists=False)
    other.clone("C", "c@example.org", str(tmp_path / "local"))
    other.remote.fetch_data("origin", "master")
    for column, key in (("name", 3), ("name", "long"), ("codes", ("p", 0))):
        local.purge(column=column, key=key, reason=REASON)
    writer = other.checkout(write=True)
    writer["name", 5] = OTHER
    writer["codes", "p"]["new"] = b"more"
    writer.commit("has the values still, in leaves of its own")
    writer.close()
    local.remote.add("other", str(tmp_path / "other"))
    local.remote.fetch("other", "master")
    changed = local.diff("master", "other/master").diff
    assert [(row.column, row.sample) for row in changed.mutated.samples] == [("name", 5)]
    writer = local.checkout(write=True)
    writer["name", 6] = OTHER
    writer.commit("beside it")
    writer.close()
    local.merge("both", "master", "other/master")
    for branch in ("master", "other/master"):
        checkout = local.checkout(branch=branch)
        assert checkout["name", 5] == OTHER
        assert checkout["codes", "p"]["0"] == b"same"
        for read in (
            lambda names=checkout["name"]: names[3],
            lambda names=checkout["name"]: names["long"],
            lambda names=checkout["name"]: names.get_batch([3]),
            lambda codes=checkout["codes"]: codes["p"][0],
        ):
            with pytest.raises(PurgedError, match=REASON):
                read()
        checkout.close()
    assert local.verify_repo_integrity()
    local.remote.add("empty", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PurgedError, match="sample .* knows nothing of its purge.*purge it here once more"):
        local.remote.push("empty", "master")
    assert holders(files_of(tmp_path / "empty"), f"{NAME}3".encode(), "00" * 32) == []
