"""Many values at once: `extend`, `update_batch`, and what they share with single writes."""

from __future__ import annotations

import os
from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository, value_batch
from hangar_cloud.catalog.keys import MAX_INT_KEY
from hangar_cloud.catalog.working_column import FLUSH_BYTES
from hangar_cloud.errors import CommitConflictError
from tests.repository.making import make_repository, noise, read_all, same


def arrays(count: int, first: int = 0) -> np.ndarray:
    return np.arange(first * 3, (first + count) * 3, dtype=np.float32).reshape(count, 3)


def contents(column) -> dict:
    return dict(column.items())


def assert_same(column, expected: dict) -> None:
    found = contents(column)
    assert list(found) == list(expected)
    assert all(same(found[key], value) for key, value in expected.items())
    assert len(column) == len(expected)


class TestExtend:
    def test_gives_the_numbers_after_the_greatest(self, writer):
        column = writer["array"]
        assert column.extend(arrays(3)) == [0, 1, 2]
        column["7"] = arrays(1)[0]
        column[10] = arrays(1)[0]
        assert column.extend(arrays(2)) == [11, 12]
        with column:
            column[20] = arrays(1)[0]
            assert column.extend(list(arrays(1))) == [21]
        assert len(column) == 9

    def test_goes_on_after_a_commit_and_in_another_checkout(self, writer, empty):
        writer["text"].extend(["a", "b"])
        writer.commit("two")
        assert writer["text"].extend(["c"]) == [2]
        writer.close()
        again = empty.checkout(write=True)
        assert again["text"].extend(["d"]) == [3]
        again.commit("four")
        again.close()
        assert read_all(empty)["text"] == {0: "a", 1: "b", 2: "c", 3: "d"}

    def test_takes_no_number_twice_in_a_checkout(self, writer):
        keys = writer["text"].extend("abc" for _ in range(3))
        del writer["text"][keys[-1]]
        assert writer["text"].extend(["d"]) == [3]

    @pytest.mark.parametrize("values", [[], np.empty((0, 3), np.float32), iter(())])
    def test_nothing_is_nothing(self, writer, values):
        assert writer["array"].extend(values) == []
        assert len(writer["array"]) == 0

    def test_has_no_numbers_after_the_last(self, writer):
        writer["array"][MAX_INT_KEY - 1] = arrays(1)[0]
        with pytest.raises(ValueError, match="update_batch"):
            writer["array"].extend(arrays(2))
        assert len(writer["array"]) == 1
        assert writer["array"].extend(arrays(1)) == [MAX_INT_KEY]

    def test_two_writers_of_a_bucket_take_the_same_numbers(self, tmp_path):
        url = f"memory://extend-{uuid4().hex}"
        machines = [make_repository(url, cache_dir=tmp_path / "a"), Repository(url, cache_dir=tmp_path / "b")]
        first = machines[0].checkout(write=True)
        first.add_str_column("text")
        first.commit("a column")
        first.close()
        one, other = (machine.checkout(write=True) for machine in machines)
        one["text"].extend(["by one"])
        other["text"].extend(["by the other"])
        one.commit("one")
        with pytest.raises(CommitConflictError, match="text"):
            other.commit("other")
        assert contents(other["text"]) == {0: "by the other"}
        one.close()
        other.close()


