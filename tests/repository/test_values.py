"""Values come back as they went in, bit by bit, whatever they are."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.making import add_commit, files_of, make_repository, read_all, same

KINDS = "?bhilqBHILQefdgFDG"
DTYPES = sorted({np.dtype(code).newbyteorder(order).str for code in KINDS for order in "<>"})


def random_array(dtype, shape, seed=0):
    """An array of random bits (bool: of random truth)."""
    generator = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return generator.integers(0, 2, shape).astype(kind)
    count = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer(generator.bytes(count), kind).reshape(shape).copy()


def stored(repository, value, **column):
    """What a new reader finds after one value was committed in a column of its own."""
    writer = repository.checkout(write=True)
    name = f"column{len(writer)}"
    if isinstance(value, np.ndarray):
        made = writer.add_ndarray_column(name, **{"prototype": value, **column})
    else:
        made = writer.add_str_column(name) if isinstance(value, str) else writer.add_bytes_column(name)
    made["key"] = value
    assert same(made["key"], value), "before the commit"
    writer.commit(name)
    assert same(made["key"], value), "after the commit"
    writer.close()
    checkout = Repository(repository.path).checkout()
    found = checkout[name, "key"]
    assert checkout[name].dtype == (value.dtype if isinstance(value, np.ndarray) else type(value))
    checkout.close()
    return found


@pytest.mark.parametrize("backend", ["p0", "i0"])
def test_every_dtype_and_byte_order(empty, backend):
    writer = empty.checkout(write=True)
    values = {}
    for number, dtype in enumerate(DTYPES):
        for shape in ((), (3,), (5, 7)):
            value = random_array(dtype, shape, number)
            column = writer.add_ndarray_column(f"c{len(values)}", prototype=value, backend=backend)
            column[0] = value
            values[column.column] = value
    writer.commit("all dtypes")
    writer.close()
    found = read_all(Repository(empty.path))
    assert len(found) == 3 * len(DTYPES)
    for name, value in values.items():
        assert same(found[name][0], value), value.dtype.str
        assert found[name][0].dtype.str == value.dtype.str


@pytest.mark.parametrize("shape", [(), (1,), (1,) * 31, (2,) * 10, (1, 300, 1), (7, 1, 1, 9)])
def test_ranks(empty, shape):
    value = random_array("<f4", shape)
    assert same(stored(empty, value), value)


def test_nan_payloads_infinities_and_negative_zero(empty):
    bits = [0x7FF8000000000000, 0x7FF8DEADBEEF0001, 0xFFF8000000000001, 0x7FF0000000000001, 1 << 63, 0x7FF << 52, 1]
    value = np.array(bits, np.uint64).view(np.float64)
    found = stored(empty, value)
    assert found.view(np.uint64).tolist() == bits
    scalar = stored(empty, np.array(0x7FF8DEADBEEF0001, np.uint64).view(np.float64))
    assert scalar.view(np.uint64) == 0x7FF8DEADBEEF0001


def test_zero_and_negative_zero_are_different_samples(empty):
    writer = empty.checkout(write=True)
    column = writer.add_ndarray_column("c", shape=(100,), dtype=float)
    column.update({"positive": np.zeros(100), "negative": -np.zeros(100)})
    writer.commit("zeros")
    assert not np.signbit(column["positive"]).any()
    assert np.signbit(column["negative"]).all()
    writer.close()


@pytest.mark.parametrize("dtype", ["|u1", ">f8"])
def test_variable_shapes(empty, dtype):
    writer = empty.checkout(write=True)
    column = writer.add_ndarray_column("v", shape=(40, 50), dtype=dtype, variable_shape=True)
    values = {n: random_array(dtype, (1 + n % 40, 1 + n * 7 % 50), n) for n in range(60)}
    column.update(values)
    writer.commit("variable")
    writer.close()
    checkout = Repository(empty.path).checkout()
    assert all(same(checkout["v", n], value) for n, value in values.items())
    batch = checkout["v"].get_batch([5, 3, 5])
    assert isinstance(batch, list)
    assert all(same(one, values[n]) for one, n in zip(batch, [5, 3, 5], strict=True))


def test_equal_bytes_of_different_shape_are_different_samples(empty):
    writer = empty.checkout(write=True)
    for limit in (20, 400):
        column = writer.add_ndarray_column(f"v{limit}", shape=(limit, limit), dtype=np.uint8, variable_shape=True)
        data = np.arange(limit, dtype=np.uint8)
        shapes = [(1, limit), (limit, 1), (2, limit // 2), (limit // 2, 2), (4, limit // 4)]
        for number, shape in enumerate(shapes):
            column[number] = data.reshape(shape)
    writer.commit("shapes")
    writer.close()
    found = read_all(Repository(empty.path))
    assert [value.shape for value in found["v20"].values()] == [(1, 20), (20, 1), (2, 10), (10, 2), (5, 4)[::-1]]
    assert [value.shape for value in found["v400"].values()] == [(1, 400), (400, 1), (2, 200), (200, 2), (4, 100)]


TEXTS = [
    "",
    "plain",
    "Zoë 日本語 😀",
    "\0",
    "a\0b\0",
    "\ud800",
    "\udfff\ud83d x",
    "\U0010ffff",
    "\r\n\t\x7f\x1b[31m",
    "e\u0301 is not \u00e9",
    "\ufeff",
    "x" * 127,
    "x" * 128,
    "x" * 129,
    "".join(map(chr, [*range(0x1100), 0xD800, 0xFFFF, 0x10000])),
]


def test_text_of_any_code_point(empty):
    writer = empty.checkout(write=True)
    column = writer.add_str_column("text")
    column.update(enumerate(TEXTS))
    assert list(column.values()) == TEXTS
    writer.commit("texts")
    writer.close()
    checkout = Repository(empty.path).checkout()
    assert list(checkout["text"].values()) == TEXTS
    assert checkout["text"].get_batch(range(len(TEXTS))) == TEXTS


def test_ten_megabytes_of_text_and_bytes(empty):
    text = "äöü😀 " * (10_000_000 // 12)
    assert stored(empty, text) == text
    data = np.random.default_rng(0).bytes(10_000_000)
    assert stored(empty, data) == data
    assert stored(empty, bytes(10_000_000)) == bytes(10_000_000)


@pytest.mark.parametrize(
    "size", [0, 1, 31, 32, 33, 127, 128, 129, 8191, 8192, 8193, 16384, 16385, 4 << 20, (4 << 20) + 1]
)
def test_bytes_of_sizes_around_every_limit(tmp_path, size):
    repository = make_repository(tmp_path / "r")
    for data in (bytes(size), np.random.default_rng(size).bytes(size)):
        assert stored(repository, data) == data


def test_every_byte_value(empty):
    data = bytes(range(256)) * 3
    assert stored(empty, data) == data


def test_str_subclasses_come_back_as_str(empty):
    add_commit(empty, {0: np.zeros(1)})
    writer = empty.checkout(write=True)
    writer.add_str_column("text")["key"] = np.str_("numpy text")
    assert type(writer["text", "key"]) is str
    writer.close()


def test_returned_arrays_are_fresh_and_writable(committed):
    writer = committed.checkout(write=True)
    big = writer.add_ndarray_column("big", shape=(50, 50), dtype=np.int32, backend_options={"codec": "raw"})
    value = random_array("<i4", (50, 50))
    big["k"] = value
    for checkout in (writer, None):
        if checkout is None:
            writer.commit("big")
            writer.close()
            checkout = committed.checkout()
        for name, key in (("big", "k"), ("array", 3)):
            before = checkout[name, key].copy()
            for read in (
                lambda: checkout[name, key],
                lambda: checkout[name].get(key),
                lambda: checkout[name].get_batch([key])[0],
                lambda: dict(checkout[name].items())[key],
                lambda: checkout[(name, key), (name, key)][1],
            ):
                found = read()
                assert found.flags.writeable
                found[...] = 77
                assert same(checkout[name, key], before)
    assert same(committed.checkout()["big", "k"], value)


def test_what_was_given_may_be_changed_at_once(empty):
    writer = empty.checkout(write=True)
    column = writer.add_ndarray_column("c", shape=(500,), dtype=np.int64)
    buffer = np.zeros(500, np.int64)
    with column:
        for key in range(20):
            buffer[:] = key
            column[key] = buffer
        buffer[:] = -1
        assert [column[key][0] for key in range(20)] == list(range(20))
    samples = {"a": buffer.copy()}
    column.update(samples)
    samples["a"][:] = -5
    writer.commit("c")
    writer.close()
    found = read_all(Repository(empty.path))["c"]
    assert [found[key][499] for key in range(20)] == list(range(20))
    assert found["a"][0] == -1


def packed_bytes(repository):
    """Bytes in the packs of a repository, committed and staged."""
    return sum(len(data) for path, data in files_of(repository.path).items() if path.endswith(".pack"))


def test_equal_samples_are_stored_once(empty):
    value = random_array("|u1", (100_000,))
    writer = empty.checkout(write=True)
    first = writer.add_ndarray_column("first", prototype=value)
    second = writer.add_ndarray_column("second", prototype=value)
    first[0] = value
    size = packed_bytes(empty)
    assert 100_000 < size < 101_000
    first.update(dict.fromkeys(range(1, 50), value))
    second.update(dict.fromkeys(range(50), value))
    assert packed_bytes(empty) == size, "across keys and columns"
    writer.commit("one")
    assert packed_bytes(empty) < size + 200
    size = packed_bytes(empty)
    first["after-the-commit"] = value
    del first[0]
    first[0] = value
    assert packed_bytes(empty) == size, "across commits"
    writer.commit("two")
    writer.close()
    again = Repository(empty.path)
    writer = again.checkout(write=True)
    writer["second"]["reopened"] = value
    writer.close()
    assert packed_bytes(empty) == size, "after the repository was opened again, and staged"
    writer = Repository(empty.path).checkout(write=True)
    writer["second"]["reopened-again"] = value
    writer.commit("three")
    writer.close()
    assert packed_bytes(empty) == size
    again.create_branch("dev", again.log(return_contents=True)["order"][-1])
    writer = again.checkout(write=True, branch="dev")
    writer["second"]["on-a-branch"] = value
    writer.commit("four")
    assert packed_bytes(empty) == size, "across branches"
    assert same(writer["second", "on-a-branch"], value)
    writer.close()
    assert all(same(found, value) for column in read_all(again, branch="master").values() for found in column.values())


def test_equal_samples_in_one_block_are_stored_once(empty):
    writer = empty.checkout(write=True)
    column = writer.add_bytes_column("blob")
    value = np.random.default_rng(1).bytes(5000)
    with column:
        for key in range(1000):
            column[key] = value
    writer.commit("many")
    writer.close()
    assert packed_bytes(empty) < 6000
    assert set(read_all(empty)["blob"].values()) == {value}


def test_numbers_of_sys_maxsize_and_beyond(empty):
    value = np.array([sys.maxsize, -sys.maxsize - 1], np.int64)
    assert same(stored(empty, value), value)
    value = np.array([2**64 - 1], np.uint64)
    assert same(stored(empty, value), value)


def test_an_order_of_bytes_that_is_spelled_out_is_this_machines(writer):
    """Other libraries make arrays whose dtype says "<" where numpy says "="."""
    spelled = np.arange(3).astype(np.float32)
    spelled = spelled.view(spelled.dtype.newbyteorder("<" if np.little_endian else ">"))
    writer["array", 0] = spelled
    assert same(writer["array", 0], np.arange(3).astype(np.float32))
