"""Purging samples of local repositories and of buckets: their bytes are nowhere any more, and all else is as it was."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.catalog import condemned
from tests.repository.making import add_commit, noise
from tests.repository.purging import REASON, check_purged, contents, everywhere, holders


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol beside writers, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.3)


@pytest.fixture
def repository(opened):
    """Two commits with arrays that share blocks, arrays of many blocks, inline text and nested arrays of any shape."""
    repository = opened("one")
    add_commit(repository, {n: noise(n, 300) for n in range(60)}, column="small")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("big", prototype=noise(0, 9_000_000)).update({n: noise(n, 9_000_000) for n in range(2)})
    text = writer.add_str_column("text")
    text.update({n: f"number {n}, " + "which is rather long for what it says" for n in range(40)})
    text["short"] = "short"
    nested = writer.add_ndarray_column(
        "nested", shape=(50, 50), dtype=np.uint8, variable_shape=True, contains_subsamples=True
    )
    for sample in range(4):
        nested[sample] = {sub: noise(100 + sample * 10 + sub, 20 * (sub + 2)).reshape(20, -1) for sub in range(4)}
    writer.add_ndarray_column("twin", prototype=noise(0, 300))["a"] = noise(9, 300)
    writer["small", 7] = noise(700, 300)
    writer["small", "seven"] = noise(7, 300)
    writer.commit("more")
    writer.close()
    return repository


def secret_of(repository, column, key, commit=""):
    checkout = repository.checkout(commit=commit)
    value = checkout[column][key]
    checkout.close()
    return value.tobytes() if isinstance(value, np.ndarray) else value.encode()


@pytest.mark.parametrize(
    ("column", "key", "gone"),
    [
        ("small", 8, {("small", 8)}),
        ("small", "seven", {("small", 7), ("small", "seven")}),
        ("small", 9, {("small", 9), ("twin", "a")}),
        ("big", 1, {("big", 1)}),
        ("text", 3, {("text", 3)}),
        ("nested", (2, 3), {("nested", (2, 3))}),
    ],
)
def test_a_sample_is_gone_to_the_byte_and_all_else_is_there(opened, repository, column, key, gone):
    secret = secret_of(repository, column, key)
    before = contents(repository)
    plan = repository.purge(column=column, key=key, reason=REASON, dry_run=True)
    (digest,) = plan.digests
    assert holders(everywhere(repository), secret, digest)
    report = repository.purge(column=column, key=key, reason=REASON)
    assert report.digests == plan.digests
    assert {(sample.column, sample.key) for sample in report.samples} == gone
    assert report.erased == len(secret)
    assert holders(everywhere(repository), secret, digest) == []
    fresh = opened("two")
    after = contents(fresh)
    if gone == {("small", 7), ("small", "seven")}:
        last = fresh.checkout().commit_hash
        assert after[last]["small"].pop(7) == before[last]["small"].pop(7)
    check_purged(before, after, gone)
    assert fresh.verify_repo_integrity()
    assert fresh._storage.store.list_children("purged") == [f"{digest}.json"]