class TestValues:
    def test_of_every_kind_come_back(self, writer, empty):
        writer.add_ndarray_column("label", prototype=np.array(0))
        writer.add_ndarray_column("varied", shape=(4, 4), dtype=np.int16, variable_shape=True)
        writer.add_ndarray_column("big", shape=(3000,), dtype=np.float64)
        varied = [np.full((1 + n % 4, 2), n, np.int16) for n in range(9)]
        big = np.random.default_rng(0).random((7, 3000))
        writer["label"].extend(np.arange(100))
        writer["label"].extend([np.array(100), np.array(101)])
        writer["varied"].extend(varied)
        writer["varied"].extend(np.zeros((2, 3, 4), np.int16))
        writer["big"].extend(big)
        writer["text"].extend(["", "short", "x" * 40, "ü" * 500])
        writer["blob"].extend([b"", b"\0" * 33, b"x" * 1000])
        expected = {
            "label": {n: np.array(n) for n in range(102)},
            "varied": dict(enumerate([*varied, np.zeros((3, 4), np.int16), np.zeros((3, 4), np.int16)])),
            "big": dict(enumerate(big)),
            "text": dict(enumerate(["", "short", "x" * 40, "ü" * 500])),
            "blob": dict(enumerate([b"", b"\0" * 33, b"x" * 1000])),
        }
        for name, values in expected.items():
            assert_same(writer[name], values)
        writer.commit("all kinds")
        for name, values in expected.items():
            assert_same(writer[name], values)
        writer.close()
        assert empty.fsck() == []

    def test_of_an_array_in_another_layout(self, writer):
        source = np.asfortranarray(np.arange(60, dtype=np.float32).reshape(20, 3))
        with pytest.raises(ValueError, match="not C-contiguous"):
            writer["array"].extend(source)
        writer["array"].extend(arrays(20)[::-2])
        assert_same(writer["array"], dict(enumerate(arrays(20)[::-2])))

    def test_are_copied(self, writer):
        source = arrays(4)
        writer["array"].extend(source)
        with writer["array"] as column:
            row = source[0]
            column["single"] = row
            source[:] = -1
            column.extend(source)
            source[:] = -2
        assert_same(
            writer["array"],
            {
                **dict(enumerate(arrays(4))),
                **dict.fromkeys(range(4, 8), np.full(3, -1, np.float32)),
                "single": arrays(1)[0],
            },
        )

    def test_of_a_generator_that_uses_one_array_for_all(self, writer):
        def values():
            buffer = np.empty(3, np.float32)
            for row in arrays(4):
                buffer[:] = row
                yield buffer

        writer["array"].extend(values())
        assert_same(writer["array"], dict(enumerate(arrays(4))))

    def test_of_a_masked_array_of_labels_are_refused(self, writer):
        labels = writer.add_ndarray_column("label", prototype=np.array(0))
        with pytest.raises(ValueError, match="masked"):
            labels.extend(np.ma.masked_array(np.arange(4), mask=[0, 0, 1, 0]))
        assert len(labels) == 0

    def test_that_are_equal_are_stored_once(self, writer, empty):
        writer.add_ndarray_column("big", shape=(5000,), dtype=np.uint8)
        writer["big"].extend(np.stack([noise(1)] * 50))
        writer["big"].extend(np.stack([noise(1)] * 50))
        writer.commit("equal")
        assert empty.size_nbytes < 60_000

    def test_more_than_fit_in_memory_at_once(self, writer):
        writer.add_ndarray_column("big", shape=(1024, 1024), dtype=np.uint8)
        count = FLUSH_BYTES // 2**20 + 3
        values = np.zeros((count, 1024, 1024), np.uint8)
        values[:, 0, 0] = range(count)
        column = writer["big"]
        column.extend(values)
        with column:
            for number in range(count):
                column[number] = values[-1 - number]
                assert column._column.pending_bytes < FLUSH_BYTES
        assert [column[number][0, 0] for number in range(count)] == list(range(count))[::-1]

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([arrays(1)[0], arrays(1)[0].astype(np.float64)], r"'array', values\[1\] \(sample 1\).*astype"),
            ([arrays(1)[0], np.zeros(4, np.float32)], r"values\[1\].*\(4,\)"),
            ([arrays(1)[0], [1, 2, 3]], r"values\[1\].*list"),
            (np.zeros((2, 3), np.float64), r"values\[0\].*float64"),
            (np.zeros((2, 4), np.float32), r"values\[0\].*\(4,\)"),
            (np.zeros(3, np.float32), r"values\[0\]"),
            (np.ma.masked_array(arrays(2), mask=True), "masked"),
            (np.ma.masked_array(arrays(2)), "masked"),
            (iter(np.ma.masked_array(arrays(2), mask=True)), "masked"),
            (np.float32(3), "sequence of values"),
            (np.array(3, np.float32), "which is one value"),
            ("abc", "sequence of values"),
            ({0: arrays(1)[0]}, "dict"),
            (None, "NoneType"),
        ],
    )
    def test_that_do_not_fit_are_named_and_nothing_is_written(self, writer, values, message):
        with pytest.raises(ValueError, match=message):
            writer["array"].extend(values)
        assert len(writer["array"]) == 0
        assert writer["array"].extend(arrays(1)) == [0]

    def test_text_is_no_sequence_of_texts(self, writer):
        with pytest.raises(ValueError, match="str"):
            writer["text"].extend("abc")
        with pytest.raises(ValueError, match=r"values\[1\] \(sample 1\)"):
            writer["text"].extend(["a", 1])
        assert len(writer["text"]) == 0


