"""Changing a column's schema: what is accepted, what is refused, and what is rewritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangar_cloud.errors import HangarError, InvalidSchemaError
from tests.repository.altering import column_of, holds, packs_of, reopened
from tests.repository.making import files_of, make_repository, same


@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (1, 2, 2, 2), (64, 32)], ids=str)
def test_fixed_becomes_variable_and_back_without_rewriting_a_sample(tmp_path, shape):
    held = {key: np.full(shape, key, "<f4") for key in range(300)}
    repository, writer = column_of(held, tmp_path=tmp_path)
    before = packs_of(repository)
    column = writer.columns.alter("x", variable_shape=True)
    assert column.schema_type == "variable_shape"
    assert holds(column, held)
    if shape:
        held[7] = np.ones(tuple(max(1, n - 1) for n in shape), "<f4")
        column[7] = held[7]
    writer.commit("variable")
    if shape == (64, 32):
        # Nothing but the one new sample was written.
        assert len(packs_of(repository)) == len(before) + 1
        assert {name: packs_of(repository)[name] for name in before} == before
    assert holds(column, held)
    assert holds(repository.checkout()["x"], held)
    if shape and held[7].shape != shape:
        with pytest.raises(InvalidSchemaError, match="sample 7 has shape"):
            writer.columns.alter("x", variable_shape=False)
    del column[7], held[7]
    writer.columns.alter("x", variable_shape=False)
    assert holds(column, held)
    writer.commit("fixed again")
    assert len(packs_of(repository)) <= len(before) + 1
    writer.close()
    assert holds(repository.checkout()["x"], held)
    assert repository.checkout()["x"].schema_type == "fixed_shape"


ALTERATIONS: list[dict[str, Any]] = [
    {"dtype": "<i8"},
    {"variable_shape": True},
    {"dtype": "<f8", "variable_shape": True},
]


def test_the_column_is_the_same_as_if_it_had_been_made_so(tmp_path):
    """Identities, and so the root digests, do not tell how a column came about."""
    for shape in [(3,), (2, 2, 2, 2), (50,), (1, 1, 1, 1)]:
        for new in ALTERATIONS:
            held = {key: np.full(shape, key, "<i4") for key in range(40)}
            repository, writer = column_of(held, repository=make_repository(tmp_path / uuid4().hex))
            writer.columns.alter("x", **new)
            writer.add_ndarray_column(
                "y", shape, new.get("dtype", "<i4"), variable_shape=new.get("variable_shape", False)
            ).update({key: value.astype(new.get("dtype", "<i4")) for key, value in held.items()})
            columns = repository._storage.commit(writer.commit("both")).columns
            assert columns["x"].schema == columns["y"].schema
            assert columns["x"].root.digest == columns["y"].root.digest
            writer.columns.alter("x", dtype="<i4", variable_shape=False)
            first, last = repository.log(return_contents=True)["order"][-1], writer.commit("back")
            roots = [repository._storage.commit(digest).columns["x"].root.digest for digest in (first, last)]
            assert roots[0] == roots[1]
            writer.close()


def test_a_larger_maximum_rewrites_nothing_at_all(tmp_path):
    held = {key: np.full((1 + key % 5, 3), key, "<f4") for key in range(500)}
    repository, writer = column_of(held, tmp_path=tmp_path, variable=True, shape=(5, 3))
    before = set(files_of(Path(repository.path) / ".hangar" / "store"))
    column = writer.columns.alter("x", shape=(9, 3))
    column_before = repository._storage.commit(writer.commit_hash).columns["x"]
    writer.commit("larger")
    new = set(files_of(Path(repository.path) / ".hangar" / "store")) - before
    assert sorted(name.split("/")[0] for name in new) == ["commits", "refs"]
    assert repository._storage.commit(writer.commit_hash).columns["x"].root == column_before.root
    held[1000] = np.ones((9, 3), "<f4")
    column[1000] = held[1000]
    with pytest.raises(InvalidSchemaError, match="sample 1000 has shape"):
        writer.columns.alter("x", shape=(8, 3))
    writer.columns.alter("x", shape=(9, 3))
    del column[1000], held[1000]
    writer.columns.alter("x", shape=(5, 3))
    with pytest.raises(InvalidSchemaError, match="sample 4 has shape"):
        writer.columns.alter("x", shape=(4, 3))
    assert holds(column, held)
    writer.close()


def test_what_cannot_be_meant(tmp_path):
    repository, writer = column_of({0: np.zeros((2, 3), "<i4")}, tmp_path=tmp_path)
    writer.add_str_column("text")
    for arguments in [
        {"shape": (6,)},
        {"shape": (2, 3, 1)},
        {"shape": (2, 4)},
        {"shape": (2, 0)},
        {"dtype": "U5"},
        {"dtype": "nonsense"},
        {},
    ]:
        with pytest.raises(ValueError):
            writer.columns.alter("x", **arguments)
    with pytest.raises(ValueError, match="only columns of arrays"):
        writer.columns.alter("text", dtype="<i4")
    with pytest.raises(KeyError):
        writer.columns.alter("y", dtype="<i4")
    with pytest.raises(KeyError):
        writer.columns.alter("", dtype="<i4")
    with writer["x"], pytest.raises(PermissionError):
        writer.columns.alter("x", dtype="<i8")
    with pytest.raises(PermissionError):
        repository.checkout().columns.alter("x", dtype="<i8")
    columns = writer.columns
    writer.close()
    with pytest.raises(PermissionError):
        columns.alter("x", dtype="<i8")


def test_altering_to_what_it_is_changes_nothing(tmp_path):
    _, writer = column_of({0: np.zeros((2, 3), "<i4")}, tmp_path=tmp_path)
    writer.columns.alter("x", dtype=np.int32, shape=(2, 3), variable_shape=False)
    assert writer.diff.status() == "CLEAN"
    writer.close()


def test_an_empty_column_takes_any_shape_of_its_rank(tmp_path):
    _, writer = column_of({0: np.zeros((2, 3), "<i4")}, tmp_path=tmp_path)
    del writer["x"][0]
    column = writer.columns.alter("x", dtype="<f8", shape=(7, 1))
    column[0] = np.ones((7, 1))
    writer.commit("c")
    assert same(writer["x", 0], np.ones((7, 1)))
    writer.close()


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "<c16"])
@pytest.mark.parametrize("backend", ["p0", "i0"])
def test_single_numbers(tmp_path, dtype, backend):
    held = {key: np.array(key - 5, "<i4") for key in range(10)}
    _, writer = column_of(held, tmp_path=tmp_path, backend=backend)
    column = writer.columns.alter("x", dtype=dtype)
    wanted = {key: value.astype(dtype) for key, value in held.items()}
    assert column.shape == ()
    assert holds(column, wanted)
    writer.columns.alter("x", variable_shape=True)
    writer.commit("altered")
    assert holds(column, wanted)
    writer.close()


def test_subsamples_are_checked_and_named(tmp_path):
    writer = make_repository(tmp_path / "r").checkout(write=True)
    column = writer.add_ndarray_column("x", (40,), "<i4", contains_subsamples=True)
    held = {"a": {0: 1, "k": 2}, 7: {"k": 300, 1: 4}}
    for sample, subs in held.items():
        column[sample] = {sub: np.full(40, value, "<i4") for sub, value in subs.items()}
    writer.commit("values")
    column["a"] = {5: np.full(40, 5, "<i4")}
    with pytest.raises(InvalidSchemaError, match="sample 7, subsample 'k' holds 300, which uint8"):
        writer.columns.alter("x", dtype="|u1")
    with pytest.raises(InvalidSchemaError, match="sample 7, subsample 1 has shape"):
        writer.columns.alter("x", shape=(41,))
    del column[7]["k"]
    held = {7: {1: 4}, "a": {0: 1, 5: 5, "k": 2}}
    for changes in ({"dtype": "|u1"}, {"variable_shape": True}):
        writer.columns.alter("x", **changes)
        assert {s: {k: int(v[0]) for k, v in sub.data.items()} for s, sub in column.items()} == held
    column["a", "short"] = np.ones(3, "|u1")
    writer.commit("altered")
    assert column["a", "short"].shape == (3,)
    assert column.num_subsamples == 5
    writer.close()


def test_what_a_diff_says_of_it(tmp_path):
    repository, writer = column_of({0: np.zeros(3, "<i4"), 1: np.ones(3, "<i4")}, tmp_path=tmp_path)
    before = writer.commit_hash
    writer.columns.alter("x", dtype="<f4")
    staged = writer.diff.staged().diff
    after = writer.commit("altered")
    for diff in (staged, repository.diff(before, after).diff):
        assert {key.column: schema.dtype for key, schema in diff.mutated.schema.items()} == {"x": "<f4"}
        assert diff.added.schema == diff.deleted.schema == {}
        assert [key.sample for key in diff.added.samples] == [key.sample for key in diff.deleted.samples] == [0, 1]
    writer.close()


def test_a_raised_maximum_changes_the_schema_and_no_sample(tmp_path):
    repository, writer = column_of({0: np.zeros(3, "<i4")}, tmp_path=tmp_path, variable=True, shape=(5,))
    before = writer.commit_hash
    column = writer.columns.alter("x", shape=(6,))
    assert writer.diff.status() == "DIRTY"
    column[1] = np.zeros(6, "<i4")
    staged = writer.diff.staged().diff
    for diff in (staged, repository.diff(before, writer.commit("altered")).diff):
        assert [(key.column, schema.shape) for key, schema in diff.mutated.schema.items()] == [("x", (6,))]
        assert [key.sample for key in diff.added.samples] == [1]
        assert diff.deleted.samples == diff.mutated.samples == ()
    writer.close()


@pytest.mark.parametrize(
    "changes", [{"dtype": "<i8"}, {"variable_shape": True}, {"dtype": ">f8", "variable_shape": True}], ids=str
)
@pytest.mark.parametrize("size", [2, 3000])
def test_a_killed_writer_keeps_it_whole(tmp_path, changes, size):
    held = {key: np.full(size, key, "<i4") for key in range(50)}
    repository, writer = column_of(held, tmp_path=tmp_path)
    writer["x", 50] = held[50] = np.full(size, 50, "<i4")
    del writer["x"][0], held[0]
    writer.columns.alter("x", **changes)
    wanted = {key: value.astype(changes.get("dtype", "<i4")) for key, value in held.items()}
    writer["x", 60] = wanted[60] = wanted[50]
    other = reopened(repository, tmp_path).checkout(write=True)
    for checkout in (writer, other):
        assert holds(checkout["x"], wanted)
        assert len(checkout["x"]) == len(wanted)
        checkout.columns.alter("x", dtype="<f8")
        checkout.commit("altered")
        assert holds(checkout["x"], {key: value.astype("<f8") for key, value in wanted.items()})
        checkout.close()


def test_a_failure_half_way_stages_nothing(tmp_path, monkeypatch):
    held = {key: np.full(3000, key, "<i4") for key in range(60)}
    repository, writer = column_of(held, tmp_path=tmp_path)
    writer["x", 60] = held[60] = np.full(3000, 60, "<i4")
    monkeypatch.setattr("hangar_cloud.catalog.alter._CHUNK_ROWS", 10)
    write, calls = writer._samples.write, []

    def fail(*arguments):
        calls.append(len(calls))
        if len(calls) == 4:
            raise OSError("no space left")
        return write(*arguments)

    monkeypatch.setattr(writer._samples, "write", fail)
    with pytest.raises(OSError, match="no space"):
        writer.columns.alter("x", dtype="<i8")
    killed = reopened(repository, tmp_path)
    other = killed.checkout(write=True)
    for checkout in (writer, other):
        assert holds(checkout["x"], held)
        assert checkout["x"].dtype == np.int32
        checkout["x", 61] = np.full(3000, 61, "<i4")
        checkout.columns.alter("x", dtype="<i8")
        wanted = {key: value.astype("<i8") for key, value in held.items()} | {61: np.full(3000, 61, "<i8")}
        assert holds(checkout["x"], wanted)
        checkout.commit("altered")
        assert holds(checkout["x"], wanted)
        checkout.close()


def test_iterating_over_a_column_that_is_altered_meanwhile_is_an_error_and_never_a_wrong_value(tmp_path):
    held = {key: np.full(5, key, "<i4") for key in range(20)}
    _, writer = column_of(held, tmp_path=tmp_path)
    for walk in (writer["x"].items(), iter(writer["x"])):
        next(walk)
        writer.columns.alter("x", dtype="<f4" if writer["x"].dtype == np.int32 else "<i4")
        with pytest.raises(RuntimeError, match="altered"):
            list(walk)
    writer.close()


SHAPES = [(4,), (2, 3), ()]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_of_alterations_keeps_the_numbers(tmp_path, data):
    """Whatever is asked: it is done for every sample, or refused and nothing has happened."""
    repository = make_repository(tmp_path / uuid4().hex)
    writer = repository.checkout(write=True)
    shape = data.draw(st.sampled_from(SHAPES))
    dtype = np.dtype(data.draw(st.sampled_from(["|i1", "<i4", "<f8"])))
    backend = data.draw(st.sampled_from(["p0", "i0", None]))
    column = writer.add_ndarray_column("x", shape, dtype, backend=backend)
    held: dict[int, np.ndarray] = {}
    for step in range(data.draw(st.integers(2, 7))):
        action = data.draw(st.sampled_from(["set", "alter", "alter", "commit", "reopen"]))
        if action == "set":
            numbers = [0, 1, 100] if column.dtype.kind == "u" else [0, 1, 100, -3]
            value = np.full(column.shape, data.draw(st.sampled_from(numbers)), column.dtype)
            held[data.draw(st.integers(0, 5))] = value
            column[max(held, key=lambda key: held[key] is value)] = value
        elif action == "commit":
            if writer.diff.status() == "DIRTY":
                try:
                    writer.commit(f"step {step}")
                except RuntimeError:
                    writer.reset_staging_area()
                    writer = repository.checkout(write=True)
                    column = writer["x"]
        elif action == "reopen":
            writer.close()
            writer = repository.checkout(write=True)
            column = writer["x"] if "x" in writer else writer.add_ndarray_column("x", shape, dtype)
        else:
            wanted = {
                "dtype": data.draw(st.sampled_from([None, "<i2", ">i4", "<f4", "|u1", "<c16"])),
                "variable_shape": data.draw(st.sampled_from([None, True, False])),
                "shape": tuple(n + data.draw(st.integers(0, 1)) for n in column.shape)
                if data.draw(st.booleans())
                else None,
            }
            try:
                column = writer.columns.alter("x", **wanted)
            except HangarError:
                pass
            else:
                real = column.dtype.kind != "c"
                held = {key: (value.real if real else value).astype(column.dtype) for key, value in held.items()}
        assert {key: (value.dtype, value.shape, value.tolist()) for key, value in column.items()} == {
            key: (value.dtype, value.shape, value.tolist()) for key, value in sorted(held.items())
        }
    writer.close()
