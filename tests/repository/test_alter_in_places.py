"""Altering columns of clones and buckets, and losing a race with it."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import CommitConflictError
from tests.repository.altering import column_of, holds
from tests.repository.making import make_repository


def test_in_a_bucket(tmp_path):
    place = f"memory://alter-{uuid4().hex}"
    repository = make_repository(place, cache_dir=tmp_path / "cache")
    held = {key: np.full(900, key, "<i4") for key in range(30)}
    repository, writer = column_of(held, repository=repository)
    writer.columns.alter("x", dtype="<f8")
    writer.close()
    writer = Repository(place, cache_dir=tmp_path / "cache").checkout(write=True)
    writer.columns.alter("x", variable_shape=True, shape=(1000,))
    writer.commit("altered")
    writer.close()
    wanted = {key: value.astype("<f8") for key, value in held.items()}
    assert holds(Repository(place, cache_dir=tmp_path / "other").checkout()["x"], wanted)


@pytest.fixture
def partial(tmp_path):
    """A clone, none of whose 40 packed samples in "x" is there; and the samples."""
    held = {key: np.full(3000, key, "<i4") for key in range(40)}
    repository, writer = column_of(held, tmp_path=tmp_path)
    writer.close()
    remote = f"file://{tmp_path / 'remote'}"
    repository.remote.add("origin", remote)
    repository.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Clone", "clone@example.org", remote)
    return clone, held


def missing(repository):
    return len(list(repository.checkout()["x"].remote_reference_keys))


@pytest.mark.parametrize(
    "changes", [{"variable_shape": True}, {"variable_shape": True, "shape": (5000,)}], ids=["variable", "larger"]
)
def test_a_clone_fetches_nothing_for_another_kind_of_shape(partial, changes):
    clone, held = partial
    assert list(clone.checkout()["x"]) == list(held)
    writer = Repository(clone.path, offline=True).checkout(write=True)
    writer.columns.alter("x", **changes)
    writer.commit("altered")
    writer.close()
    assert missing(clone) == 40
    clone.remote.push("origin", "master")
    reader = clone.checkout()
    assert holds(reader["x"], held)
    assert reader["x"].schema_type == "variable_shape"


def test_a_clone_fetches_what_is_to_be_cast(partial):
    clone, held = partial
    writer = clone.checkout(write=True)
    column = writer.columns.alter("x", dtype="<f8")
    wanted = {key: value.astype("<f8") for key, value in held.items()}
    assert holds(column, wanted)
    writer.commit("altered")
    writer.close()
    clone.remote.push("origin", "master")
    again = Repository(str(clone.path) + "-again", exists=False)
    again.clone("Clone", "clone@example.org", clone.remote.list_all()[0].address)
    assert missing(again) == 40
    assert holds(again.checkout()["x"], wanted)


def test_an_offline_clone_refuses_what_it_cannot_check_and_stays_as_it_is(partial):
    clone, _ = partial
    clone.remote.fetch_data_sample("origin", "x", [0, 1], branch="master")
    writer = Repository(clone.path, offline=True).checkout(write=True)
    with pytest.raises(FileNotFoundError, match="offline"):
        writer.columns.alter("x", dtype="<f8")
    assert writer["x"].dtype == np.int32
    assert writer.diff.status() == "CLEAN"
    assert writer["x", 1][0] == 1
    writer["x", 1] = np.zeros(3000, "<i4")
    writer.commit("goes on")
    writer.close()


@pytest.mark.parametrize("changes", [{"dtype": "<i8"}, {"variable_shape": True}], ids=str)
def test_a_lost_race_puts_it_on_top_unless_the_column_was_changed_there(tmp_path, changes):
    place = f"memory://race-{uuid4().hex}"
    repository = make_repository(place, cache_dir=tmp_path / "one")
    column_of({key: np.full(4, key, "<i4") for key in range(20)}, repository=repository)[1].close()
    mine = repository.checkout(write=True)
    mine.columns.alter("x", **changes)
    other = Repository(place, cache_dir=tmp_path / "two").checkout(write=True)
    other.add_str_column("text")[0] = "first"
    other.commit("first")
    mine.commit("altered")
    assert mine["text", 0] == "first"
    mine.close()
    mine = repository.checkout(write=True)
    mine.columns.alter("x", dtype="<f8")
    other.close()
    other = Repository(place, cache_dir=tmp_path / "two").checkout(write=True)
    other["x", 1] = np.full(4, 55, changes.get("dtype", "<i4"))
    other.commit("second")
    other.close()
    with pytest.raises(CommitConflictError, match="column 'x'"):
        mine.commit("altered again")
    mine.close()


@pytest.mark.parametrize("raising", ["mine", "other"])
@pytest.mark.parametrize("backend", ["p0", "i0"])
def test_a_lost_race_puts_samples_and_a_raised_maximum_together(tmp_path, raising, backend):
    place = f"memory://race-{uuid4().hex}"
    repository = make_repository(place, cache_dir=tmp_path / "one")
    held = {key: np.full(1 + key % 4, key, "<i4") for key in range(20)}
    column_of(held, repository=repository, variable=True, shape=(4,))[1].close()
    writers = {
        "mine": repository.checkout(write=True),
        "other": Repository(place, cache_dir=tmp_path / "two").checkout(write=True),
    }
    for key, (name, writer) in enumerate(writers.items()):
        size = 4
        if name == raising:
            writer.columns.alter("x", shape=(9,))
            size = 9
        writer["x", key] = held[key] = np.full(size, 70 + key, "<i4")
        writer["x"].change_backend(backend)
    writers["other"].commit("first")
    writers["mine"].commit("second")
    column = writers["mine"]["x"]
    assert column.shape == (9,)
    column[30] = held[30] = np.full(9, 30, "<i4")
    writers["mine"].commit("goes on")
    for writer in writers.values():
        writer.close()
    assert holds(Repository(place, cache_dir=tmp_path / "three").checkout()["x"], held)


def test_a_lost_race_with_a_lowered_maximum_is_a_conflict(tmp_path):
    place = f"memory://race-{uuid4().hex}"
    repository = make_repository(place, cache_dir=tmp_path / "one")
    column_of({0: np.zeros(2, "<i4")}, repository=repository, variable=True, shape=(4,))[1].close()
    mine = repository.checkout(write=True)
    other = Repository(place, cache_dir=tmp_path / "two").checkout(write=True)
    mine.columns.alter("x", shape=(3,))
    other["x", 1] = np.zeros(4, "<i4")
    other.commit("first")
    other.close()
    with pytest.raises(CommitConflictError, match="column 'x'"):
        mine.commit("second")
    mine.close()