class TestUpdateBatch:
    def test_is_an_update(self, writer):
        column = writer["array"]
        column.extend(arrays(4))
        column.update_batch([1, "1", 9, "a/b"], arrays(4, 50))
        expected = dict(enumerate(arrays(4))) | dict(zip([1, "1", 9, "a/b"], arrays(4, 50), strict=True))
        assert_same(column, {key: expected[key] for key in [0, 1, 2, 3, 9, "1", "a/b"]})
        writer.commit("update")
        column.update_batch(np.array([0, 9]), arrays(2, 90))
        column.update_batch(range(100, 102), list(arrays(2)))
        assert same(column[9], arrays(1, 91)[0])
        assert len(column) == 9

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ([0], "1 keys for 2 values"),
            ([0, 0], r"0 is there twice, as keys\[0\] and keys\[1\]"),
            (["a", -1], "-1"),
            (["a", "b c"], "b c"),
            ([0, 1.0], "float"),
            ("ab", "sequence of keys"),
            (3, "sequence of keys"),
        ],
    )
    def test_keys_that_are_not_suitable(self, writer, keys, message):
        with pytest.raises(ValueError, match=message):
            writer["array"].update_batch(keys, arrays(2))
        assert len(writer["array"]) == 0

    def test_comes_after_what_a_block_has_in_memory(self, writer):
        with writer["text"] as column:
            column[0], column[1] = "old", "other"
            column.update_batch([0, 2], ["new", "two"])
            del column[2]
            column[0] = "newest"
        assert contents(writer["text"]) == {0: "newest", 1: "other"}


class TestNested:
    @pytest.fixture
    def nested(self, writer):
        return writer.add_ndarray_column("nested", shape=(3,), dtype=np.float32, contains_subsamples=True)

    def test_pairs(self, nested, writer):
        pairs = [(0, "a"), ("0", "a"), (0, 1), ("p", 7)]
        nested.update_batch(pairs, arrays(4))
        writer.commit("pairs")
        assert [len(nested[sample]) for sample in (0, "0", "p")] == [2, 1, 1]
        assert all(same(nested[pair], value) for pair, value in zip(pairs, arrays(4), strict=True))
        for keys in ([0, 1], [(0, 1, 2), (0, 1)], [(0, "x y"), (0, 1)], [(0, 1), (0, 1)]):
            with pytest.raises(ValueError):
                nested.update_batch(keys, arrays(2))
        assert sum(map(len, nested.values())) == 4

    def test_extending_a_sample(self, nested):
        nested["p"] = {4: arrays(1)[0], "x": arrays(1)[0]}
        nested["q"] = {0: arrays(1)[0]}
        sample = nested["p"]
        assert sample.extend(arrays(2, 5)) == [5, 6]
        sample.update_batch([0, "x"], arrays(2, 8))
        assert list(sample) == [0, 4, 5, 6, "x"]
        assert same(sample["x"], arrays(1, 9)[0])
        with pytest.raises(ValueError, match=r"sample 'p'.*2 keys for 1"):
            sample.update_batch([0, 1], arrays(1))
        del nested["p"]
        with pytest.raises(KeyError):
            sample.extend(arrays(1))
        assert list(nested) == ["q"]


