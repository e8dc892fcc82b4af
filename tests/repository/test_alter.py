"""Changing a column's schema: what is accepted, what is refused, what is rewritten, and what history sees."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hangar_cloud import Repository
from hangar_cloud.catalog.casting import always_exact, cast_exact
from hangar_cloud.errors import CommitConflictError, HangarError, InvalidSchemaError, MergeConflictError
from tests.repository.making import files_of, make_repository, read_all, same, same_columns

NUMBERS = ["|b1", "|i1", "|u1", "<i2", ">u2", "<i4", "<u4", "<i8", ">i8", "<u8", "<f2", "<f4", ">f4", "<f8", "<c8", "<c16"]


def column_of(values, *, name="x", repository=None, variable=False, shape=None, backend=None, commit=True, tmp_path=None):
    """A writer with one column of these values, committed."""
    repository = repository or make_repository(tmp_path / "r")
    writer = repository.checkout(write=True)
    first = next(iter(values.values()))
    writer.add_ndarray_column(name, shape or first.shape, first.dtype, variable_shape=variable, backend=backend).update(values)
    if commit:
        writer.commit("values")
    return repository, writer


def holds(column, values):
    return list(column) == list(values) and all(same(column[key], value) for key, value in values.items())


def reopened(repository, tmp_path):
    """What a writer finds that opens a copy of the folder, made while the first one is open: as after a kill."""
    target = tmp_path / f"killed-{uuid4().hex}"
    shutil.copytree(repository.path, target)
    return Repository(target)


def packs_of(repository):
    return {name: data for name, data in files_of(repository.path).items() if name.endswith(".pack")}


@pytest.mark.parametrize("size", [1, 5, 40, 5000], ids="{} elements".format)
@pytest.mark.parametrize("new", ["<i2", ">i4", "<i8", "<f4", "<f8", "<c8"])
def test_widening_is_accepted(tmp_path, size, new):
    old = {key: np.full(size, 50 * key, np.uint8) for key in range(5)}
    repository, writer = column_of(old, tmp_path=tmp_path)
    before = repository.log(return_contents=True)["head"]
    wanted = {key: value.astype(new) for key, value in old.items()}
    column = writer["x"]
    assert holds(writer.columns.alter("x", dtype=new), wanted)
    assert holds(column, wanted), "a handle stays valid"
    assert column.dtype == np.dtype(new)
    writer["x", 9] = wanted[0]
    wanted[9] = wanted[0]
    writer.commit("altered")
    assert holds(column, wanted)
    writer.close()
    assert holds(repository.checkout()["x"], wanted)
    assert holds(repository.checkout(commit=before)["x"], old), "an old commit reads with the old schema"


REFUSED = [
    ("|i1", "<i8", [1, -128, 128], 128),
    ("|i1", "|u1", [0, 255], 255),
    ("|u1", "|i1", [0, 7, -1], -1),
    ("<i8", "<u8", [0, 2**63], 2**63),
    ("<f8", "<i8", [0, 2**53 + 1], 2**53 + 1),
    ("<f8", "<i8", [0, 2**63 - 1], 2**63 - 1),
    ("<f4", "<u8", [0, 2**64 - 1], 2**64 - 1),
    ("<f2", "<i4", [0, 70000], 70000),
    ("<f4", "<f8", [0.5, 0.1], 0.1),
    ("<f4", "<f8", [0.5, 1e300], 1e300),
    ("<i4", "<f8", [3.0, 3.5], 3.5),
    ("<i4", "<f8", [3.0, -0.0], -0.0),
    ("<i8", "<f8", [3.0, 2.0**63], 2.0**63),
    ("<i4", "<f8", [3.0, float("nan")], float("nan")),
    ("<i4", "<f8", [3.0, float("inf")], float("inf")),
    ("|b1", "<i4", [0, 1, 2], 2),
    ("<f8", "<c16", [1, 1j], 1j),
    ("<c8", "<c16", [1j, 0.1], 0.1),
]


@pytest.mark.parametrize(("new", "old", "values", "bad"), REFUSED)
@pytest.mark.parametrize("staged", [False, True])
def test_a_cast_that_loses_something_is_refused_with_key_and_value(tmp_path, new, old, values, bad, staged):
    repository, writer = column_of(
        {f"k{i}": np.full(3, value, old) for i, value in enumerate(values)}, tmp_path=tmp_path, commit=not staged
    )
    before = files_of(Path(repository.path) / ".hangar" / "store")
    held = dict(writer["x"].items())
    with pytest.raises(InvalidSchemaError) as caught:
        writer.columns.alter("x", dtype=new)
    assert isinstance(caught.value, ValueError)
    assert f"'k{values.index(bad) if bad == bad else 1}'" in str(caught.value)
    assert str(np.array([bad], old)[0]) in str(caught.value)
    assert holds(writer["x"], held)
    assert writer["x"].dtype == np.dtype(old)
    assert writer.diff.status() == ("DIRTY" if staged else "CLEAN")
    assert files_of(Path(repository.path) / ".hangar" / "store") == before
    writer.close()


@pytest.mark.parametrize(
    ("old", "new", "values"),
    [
        ("<i8", "|i1", [-128, 127, 0]),
        ("<i8", "|u1", [0, 255]),
        ("<f8", "<f4", [0.5, -0.0, float("inf"), 2.0**-140, float("nan")]),
        ("<f8", "<i8", [0.0, -(2.0**63), 2.0**62]),
        ("<u8", "<f4", [2**63, 0, 2**24]),
        ("|b1", "<f2", [True, False]),
        ("<c16", "<f4", [1.5, -2]),
        ("<i4", ">i4", [1, -1]),
    ],
)
def test_a_cast_that_loses_nothing_is_accepted(tmp_path, old, new, values):
    held = {i: np.full((2, 3), value, old) for i, value in enumerate(values)}
    repository, writer = column_of(held, tmp_path=tmp_path)
    wanted = {i: np.full((2, 3), value, new) for i, value in enumerate(values)}
    writer.columns.alter("x", dtype=new)
    assert holds(writer["x"], wanted)
    writer.commit("altered")
    assert holds(writer["x"], wanted)
    back = writer.columns.alter("x", dtype=old)
    assert holds(back, held)
    writer.close()


def test_nan_payloads_count(tmp_path):
    fits = np.array([0x7FF8000020000000, 0xFFF8000000000000], "<u8").view("<f8")
    lost = np.array([0x7FF8000000000001], "<u8").view("<f8")
    _, exact = cast_exact(np.concatenate([fits, lost]), np.dtype("<f4"))
    assert exact.tolist() == [True, True, False]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_a_cast_called_exact_gives_equal_numbers_and_comes_back_bit_for_bit(data, old, new):
    values = data.draw(hnp.arrays(old, st.integers(1, 8)))
    cast, exact = cast_exact(values, np.dtype(new))
    assert cast.dtype == np.dtype(new) and cast.shape == values.shape
    if always_exact(np.dtype(old), np.dtype(new)):
        assert exact.all()
    for one, other, is_exact in zip(values.tolist(), cast.tolist(), exact.tolist(), strict=True):
        if is_exact:
            assert one == other or (one != one and other != other)
        elif one == other and np.dtype(new).kind != "b":
            # The only equal numbers that are different bits are the two zeros.
            assert one == 0
    back, _ = cast_exact(cast[exact], np.dtype(old))
    assert back.tobytes() == values[exact].tobytes()


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


def test_the_column_is_the_same_as_if_it_had_been_made_so(tmp_path):
    """Identities, and so the root digests, do not tell how a column came about."""
    for shape in [(3,), (2, 2, 2, 2), (50,), (1, 1, 1, 1)]:
        for new in [{"dtype": "<i8"}, {"variable_shape": True}, {"dtype": "<f8", "variable_shape": True}]:
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
    with pytest.raises(AttributeError):
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


@pytest.mark.parametrize("changes", [{"dtype": "<i8"}, {"variable_shape": True}, {"dtype": ">f8", "variable_shape": True}], ids=str)
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


def two_branches(tmp_path, base=None):
    held = base or {key: np.full(4, key, "<i4") for key in range(20)}
    repository, writer = column_of(held, tmp_path=tmp_path)
    writer.close()
    repository.create_branch("dev")
    return repository, held


def on(repository, branch):
    return repository.checkout(write=True, branch=branch)


@pytest.mark.parametrize("changes", [{"dtype": "<i8"}, {"variable_shape": True}, {"variable_shape": True, "shape": (9,)}], ids=str)
@pytest.mark.parametrize("altering", ["master", "dev"])
def test_merge_takes_the_side_that_altered_if_the_other_left_the_column_alone(tmp_path, altering, changes):
    repository, held = two_branches(tmp_path)
    writer = on(repository, altering)
    writer.columns.alter("x", **changes)
    writer["x", 0] = np.zeros(4, changes.get("dtype", "<i4"))
    writer.commit("altered")
    writer.close()
    writer = on(repository, "dev" if altering == "master" else "master")
    writer.add_str_column("text")[0] = "elsewhere"
    writer.commit("elsewhere")
    writer.close()
    repository.merge("merged", "master", "dev")
    found = read_all(repository, branch="master")
    assert found["text"] == {0: "elsewhere"}
    assert same_columns({"x": found["x"]}, {"x": read_all(repository, branch=altering)["x"]})


@pytest.mark.parametrize("altering", ["master", "dev"])
def test_merge_of_an_altered_column_with_a_changed_one_is_a_conflict(tmp_path, altering):
    repository, held = two_branches(tmp_path)
    writer = on(repository, altering)
    writer.columns.alter("x", variable_shape=True)
    writer.commit("altered")
    writer.close()
    writer = on(repository, "dev" if altering == "master" else "master")
    writer["x", 3] = np.full(4, 99, "<i4")
    writer.commit("changed")
    writer.close()
    with pytest.raises(MergeConflictError, match="column 'x'"):
        repository.merge("merged", "master", "dev")
    repository.merge("merged", "master", "dev", strategy="ours")
    merged = repository.checkout(branch="master")["x"]
    assert merged.schema_type == ("variable_shape" if altering == "master" else "fixed_shape")


def test_both_sides_alter_alike(tmp_path):
    repository, held = two_branches(tmp_path)
    for branch in ("master", "dev"):
        writer = on(repository, branch)
        writer.columns.alter("x", dtype="<i8")
        if branch == "master":
            del writer["x"][3]
            writer["x", 100] = np.full(4, 100, "<i8")
        writer.commit("altered")
        writer.close()
    with pytest.raises(MergeConflictError, match="sample 3 of column 'x'") as caught:
        repository.merge("merged", "master", "dev")
    assert [key.sample for key in caught.value.conflicts.t21.samples] == [3]
    repository.merge("merged", "master", "dev", strategy="ours")
    assert set(read_all(repository, branch="master")["x"]) == {*held, 100} - {3}


def test_both_sides_raise_the_maximum_alike_and_change_other_samples(tmp_path):
    repository = make_repository(tmp_path / "r")
    column_of({key: np.full(4, key, "<i4") for key in range(20)}, repository=repository, variable=True)[1].close()
    repository.create_branch("dev")
    for key, branch in enumerate(("master", "dev")):
        writer = on(repository, branch)
        writer.columns.alter("x", shape=(8,))
        writer["x", key] = np.full(8, 77, "<i4")
        del writer["x"][10 + key]
        writer.commit("altered")
        writer.close()
    repository.merge("merged", "master", "dev")
    found = read_all(repository, branch="master")["x"]
    assert 10 not in found and 11 not in found
    assert found[0].shape == found[1].shape == (8,)


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


SHAPES = [(4,), (2, 3), ()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
            value = np.full(column.shape, data.draw(st.sampled_from([0, 1, 100, -3])), column.dtype)
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
                "shape": tuple(n + data.draw(st.integers(0, 1)) for n in column.shape) if data.draw(st.booleans()) else None,
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
