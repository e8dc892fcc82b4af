"""Writing: blocks, update, append, removal, backends, commits and resets."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import InvalidArgumentError, SampleNotFoundError
from tests.repository.making import files_of, read_all, same


def sample(number, size=300):
    return np.full(size, number, np.float32)


@pytest.fixture
def column(writer):
    return writer.add_ndarray_column("big", shape=(300,), dtype=np.float32)


def test_with_on_a_column(writer, column):
    with column as same_column:
        assert same_column is column
        for number in range(100):
            column[number] = sample(number)
        assert len(column) == 100
        assert column[42][0] == 42
        del column[42]
        assert 42 not in column
    assert len(column) == 99
    writer.commit("block")
    assert 42 not in column
    assert column[41][299] == 41


def test_with_on_the_checkout_and_nesting(writer, column):
    with writer as opened:
        assert opened is writer
        writer["array", 0] = np.ones(3, np.float32)
        with writer, column:
            column[0] = sample(0)
            with column, writer["text"] as text:
                text[0] = "inner"
                column[1] = sample(1)
            column[2] = sample(2)
        with pytest.raises(PermissionError):
            writer.add_str_column("still-inside")
    writer.add_str_column("outside")
    assert (len(column), writer["text", 0]) == (3, "inner")


def test_what_is_in_a_with_block_is_durable_at_its_end(empty, writer, column):
    with column:
        column[0] = sample(0)
    writer.close()
    writer = Repository(empty.path).checkout(write=True)
    assert writer["big", 0][0] == 0
    writer.close()


def test_an_exception_inside_with_keeps_what_was_written(empty, writer, column):
    with pytest.raises(ZeroDivisionError), writer, column:
        column[0] = sample(0)
        column[1] = sample(1)
        1 / 0  # noqa: B018
    assert sorted(column) == [0, 1]
    with pytest.raises(ValueError, match="takes numpy"), column:
        column[2] = sample(2)
        column[3] = "wrong"
    assert sorted(column) == [0, 1, 2]
    writer.add_str_column("closed")
    writer.commit("kept")
    writer.close()
    assert sorted(read_all(empty)["big"]) == [0, 1, 2]


def test_a_commit_inside_with(empty, writer, column):
    with column:
        column[0] = sample(0)
        writer.commit("inside")
        column[1] = sample(1)
    writer.commit("after")
    assert sorted(column) == [0, 1]
    writer.close()
    assert sorted(read_all(empty)["big"]) == [0, 1]


def test_writing_while_iterating(writer, column):
    column.update({number: sample(number) for number in range(10)})
    for commit in (False, True):
        if commit:
            writer.commit("base")
        for walk in (column.keys, column.values, column.items, column.__iter__):
            before = len(column)
            steps = 0
            for _ in walk():
                column[f"{walk.__name__}-{commit}-{steps}"] = sample(-1)
                steps += 1
            assert steps == before, "a new key is not seen in that pass"
            assert len(column) == 2 * before if steps == before else None
            for key in [key for key in column if isinstance(key, str)]:
                del column[key]
    for key in column:
        del column[key]
    assert len(column) == 0


def test_committing_while_iterating(writer, column):
    column.update({number: sample(number) for number in range(600)})
    seen = []
    for key, value in column.items():
        seen.append((key, value[0]))
        if key == 5:
            writer.commit("in the middle")
            column[0] = sample(-1)
    assert seen == [(number, number) for number in range(600)]


def test_changing_the_value_of_the_key_at_hand(writer, column):
    column.update({number: sample(number) for number in range(10)})
    for key, value in column.items():
        column[key] = value * 2
    assert [column[key][0] for key in range(10)] == [2 * key for key in range(10)]


def test_update_takes_a_mapping_pairs_and_keywords(writer, column):
    given = {0: sample(0), "a": sample(1)}
    copy = {key: value.copy() for key, value in given.items()}
    column.update(given)
    column.update([(1, sample(2)), ("b", sample(3))], c=sample(4))
    column.update(d=sample(5))
    column.update((key, sample(6)) for key in ("e", "f"))
    column.update()
    column.update({})
    assert given.keys() == copy.keys()
    assert all(same(given[key], copy[key]) for key in copy)
    assert sorted(map(str, column)) == ["0", "1", "a", "b", "c", "d", "e", "f"]
    column.update([(9, sample(1)), (9, sample(2))])
    assert column[9][0] == 2, "the last one counts"
    other = writer.add_ndarray_column("copy", shape=(300,), dtype=np.float32)
    other.update(column)
    assert all(same(other[key], value) for key, value in column.items())


def test_update_checks_everything_before_it_writes(writer, column):
    with column:
        column[0] = sample(0)
    before = files_of(writer._staging.folder).keys(), len(column)
    for bad in ({0: sample(9), 1: sample(1)[:5]}, {0: sample(9), "bad key": sample(1)}, {0: sample(9), 1: [1]}):
        for block in (False, True):
            with pytest.raises(ValueError, match="big|bad key"):
                if block:
                    with column:
                        column.update(bad)
                else:
                    column.update(bad)
            assert (column[0][0], 1 in column) == (0, False)
    assert (files_of(writer._staging.folder).keys(), len(column)) == before


def test_append_gives_fresh_keys_in_order(writer, column):
    column["zzz"] = sample(0)
    keys = []
    with column:
        keys += [column.append(sample(number)) for number in range(2000)]
    writer.commit("appended")
    keys += [column.append(sample(number)) for number in range(10)]
    assert len(set(keys)) == 2010
    assert sorted(keys) == keys
    assert [key for key in column if key != "zzz"] == keys
    assert [column[key][0] for key in keys[:5]] == [0, 1, 2, 3, 4]


def test_append_keeps_its_order_when_the_clock_is_set_back(writer, column, monkeypatch):
    first = column.append(sample(0))
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000)
    assert column.append(sample(1)) > first


def test_dict_manners(writer, column):
    with pytest.raises(KeyError, match="column 'big' has no sample 'x'") as caught:
        column["x"]
    assert type(caught.value) is SampleNotFoundError
    for use in (lambda: column.pop("x"), lambda: column.__delitem__("x"), lambda: column.get_batch(["x"])):
        with pytest.raises(KeyError, match="'big' has no sample 'x'"):
            use()
    assert column.get("x") is None
    assert column.get("x", 5) == 5
    assert column.pop("x", 5) == 5
    column["x"] = sample(1)
    assert column.pop("x")[0] == 1
    assert "x" not in column
    assert len(column) == 0
    for key in ("b", 10, "a", 9, "10", 1):
        column[key] = sample(0)
    assert list(column) == list(column.keys()) == [1, 9, 10, "10", "a", "b"]
    assert iter(column.keys()) is not None
    assert next(column.items())[0] == 1
    assert list(column.keys(local=True)) == list(column)
    assert len(list(column.values(local=True))) == len(list(column.items(local=True))) == 6
    column[9] = sample(5)
    assert len(column) == 6


def test_order_and_length_over_base_staged_and_pending(writer, column):
    column.update({key: sample(key) for key in range(0, 100, 3)})
    writer.commit("base")
    column.update({key: sample(key) for key in range(0, 100, 5)})
    with column:
        column.update({key: sample(key) for key in range(0, 100, 7)})
        for key in range(0, 100, 6):
            column.pop(key, None)
        expected = sorted(set(range(0, 100, 3)) | set(range(0, 100, 5)) | set(range(0, 100, 7)) - set())
        expected = [key for key in expected if key % 6]
        for _ in range(2):
            assert list(column) == expected
            assert len(column) == len(expected)
            assert [key for key in range(-1, 101) if key >= 0 and key in column] == expected
            assert all(value[0] == key for key, value in column.items())
    assert list(column) == expected
    writer.commit("next")
    assert list(column) == expected
    assert len(column) == len(expected)


def test_get_batch(writer, column):
    column.update({key: sample(key) for key in range(50)})
    writer["text"].update({key: f"t{key}" for key in range(50)})
    writer["blob"].update({key: bytes([key]) * 300 for key in range(50)})
    scalars = writer.add_ndarray_column("scalars", shape=(), dtype=">i2")
    scalars.update({key: np.array(key, ">i2") for key in range(50)})
    for commit in (False, True):
        if commit:
            writer.commit("batch")
        batch = column.get_batch([7, 3, 7, 49])
        assert (batch.shape, batch.dtype) == ((4, 300), np.float32)
        assert batch[:, 0].tolist() == [7, 3, 7, 49]
        assert column.get_batch([]).shape == (0, 300)
        assert column.get_batch(iter(range(50)))[:, 5].tolist() == list(range(50))
        assert same(scalars.get_batch([2, 1]), np.array([2, 1], ">i2"))
        assert scalars.get_batch([]).shape == (0,)
        assert writer["text"].get_batch([3, 1, 3]) == ["t3", "t1", "t3"]
        assert writer["text"].get_batch([]) == []
        assert writer["blob"].get_batch(np.array([2, 2])) == [b"\2" * 300] * 2
        with pytest.raises(KeyError, match="no sample 77"):
            column.get_batch([1, 77])
    with column:
        column["pending"] = sample(5)
        assert column.get_batch(["pending", 1])[:, 0].tolist() == [5, 1]


def test_change_backend(empty, writer):
    column = writer.add_ndarray_column("c", shape=(5,), dtype=np.int16)
    assert column.backend == "i0"
    column["inline"] = np.arange(5, dtype=np.int16)
    column.change_backend("p0", {"codec": "zstd", "level": 9, "shuffle": True})
    assert (column.backend, column.backend_options) == ("p0", {"codec": "zstd", "level": 9, "shuffle": True})
    column["packed"] = np.arange(5, dtype=np.int16)
    writer.commit("changed")
    for bad in ("zz", None, 5):
        if bad is not None:
            with pytest.raises(ValueError, match="is not known; use one of p0, i0") as caught:
                column.change_backend(bad)
            assert type(caught.value) is InvalidArgumentError
    with pytest.raises(ValueError, match="unknown backend option"):
        column.change_backend("p0", {"nope": 1})
    writer.close()
    writer = Repository(empty.path).checkout(write=True)
    column = writer["c"]
    assert (column.backend, column.backend_options["level"]) == ("p0", 9)
    column.change_backend("i0")
    writer.commit("only the backend")
    assert all(same(value, np.arange(5, dtype=np.int16)) for value in column.values())
    writer.close()
    assert empty.checkout()["c"].backend == "i0"


@pytest.mark.parametrize("codec", ["auto", "raw", "lz4", "zstd"])
@pytest.mark.parametrize("dtype", ["<f8", "|u1", ">c16"])
def test_codecs_are_bit_exact(empty, codec, dtype):
    writer = empty.checkout(write=True)
    options = {"codec": codec, **({"shuffle": True} if codec not in ("auto", "raw") else {})}
    column = writer.add_ndarray_column("c", shape=(777,), dtype=dtype, backend_options=options)
    generator = np.random.default_rng(0)
    values = {n: (generator.integers(0, 4 if n % 2 else 250, 777)).astype(dtype) for n in range(40)}
    column.update(values)
    writer.commit("c")
    writer.close()
    found = read_all(Repository(empty.path))["c"]
    assert all(same(found[n], value) for n, value in values.items())


def test_remove_and_add_a_column_with_another_schema(empty, writer):
    writer["array"].update({n: np.full(3, n, np.float32) for n in range(5)})
    writer.commit("float")
    writer.columns.delete("array")
    column = writer.add_str_column("array")
    column[0] = "text now"
    assert list(column) == [0]
    writer.close()
    writer = Repository(empty.path).checkout(write=True)
    assert dict(writer["array"].items()) == {0: "text now"}
    digest = writer.commit("text")
    parent = writer.log(return_contents=True)["ancestors"][digest][0]
    writer.close()
    assert read_all(empty)["array"] == {0: "text now"}
    assert read_all(empty, commit=parent)["array"][4][0] == 4
    writer = empty.checkout(write=True)
    assert writer.columns.delete("array") == "array"
    writer.commit("gone")
    assert "array" not in writer
    writer.close()
    assert "array" not in empty.checkout()


def test_add_and_remove_without_a_commit_between_is_no_change(committed):
    writer = committed.checkout(write=True)
    writer.add_str_column("new")["k"] = "v"
    del writer.columns["new"]
    with pytest.raises(RuntimeError, match="nothing to commit"):
        writer.commit("nothing")
    writer.close()