class TestTrouble:
    def test_a_closed_checkout_refuses(self, writer):
        column = writer["array"]
        writer.close()
        for write in (lambda: column.extend(arrays(1)), lambda: column.update_batch([0], arrays(1))):
            with pytest.raises(PermissionError):
                write()

    def test_a_full_disk_loses_nothing_and_can_be_gone_on_from(self, writer, empty, monkeypatch):
        writer.add_ndarray_column("big", shape=(2**20,), dtype=np.uint8)
        monkeypatch.setattr(value_batch, "FLUSH_BYTES", 4 * 2**20)
        column, real = writer["big"], os.pwrite
        values = np.random.default_rng(0).integers(0, 256, (20, 2**20), np.uint8)
        with column:
            column[100] = values[0]
            written = []

            def fill_up(file, data, at):
                written.append(len(data))
                if sum(written) > 9 * 2**20:
                    raise OSError(28, "No space left on device")
                return real(file, data, at)

            monkeypatch.setattr(os, "pwrite", fill_up)
            with pytest.raises(OSError, match="space"):
                column.extend(values)
            monkeypatch.setattr(os, "pwrite", real)
            there = len(column)
            assert 1 < there < 21
            assert all(same(column[key], values[0 if key == 100 else key - 101]) for key in column)
            column.update_batch(range(101, 121), values)
        writer.commit("all of it")
        assert_same(column, {100: values[0]} | dict(zip(range(101, 121), values, strict=True)))
        assert empty.fsck() == []

    @pytest.mark.parametrize("shape", [(), (6,), (40,), (300,), (9000,)])
    def test_portions_and_what_is_there_twice_come_back_as_they_were_given(self, writer, empty, monkeypatch, shape):
        monkeypatch.setattr(value_batch, "FLUSH_SAMPLES", 100)
        column = writer.add_ndarray_column("numbers", shape=shape, dtype=np.int32)
        given = np.zeros((450, *shape), np.int32)
        given += (np.arange(450) % 130).reshape(-1, *[1] * len(shape))
        kept = given.copy()
        assert column.extend(given) == list(range(450))
        column.update_batch(range(440, 600), given[:160])
        given[:] = 7
        wanted = list(map(np.asarray, kept))
        expected = {**dict(enumerate(wanted)), **dict(zip(range(440, 600), wanted, strict=False))}
        assert_same(column, expected)
        writer.close()
        again = Repository(empty.path).checkout(write=True)
        assert_same(again["numbers"], expected)
        again.commit("numbers")
        again.close()
        assert_same(Repository(empty.path).checkout()["numbers"], expected)
        assert empty.fsck() == []

    def test_an_exception_in_a_block_keeps_what_was_written(self, writer, empty):
        with pytest.raises(ZeroDivisionError), writer["array"] as column:
            column[0] = arrays(1)[0]
            column.extend(arrays(2))
            column[9] = arrays(1)[0]
            raise ZeroDivisionError
        writer.close()
        again = Repository(empty.path).checkout(write=True)
        assert list(again["array"]) == [0, 1, 2, 9]
        again.close()

    def test_a_wrong_value_in_a_block_is_refused_where_it_is_assigned(self, writer):
        with writer["array"] as column:
            column[0] = arrays(1)[0]
            for value in (arrays(1)[0].astype("<f8"), np.zeros(4, np.float32), arrays(3).T[0], "text", None):
                with pytest.raises(ValueError):
                    column[1] = value
            with pytest.raises(ValueError):
                column[-1] = arrays(1)[0]
        assert list(column) == [0]
