"""Where remote branches were when they were last seen."""

from __future__ import annotations

import pytest

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.tracking import TrackingRefs


def test_they_are_kept_and_replaced(tmp_path):
    refs = TrackingRefs(tmp_path)
    assert refs.get("origin", "master") is None
    assert refs.all() == {}
    refs.set("origin", "master", "a" * 64)
    refs.set("origin", "v1.0", "b" * 64)
    refs.set("other.remote", "master", "c" * 64)
    refs.set("origin", "master", "d" * 64)
    assert TrackingRefs(tmp_path).all() == {
        "origin/master": "d" * 64,
        "origin/v1.0": "b" * 64,
        "other.remote/master": "c" * 64,
    }
    assert [path.name for path in tmp_path.rglob("*incoming*")] == []


def test_every_byte_counts(tmp_path):
    refs = TrackingRefs(tmp_path)
    refs.set("origin", "master", "a" * 64)
    path = tmp_path / "origin" / "master.json"
    intact = path.read_bytes()
    for position in range(len(intact)):
        path.write_bytes(intact[:position] + bytes([intact[position] ^ 1]) + intact[position + 1 :])
        with pytest.raises(CorruptDataError):
            refs.get("origin", "master")
        path.write_bytes(intact[:position])
        with pytest.raises(CorruptDataError):
            refs.get("origin", "master")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".."])
def test_names_never_leave_the_folder(tmp_path, name):
    refs = TrackingRefs(tmp_path)
    for remote, branch in ((name, "master"), ("origin", name)):
        with pytest.raises(InvalidNameError):
            refs.set(remote, branch, "a" * 64)
        with pytest.raises(InvalidNameError):
            refs.get(remote, branch)
