"""Merging branches of which one or both altered the schema of a column."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangar_cloud import Repository
from hangar_cloud.diff import ColumnSchemaKey, FlatColumnDataKey, NestedColumnDataKey
from hangar_cloud.errors import MergeConflictError
from tests.repository.altering import column_of, holds, on, two_branches
from tests.repository.making import make_repository, noise, read_all, same, same_columns

SMALL = {key: np.full(4, key, "<i4") for key in range(20)}
PACKED = {key: noise(key) for key in range(20)}
WIDER = {"variable_shape": True, "shape": (9000,)}
SIDES = pytest.mark.parametrize("altering", ["master", "dev"])


def other(branch):
    return "dev" if branch == "master" else "master"


def alter(repository, branch, *, edit=None, **changes):
    """Commit another schema of column "x" on a branch, and what `edit` does to the column then."""
    writer = on(repository, branch)
    column = writer.columns.alter("x", **changes)
    if edit is not None:
        edit(column)
    writer.commit("altered")
    writer.close()


def change(repository, branch, samples, *deleted):
    """Commit samples of column "x" on a branch, and the deletion of others."""
    writer = on(repository, branch)
    writer["x"].update(samples)
    for key in deleted:
        del writer["x"][key]
    writer.commit("changed")
    writer.close()


def refused(repository):
    """The error of merging dev into master, which must be what the diff foretells and leave master alone."""
    head = repository.log(branch="master", return_contents=True)["head"]
    with pytest.raises(MergeConflictError) as caught:
        repository.merge("merged", "master", "dev")
    assert repository.diff("master", "dev").conflict == caught.value.conflicts
    assert repository.log(branch="master", return_contents=True)["head"] == head
    return caught.value


def merged(repository, **strategy):
    """Column "x" of master after dev was merged into it."""
    repository.merge("merged", "master", "dev", **strategy)
    return repository.checkout(branch="master")["x"]


@pytest.mark.parametrize(
    "changes", [{"dtype": "<i8"}, {"variable_shape": True}, {"variable_shape": True, "shape": (9,)}], ids=str
)
@SIDES
def test_the_altering_side_is_taken_if_the_other_left_the_column_alone(tmp_path, altering, changes):
    repository = two_branches(tmp_path, SMALL)
    alter(repository, altering, edit=lambda x: x.update({0: np.zeros(4, x.dtype)}), **changes)
    writer = on(repository, other(altering))
    writer.add_str_column("text")[0] = "elsewhere"
    writer.commit("elsewhere")
    writer.close()
    repository.merge("merged", "master", "dev")
    found = read_all(repository, branch="master")
    assert found["text"] == {0: "elsewhere"}
    assert same_columns({"x": found["x"]}, {"x": read_all(repository, branch=altering)["x"]})


@SIDES
def test_samples_that_the_other_side_changed_get_the_new_kind_of_shape(tmp_path, altering):
    repository = two_branches(tmp_path, PACKED)
    alter(repository, altering, **WIDER)
    change(repository, other(altering), {3: noise(33), 50: noise(50)}, 7)
    assert not repository.diff("master", "dev").conflict.conflict
    column = merged(repository)
    assert column.schema_type == "variable_shape"
    assert column.shape == (9000,)
    wanted = {**PACKED, 3: noise(33), 50: noise(50)}
    del wanted[7]
    assert holds(column, wanted)


@SIDES
def test_a_raised_maximum_takes_what_the_other_side_added(tmp_path, altering):
    repository = make_repository(tmp_path / "r")
    held = {key: np.full(1 + key % 5, key, "<i4") for key in range(20)}
    column_of(held, repository=repository, variable=True, shape=(5,))[1].close()
    repository.create_branch("dev")
    long = np.full(9, 9, "<i4")
    alter(repository, altering, shape=(9,), edit=lambda x: x.update({100: long}))
    change(repository, other(altering), {200: held[3], 4: held[0]})
    column = merged(repository)
    assert column.shape == (9,)
    assert holds(column, {**held, 4: held[0], 100: long, 200: held[3]})


@SIDES
def test_what_stands_in_the_records_is_cast(tmp_path, altering):
    repository = two_branches(tmp_path, SMALL)
    alter(repository, altering, dtype=">f8", edit=lambda x: x.__delitem__(0))
    change(repository, other(altering), {3: np.full(4, 33, "<i4"), 50: np.full(4, -50, "<i4")}, 7)
    wanted = {key: value.astype(">f8") for key, value in SMALL.items() if key not in (0, 7)}
    wanted |= {3: np.full(4, 33, ">f8"), 50: np.full(4, -50, ">f8")}
    assert holds(merged(repository), wanted)


@SIDES
def test_a_value_that_would_lose_something_is_a_conflict_and_named(tmp_path, altering):
    repository = two_branches(tmp_path, SMALL)
    alter(repository, altering, dtype="|i1")
    change(repository, other(altering), {30: np.full(4, 100, "<i4"), 31: np.full(4, 1000, "<i4")})
    error = refused(repository)
    assert list(error.conflicts.t3.schema) == [ColumnSchemaKey("x", "flat")]
    assert "sample 31, which does not fit it" in str(error)
    kept = merged(repository, strategy="ours" if altering == "master" else "theirs")
    assert holds(kept, {key: value.astype("|i1") for key, value in SMALL.items()})


@SIDES
def test_large_samples_are_not_read_to_be_cast_but_merge_once_both_sides_altered_alike(tmp_path, altering):
    repository = two_branches(tmp_path, PACKED)
    alter(repository, altering, dtype="<u2")
    change(repository, other(altering), {50: noise(50)})
    error = refused(repository)
    assert list(error.conflicts.t3.schema) == [ColumnSchemaKey("x", "flat")]
    assert "alter it alike on both sides" in str(error)
    assert "sample 50" in str(error)
    alter(repository, other(altering), dtype="<u2")
    wanted = {key: value.astype("<u2") for key, value in (PACKED | {50: noise(50)}).items()}
    assert holds(merged(repository), wanted)


@pytest.mark.parametrize("samples", [SMALL, PACKED], ids=["small", "packed"])
def test_both_sides_alter_alike(tmp_path, samples):
    repository = two_branches(tmp_path, samples)
    for branch in ("master", "dev"):
        alter(repository, branch, dtype="<i8")
    assert holds(merged(repository), {key: value.astype("<i8") for key, value in samples.items()})


def test_both_sides_alter_alike_and_change_different_small_samples(tmp_path):
    repository = two_branches(tmp_path, SMALL)
    alter(repository, "master", dtype="<i8", edit=lambda x: x.__delitem__(3))
    alter(repository, "dev", dtype="<i8", edit=lambda x: x.update({4: np.full(4, 44), 100: np.full(4, 100)}))
    wanted = {key: value.astype("<i8") for key, value in SMALL.items() if key != 3}
    assert holds(merged(repository), wanted | {4: np.full(4, 44), 100: np.full(4, 100)})


def test_both_sides_alter_alike_and_it_is_not_known_which_changed_a_large_sample(tmp_path):
    repository = two_branches(tmp_path, PACKED)
    alter(repository, "master", dtype="<u2", edit=lambda x: x.__delitem__(3))
    alter(repository, "dev", dtype="<u2", edit=lambda x: x.update({4: noise(44).astype("<u2"), 90: x[0]}))
    conflicts = refused(repository).conflicts
    assert conflicts.t21.samples == (FlatColumnDataKey("x", 3),)
    assert conflicts.t3.samples == (FlatColumnDataKey("x", 4),)
    seen = {}

    def decide(column, key, ancestor, ours, theirs):
        seen[key] = (ancestor.exists, ours.exists, theirs.exists)
        return ours if key == 3 else theirs

    column = merged(repository, strategy=decide)
    assert seen == {3: (False, False, True), 4: (False, True, True)}
    wanted = {key: value.astype("<u2") for key, value in PACKED.items() if key != 3}
    assert holds(column, wanted | {4: noise(44).astype("<u2"), 90: wanted[0]})


@pytest.mark.parametrize(("strategy", "dtype"), [("ours", "<i8"), ("theirs", "<f8")])
def test_altering_in_two_ways_is_a_conflict(tmp_path, strategy, dtype):
    repository = two_branches(tmp_path, SMALL)
    alter(repository, "master", dtype="<i8")
    alter(repository, "dev", dtype="<f8")
    error = refused(repository)
    assert list(error.conflicts.t3.schema) == [ColumnSchemaKey("x", "flat")]
    assert error.conflicts.t3.samples == ()
    column = merged(repository, strategy=strategy)
    assert holds(column, {key: value.astype(dtype) for key, value in SMALL.items()})


@SIDES
@pytest.mark.parametrize(
    ("kind", "altered", "changed"),
    [("t1", ("set", 50), ("set", 50)), ("t3", ("set", 3), ("set", 3)), ("drop", ("drop", 3), ("set", 3))],
)
def test_a_sample_that_both_sides_changed_is_a_conflict_in_the_new_schema(tmp_path, altering, kind, altered, changed):
    repository = two_branches(tmp_path, SMALL)
    key = altered[1]
    drops = altered[0] == "drop"
    alter(
        repository,
        altering,
        dtype="<i8",
        edit=lambda x: x.__delitem__(key) if drops else x.update({key: np.full(4, 1000)}),
    )
    change(repository, other(altering), {key: np.full(4, 2000, "<i4"), 90: np.full(4, 90, "<i4")})
    conflicts = refused(repository).conflicts
    if kind == "drop":
        kind = "t21" if altering == "master" else "t22"
    assert getattr(conflicts, kind).samples == (FlatColumnDataKey("x", key),)
    assert not conflicts.t3.schema
    seen = []

    def decide(column, at, ancestor, ours, theirs):
        seen.extend(side.get() for side in (ancestor, ours, theirs))
        return theirs if altering == "master" else ours

    column = merged(repository, strategy=decide)
    assert [None if value is None else value.dtype.str for value in seen] == [
        None if kind == "t1" else "<i8",
        *[None if drops and branch == altering else "<i8" for branch in ("master", "dev")],
    ]
    assert same(column[key], np.full(4, 2000))
    assert same(column[90], np.full(4, 90))


def test_the_same_change_of_a_sample_on_both_sides_is_no_conflict(tmp_path):
    repository = two_branches(tmp_path, SMALL)
    alter(repository, "dev", dtype="<i8", edit=lambda x: [x.update({3: np.full(4, 7), 50: np.full(4, 8)}), x.pop(9)])
    change(repository, "master", {3: np.full(4, 7, "<i4"), 50: np.full(4, 8, "<i4")}, 9)
    wanted = {key: value.astype("<i8") for key, value in SMALL.items() if key != 9}
    assert holds(merged(repository), wanted | {3: np.full(4, 7), 50: np.full(4, 8)})


@SIDES
def test_subsamples_are_carried_too(tmp_path, altering):
    repository = make_repository(tmp_path / "r")
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("x", (2,), "<i4", contains_subsamples=True)
    column["a"] = {0: np.zeros(2, "<i4"), "b": np.ones(2, "<i4")}
    writer.commit("base")
    writer.close()
    repository.create_branch("dev")
    alter(repository, altering, dtype="<f8", edit=lambda x: x["a"].update({7: np.full(2, 0.5)}))
    change(repository, other(altering), {"a": {"b": np.full(2, 5, "<i4")}, "c": {1: np.full(2, 6, "<i4")}})
    column = merged(repository)
    assert {key: {sub: v.tolist() for sub, v in sample.data.items()} for key, sample in column.items()} == {
        "a": {0: [0, 0], 7: [0.5, 0.5], "b": [5, 5]},
        "c": {1: [6, 6]},
    }


@SIDES
def test_a_subsample_that_both_sides_changed_is_a_conflict(tmp_path, altering):
    repository = make_repository(tmp_path / "r")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("x", (2,), "<i4", contains_subsamples=True)["a"] = {0: np.zeros(2, "<i4")}
    writer.commit("base")
    writer.close()
    repository.create_branch("dev")
    alter(repository, altering, dtype="<f8", edit=lambda x: x["a"].update({0: np.full(2, 0.5)}))
    change(repository, other(altering), {"a": {0: np.full(2, 8, "<i4")}})
    assert refused(repository).conflicts.t3.samples == (NestedColumnDataKey("x", "a", 0),)


@SIDES
def test_a_column_made_anew_of_another_type_conflicts_with_changed_samples(tmp_path, altering):
    repository = two_branches(tmp_path, SMALL)
    writer = on(repository, altering)
    del writer.columns["x"]
    writer.add_str_column("x")[0] = "text"
    writer.commit("anew")
    writer.close()
    change(repository, other(altering), {3: np.full(4, 33, "<i4")})
    assert list(refused(repository).conflicts.t3.schema) == [ColumnSchemaKey("x", "flat")]


@SIDES
def test_an_altered_column_that_the_other_side_removed_is_a_conflict(tmp_path, altering):
    repository = two_branches(tmp_path, SMALL)
    alter(repository, altering, dtype="<i8")
    writer = on(repository, other(altering))
    del writer.columns["x"]
    writer.add_str_column("text")
    writer.commit("removed")
    writer.close()
    conflicts = refused(repository).conflicts
    assert list((conflicts.t22 if altering == "master" else conflicts.t21).schema) == [ColumnSchemaKey("x", "flat")]


def test_no_sample_is_read_or_fetched(tmp_path):
    repository = two_branches(tmp_path, PACKED)
    alter(repository, "master", **WIDER)
    change(repository, "dev", {3: noise(33), 50: noise(50)}, 7)
    remote = f"file://{tmp_path / 'remote'}"
    repository.remote.add("origin", remote)
    repository.remote.push("origin", "master")
    repository.remote.push("origin", "dev")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Clone", "clone@example.org", remote)
    clone.remote.fetch("origin", "dev")
    clone.merge("merged", "master", "origin/dev")
    assert not (tmp_path / "clone" / ".hangar" / "partial" / "packs").exists()
    assert same(clone.checkout()["x", 50], noise(50))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    altering=st.sampled_from(["master", "dev"]),
    changes=st.sampled_from([{"dtype": "<i8"}, {"dtype": ">f8"}, {"variable_shape": True}]),
    width=st.sampled_from([1, 4, 8, 300]),
    altered=st.dictionaries(st.integers(0, 5), st.none() | st.integers(0, 3), max_size=4),
    changed=st.dictionaries(st.integers(0, 5), st.none() | st.integers(0, 3), min_size=1, max_size=4),
)
def test_whatever_changed_on_both_sides_it_is_a_merge_of_the_values(
    tmp_path, altering, changes, width, altered, changed
):
    repository = make_repository(tmp_path / uuid4().hex)
    base = dict.fromkeys(range(4), 0)
    dtype = np.dtype(changes.get("dtype", "<i4"))
    column_of({key: np.full(width, 0, "<i4") for key in base}, repository=repository, backend="p0")[1].close()
    repository.create_branch("dev")
    sides = {}
    for branch, edits in ((altering, altered), (other(altering), changed)):
        writer = on(repository, branch)
        column = writer.columns.alter("x", **changes) if branch == altering else writer["x"]
        sides[branch] = dict(base)
        for key, value in edits.items():
            if value is not None and value != sides[branch].get(key):
                sides[branch][key] = value
                column[key] = np.full(width, value, column.dtype)
            elif value is None and sides[branch].pop(key, None) is not None:
                del column[key]
        if writer.diff.status() == "DIRTY":
            writer.commit("side")
        writer.close()
    ours, theirs = sides["master"], sides["dev"]
    clashes = {k for k in range(6) if base.get(k) != ours.get(k) != theirs.get(k) != base.get(k)}
    wanted = {k: v for k in range(6) if (v := theirs.get(k) if ours.get(k) == base.get(k) else ours.get(k)) is not None}
    readable = width * 4 <= 32 or "dtype" not in changes or sides[other(altering)] == base
    try:
        column = merged(repository)
    except MergeConflictError as error:
        named = {key.sample for kind in error.conflicts[:4] for key in kind.samples}
        assert not readable or named == clashes
        assert clashes or not readable
    else:
        assert not clashes
        assert column.dtype == dtype
        assert holds(column, {key: np.full(width, value, dtype) for key, value in sorted(wanted.items())})
