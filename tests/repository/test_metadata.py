"""The metadata of a checkout, used as a dict is."""

from __future__ import annotations

import pytest

from hangar_cloud.errors import InvalidNameError, InvalidSampleError, NothingToCommitError


def test_pop_gives_the_default_where_there_is_no_key(writer):
    writer.metadata["licence"] = "CC0"
    assert writer.metadata.pop("licence") == "CC0"
    assert writer.metadata.pop("licence", None) is None
    assert writer.metadata.pop("licence", default="none") == "none"
    with pytest.raises(KeyError, match="no key 'licence'"):
        writer.metadata.pop("licence")


@pytest.mark.parametrize("other", [3, ["abc"], [("a", "b", "c")]])
def test_update_takes_a_mapping_or_pairs(writer, other):
    with pytest.raises(InvalidSampleError, match=r"metadata: update\(\) takes a mapping or pairs"):
        writer.metadata.update(other)
    assert len(writer.metadata) == 0


def test_update_checks_every_key_before_it_writes(writer):
    with pytest.raises(InvalidNameError, match="metadata: sample key"):
        writer.metadata.update([("a", "1"), ([], "2")])
    assert len(writer.metadata) == 0
    writer.metadata.update([("a", "1"), ("b", "2"), ("a", "3")], b="4")
    assert dict(writer.metadata.items()) == {"a": "3", "b": "4"}


def test_metadata_that_is_empty_again_is_no_change(writer):
    """Nor is what a process left that died between making the metadata and writing its first key."""
    writer.commit("columns")
    writer.metadata["licence"] = "CC0"
    del writer.metadata["licence"]
    assert writer.diff.status() == "CLEAN"
    with pytest.raises(NothingToCommitError):
        writer.commit("nothing")
    writer["text", 0] = "a"
    writer.commit("a sample, and no metadata")
    assert writer._storage.commit(writer.commit_hash).metadata is None
    writer.metadata["licence"] = "CC0"
    writer.commit("metadata")
    del writer.metadata["licence"]
    assert writer.diff.status() == "DIRTY"
    writer.commit("none again")
    assert dict(writer.metadata.items()) == {}
    writer.metadata["homepage"] = "https://example.org"
    assert writer.metadata["homepage"] == "https://example.org"
