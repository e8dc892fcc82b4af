"""What may still be used after close, commit, reset and removal."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hangar_cloud.errors import ClosedError, ColumnNotFoundError

SAMPLE = np.ones(3, np.float32)


def uses_of_column(column):
    return [
        lambda: repr(column),
        lambda: str(column),
        lambda: column[0],
        lambda: column.get(0),
        lambda: column.get_batch([0]),
        lambda: 0 in column,
        lambda: len(column),
        lambda: list(column),
        lambda: list(column.keys()),
        lambda: list(column.values()),
        lambda: list(column.items()),
        lambda: column.column,
        lambda: column.column_type,
        lambda: column.column_layout,
        lambda: column.schema_type,
        lambda: column.dtype,
        lambda: column.shape,
        lambda: column.backend,
        lambda: column.backend_options,
        lambda: column.contains_subsamples,
        lambda: column.iswriteable,
        lambda: column.remote_reference_keys,
        lambda: column.contains_remote_references,
        column.__enter__,
        lambda: pickle.dumps(column),
    ]


def uses_of_writer_column(column):
    return [
        lambda: column.__setitem__(0, SAMPLE),
        lambda: column.__delitem__(0),
        lambda: column.update({0: SAMPLE}),
        lambda: column.append(SAMPLE),
        lambda: column.pop(0),
        lambda: column.pop(0, None),
        lambda: column.change_backend("p0"),
    ]


def uses_of_checkout(checkout, columns):
    return [
        lambda: repr(checkout),
        lambda: checkout["array"],
        lambda: checkout["array", 0],
        lambda: checkout.get("array"),
        lambda: "array" in checkout,
        lambda: len(checkout),
        lambda: list(checkout),
        checkout.keys,
        lambda: list(checkout.values()),
        lambda: list(checkout.items()),
        lambda: checkout.columns,
        lambda: checkout.commit_hash,
        checkout.log,
        checkout.__enter__,
        checkout.close,
        lambda: repr(columns),
        lambda: columns["array"],
        lambda: columns.get("array"),
        lambda: "array" in columns,
        lambda: len(columns),
        lambda: list(columns),
        lambda: list(columns.values()),
        lambda: columns.iswriteable,
        lambda: columns.contains_remote_references,
        lambda: columns.remote_sample_keys,
    ]


def assert_all_refused(uses, words):
    for use in uses:
        with pytest.raises(PermissionError, match=words):
            use()


def test_after_close_a_reader_and_all_it_gave_refuse_everything(committed):
    checkout = committed.checkout()
    column, columns = checkout["array"], checkout.columns
    half_read = iter(column.items())
    next(half_read)
    rest = iter(column)
    next(rest)
    checkout.close()
    assert_all_refused([*uses_of_column(column), *uses_of_checkout(checkout, columns)], r"was closed.*checkout\(\)")
    assert_all_refused([lambda: list(rest), lambda: list(half_read)], "was closed")


def test_after_close_a_writer_and_all_it_gave_refuse_everything(committed):
    checkout = committed.checkout(write=True)
    column, columns = checkout["array"], checkout.columns
    checkout.close()
    uses = [
        *uses_of_column(column)[:-1],
        *uses_of_writer_column(column),
        *uses_of_checkout(checkout, columns),
        lambda: checkout.commit("x"),
        checkout.reset_staging_area,
        lambda: checkout.add_str_column("x"),
        lambda: checkout.add_bytes_column("x"),
        lambda: checkout.add_ndarray_column("x", shape=1, dtype=int),
        lambda: checkout.__setitem__(("array", 0), SAMPLE),
        lambda: checkout.branch_name,
        lambda: columns.delete("array"),
    ]
    assert_all_refused(uses, "was closed")
    reader = committed.checkout()
    assert len(reader["array"]) == 10
    reader.close()


def test_a_writers_column_does_not_pickle(committed):
    checkout = committed.checkout(write=True)
    with pytest.raises(PermissionError, match="pickle one of a reader checkout"):
        pickle.dumps(checkout["array"])
    checkout.close()


def test_a_handle_stays_valid_across_commits(committed):
    checkout = committed.checkout(write=True)
    column = checkout["array"]
    for number in range(3):
        column[f"k{number}"] = SAMPLE
        checkout.commit(f"commit {number}")
        assert checkout["array"] is column
        assert len(column) == 11 + number
        assert column[f"k{number}"][0] == 1
    checkout.close()


def test_a_handle_of_a_new_column_stays_valid_across_its_first_commit(writer):
    column = writer["array"]
    column[0] = SAMPLE
    writer.commit("first")
    column[1] = SAMPLE
    assert sorted(column) == [0, 1]
    writer.commit("second")
    assert len(column) == 2


def test_a_handle_of_a_removed_column_is_refused(committed):
    checkout = committed.checkout(write=True)
    column = checkout["array"]
    del checkout.columns["array"]
    assert_all_refused(
        [*uses_of_column(column)[:-1], *uses_of_writer_column(column)], "column 'array' was removed from this checkout"
    )
    with pytest.raises(ColumnNotFoundError):
        checkout["array"]
    checkout.close()


def test_a_handle_of_a_removed_and_remade_column_is_refused(committed):
    checkout = committed.checkout(write=True)
    old = checkout["array"]
    checkout.columns.delete("array")
    new = checkout.add_ndarray_column("array", shape=(2, 2), dtype=np.int16)
    with pytest.raises(PermissionError, match="was removed"):
        old[0]
    new[0] = np.ones((2, 2), np.int16)
    checkout.commit("another schema")
    with pytest.raises(PermissionError, match="was removed"):
        old[0] = SAMPLE
    assert new[0].shape == (2, 2)
    checkout.close()


def test_a_handle_of_a_column_that_a_reset_removed_is_refused(committed):
    checkout = committed.checkout(write=True)
    column = checkout.add_str_column("short-lived")
    column["a"] = "b"
    checkout.reset_staging_area()
    for use in (lambda: column["a"], lambda: repr(checkout), lambda: checkout["array"]):
        with pytest.raises(PermissionError):
            use()
    assert committed.writer_lock_held is False
    checkout = committed.checkout(write=True)
    assert "short-lived" not in checkout
    checkout.close()


def test_a_writer_that_a_reset_closed_takes_one_more_close(committed):
    checkout = committed.checkout(write=True)
    checkout["text", 0] = "other"
    checkout.reset_staging_area()
    other = committed.checkout(write=True)
    checkout.close()
    assert committed.writer_lock_held, "the lock of another writer stays"
    with pytest.raises(PermissionError, match="was closed"):
        checkout.close()
    other["text", 0] = "still works"
    other.close()


def test_readers_and_writers_close_independently(committed):
    readers = [committed.checkout() for _ in range(5)]
    writer = committed.checkout(write=True)
    readers[0].close()
    assert readers[1]["array", 3][0] == 3
    writer["array", 3] = SAMPLE
    writer.commit("changed")
    writer.close()
    assert [reader["array", 3][0] for reader in readers[1:]] == [3] * 4, "a reader stays at its commit"
    with pytest.raises(ClosedError):
        readers[0]["array"]
    assert committed.checkout()["array", 3][0] == 1


def test_a_reader_has_no_way_to_write(committed):
    checkout = committed.checkout()
    for name in ("add_ndarray_column", "add_str_column", "add_bytes_column", "commit"):
        with pytest.raises(AttributeError):
            getattr(checkout, name)
    with pytest.raises(TypeError):
        checkout["array", 0] = SAMPLE
    with pytest.raises(TypeError):
        checkout["array"][0] = SAMPLE
    with pytest.raises(TypeError):
        del checkout["array"][0]
    with pytest.raises(PermissionError, match="read-only"):
        del checkout.columns["array"]
    for name in ("update", "append", "pop", "change_backend"):
        assert not hasattr(checkout["array"], name)
    assert checkout.columns.iswriteable is False
    assert checkout["array"].iswriteable is False
    checkout.close()


def test_the_backend_is_read_only(writer):
    for name, value in (("backend", "i0"), ("backend_options", {})):
        with pytest.raises(AttributeError):
            setattr(writer["array"], name, value)
    writer["array"].backend_options["codec"] = "lz4"
    assert writer["array"].backend_options == {}
