"""Batches: many samples in one array, bit for bit those that are read one by one, however they are asked for."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from hangar_cloud import Repository, warm_reads
from hangar_cloud.catalog.leaf_blocks import block_around, block_name, block_rows
from hangar_cloud.errors import CorruptDataError, InvalidArgumentError
from tests.project.source_rules import ROOT
from tests.project.test_docs import blocks
from tests.repository.making import add_commit, make_repository, noise, same

KEYS = [0, "0", 1, 7, 10**12, 2**63 - 1, "a/b", "zz", *range(100, 3000), *range(5000, 9000, 3)]
PAIRS = [(sample, sub) for sample in (1, "1", 3) for sub in (0, "0", 1, *range(50, 500))]
FIXED = ["pixels", "raw", "label", "swapped", "half", "flags", "long"]


def samples_of(rng):
    def by_key(make):
        return {key: make(i) for i, key in enumerate(KEYS)}

    return {
        "pixels": by_key(lambda i: rng.integers(0, 3, (5, 50), np.uint8)),
        "raw": by_key(lambda i: rng.integers(0, 255, (5, 50), np.uint8)),
        "label": by_key(np.array),
        "swapped": by_key(lambda i: np.array([i, -i], ">i2")),
        "half": by_key(lambda i: rng.random((30, 2)).astype(np.float16)),
        "flags": by_key(lambda i: np.array(i % 3 == 0)),
        "long": {key: noise(i, 9000) for i, key in enumerate(KEYS[:40])},
        "text": by_key(lambda i: "é" * (i % 120)),
        "points": by_key(lambda i: rng.random((i % 7 + 1, 3))),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every kind of column in several leaves and, of "raw", in two packs; numbers in runs and apart, text, pairs."""
    path = tmp_path_factory.mktemp("batches")
    writer = make_repository(path).checkout(write=True)
    samples = samples_of(np.random.default_rng(1))
    for name in FIXED:
        options = {"codec": "raw"} if name in ("raw", "long") else None
        writer.add_ndarray_column(name, prototype=samples[name][0], backend_options=options)
    writer.add_str_column("text")
    writer.add_ndarray_column("points", shape=(7, 3), dtype=np.float64, variable_shape=True)
    nested = writer.add_ndarray_column("nested", shape=(40,), dtype=np.float32, contains_subsamples=True)
    samples["nested"] = {pair: np.full(40, i, np.float32) for i, pair in enumerate(PAIRS)}
    for name, values in samples.items():
        if name != "nested":
            writer[name].update(values)
    with nested:
        for (sample, sub), value in samples["nested"].items():
            nested[sample, sub] = value
    writer.commit("all")
    samples["raw"][100] = noise(5, 250).reshape(5, 50)
    writer["raw"][100] = samples["raw"][100]
    writer.commit("another pack")
    writer.close()
    return path, samples


def column_of(made, name, **options):
    return Repository(made[0], **options).checkout()[name]


def check(column, keys, wanted):
    found = column.get_batch(keys)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert same(found, np.stack([wanted[key] for key in keys]).astype(column.dtype))


@pytest.mark.parametrize("name", [*FIXED, "nested"])
def test_a_batch_is_what_is_read_one_by_one_cold_half_warm_and_warm(made, name):
    column, wanted = column_of(made, name), made[1][name]
    keys = list(wanted)
    for seed in range(4):
        some = [keys[i] for i in np.random.default_rng(seed).integers(0, len(keys), 700)]
        check(column, some, wanted)
        for key in some[:50]:
            assert same(column[key], wanted[key])
    for _ in range(2):
        check(column, keys, wanted)
        check(column, keys[::-1], wanted)


@pytest.mark.parametrize("name", [*FIXED, "nested", "text", "points"])
def test_batches_in_order_have_every_sample_once(made, name):
    column, wanted = column_of(made, name), made[1][name]
    order = [key for key, _ in column._iterate()]
    for size in (64, 64, 300, 10**6):
        batches = list(column.iter_batches(size))
        assert [key for keys, _ in batches for key in keys] == order
        assert {len(keys) for keys, _ in batches[:-1]} <= {size}
        for keys, values in batches:
            assert_equal(values, [wanted[key] for key in keys])
    (first, value), *_ = zip(column.iter_batches(1), range(3), strict=False)
    assert (first[0], value) == (order[:1], 0)


def assert_equal(values, expected):
    assert len(values) == len(expected)
    if isinstance(values, np.ndarray):
        assert np.array_equal(values, expected)
        assert values.dtype == expected[0].dtype
    else:
        assert all(same(one, two) for one, two in zip(values, expected, strict=True))


def test_the_last_batch_may_be_left_out_and_keys_may_be_chosen(made):
    column, wanted = column_of(made, "pixels"), made[1]["pixels"]
    sizes = [len(keys) for keys, _ in column.iter_batches(1000, drop_last=True)]
    assert sizes == [1000] * (len(wanted) // 1000)
    chosen = ["zz", 0, "0", 0, 2999]
    (first, values), (second, rest) = column.iter_batches(3, keys=(key for key in chosen))
    assert (first, second) == (chosen[:3], chosen[3:])
    assert np.array_equal(np.concatenate([values, rest]), [wanted[key] for key in chosen])
    assert [keys for keys, _ in column.iter_batches(3, keys=chosen, drop_last=True)] == [chosen[:3]]
    assert list(column.iter_batches(3, keys=[])) == []


@pytest.mark.parametrize("name", ["pixels", "label", "nested"])
def test_a_batch_may_be_changed_and_nothing_else_with_it(made, name):
    column, wanted = column_of(made, name), made[1][name]
    keys = list(wanted)[:300]
    for _ in range(3):
        column.get_batch(keys)[...] = 0
        for _, values in column.iter_batches(100):
            values[...] = 0
    check(column, keys, wanted)
    assert all(same(column[key], wanted[key]) for key in keys[:20])


@pytest.mark.parametrize("form", ["list", "tuple", "generator", "range", "i8", "i4", "u1", "u8", "numpy numbers"])
def test_numbers_come_in_many_forms(made, form):
    column, wanted = column_of(made, "raw"), made[1]["raw"]
    numbers = range(100, 256)
    forms = {
        "list": list(numbers),
        "tuple": tuple(numbers),
        "generator": (n for n in numbers),
        "range": numbers,
        "numpy numbers": list(np.array(numbers)),
    }
    for _ in range(3):
        keys = (n for n in numbers) if form == "generator" else forms.get(form)
        found = column.get_batch(np.array(numbers, form) if keys is None else keys)
        assert np.array_equal(found, [wanted[n] for n in numbers])


@pytest.mark.parametrize("name", ["pixels", "label"])
@pytest.mark.parametrize(
    "key",
    [2, 99, 3000, 5001, "1", "7", -1, -(2**63), 2**63, 2**70, 7.0, True, None, "é", "", b"0", (0, 1), np.float64(7)],
)
def test_a_key_that_is_not_there_is_named_however_warm(made, name, key):
    column = column_of(made, name)
    for _ in column.iter_batches(500):
        pass
    column.get_batch(KEYS)
    for keys in ([7, key], [key], [key, 0, "0"]):
        with pytest.raises(KeyError, match="no sample|sample key"):
            column.get_batch(keys)


@pytest.mark.parametrize("wrong", [(1, 2), ("1", "1"), (1, True), (1.0, 0), (2, 0), 1, (1,), (1, 0, 0), (1, ...)])
def test_a_pair_that_is_not_there_is_an_error_however_warm(made, wrong):
    column = column_of(made, "nested")
    column.get_batch(PAIRS)
    column.get_batch(PAIRS)
    with pytest.raises(KeyError):
        column.get_batch([(1, 0), wrong])
    assert same(column.get_batch([[1, 0], (np.int64(1), 0)]), np.stack([column[1, 0], column[1, 0]]))


def test_arrays_of_what_is_no_key_are_refused(made):
    column = column_of(made, "pixels")
    column.get_batch(KEYS)
    masked = np.ma.array([7, 7], mask=[False, True])
    for keys in (np.array([7.0]), np.array([True]), np.array([2**63], np.uint64), np.array([[7, 100]]), masked):
        with pytest.raises(KeyError):
            column.get_batch(keys)
    assert column.get_batch(np.array([], np.int64)).shape == (0, 5, 50)
    assert column.get_batch(np.array(["zz", "0"])).shape == (2, 5, 50)


def test_a_batch_is_written_into_an_array_of_the_callers(made):
    column, wanted = column_of(made, "pixels"), made[1]["pixels"]
    for _ in range(2):
        out = np.full((3, 5, 50), 9, np.uint8)
        assert column.get_batch([7, "zz", 7], out=out) is out
        assert np.array_equal(out, [wanted[7], wanted["zz"], wanted[7]])
        with pytest.raises(KeyError):
            column.get_batch([0, 1, 2], out=out)
        assert np.array_equal(out, [wanted[7], wanted["zz"], wanted[7]]), "left as it was"
        # A part of a larger one, as loaders have them.
        ring = np.zeros((10, 5, 50), np.uint8)
        column.get_batch([0, 1], out=ring[4:6])
        assert np.array_equal(ring[4:6], [wanted[0], wanted[1]])
        assert not ring[:4].any()
        assert not ring[6:].any()


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 5, 50), np.uint8),
        np.zeros((3, 5, 50), np.int8),
        np.zeros((3, 250), np.uint8),
        np.zeros((3, 5, 100), np.uint8)[:, :, ::2],
        np.broadcast_to(np.uint8(0), (3, 5, 50)),
        [[0]],
    ],
)
def test_an_array_that_cannot_take_the_batch_is_refused(made, out):
    with pytest.raises(InvalidArgumentError, match="column 'pixels': out must be"):
        column_of(made, "pixels").get_batch([0, 1, 7], out=out)
    with pytest.raises(ValueError, match="list"):
        column_of(made, "text").get_batch([0, 1, 7], out=out)


@pytest.mark.parametrize("size", [0, -1, 2.0, None, True, "8"])
def test_a_size_of_batches_that_is_none_is_refused_at_once(made, size):
    with pytest.raises(InvalidArgumentError, match="batch_size must be a whole number from 1 on"):
        column_of(made, "pixels").iter_batches(size)


def test_an_empty_column_has_no_batches(tmp_path):
    repository = make_repository(tmp_path)
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("array", shape=(2,), dtype=np.int64)
    writer.add_str_column("text", contains_subsamples=True)
    writer.commit("empty")
    assert list(writer["array"].iter_batches(4)) == []
    writer.close()
    checkout = repository.checkout()
    assert list(checkout["array"].iter_batches(4)) == list(checkout["text"].iter_batches(4)) == []
    assert checkout["array"].get_batch([]).shape == (0, 2)
    with pytest.raises(KeyError, match="no sample 0"):
        checkout["array"].get_batch([0])


def test_a_writers_batches_have_what_is_staged(writer):
    column = writer["array"]
    column.update({n: np.full(3, n, np.float32) for n in range(10)})
    writer.commit("ten")
    column[3], column["new"] = np.full(3, 33, np.float32), np.full(3, 99, np.float32)
    del column[4]
    for _ in range(2):
        (keys, values), (rest, others) = column.iter_batches(7)
        assert [*keys, *rest] == [0, 1, 2, 3, 5, 6, 7, 8, 9, "new"]
        assert [*values[:, 0], *others[:, 0]] == [0, 1, 2, 33, 5, 6, 7, 8, 9, 99]
    with pytest.raises(KeyError):
        column.get_batch([4])
    column.prefetch([3, "new"]).wait()


def test_a_closed_checkout_gives_no_further_batch(made):
    checkout = Repository(made[0]).checkout()
    column = checkout["pixels"]
    batches, chosen = column.iter_batches(10), column.iter_batches(2, keys=[0, 1, 7])
    next(batches), next(chosen)
    checkout.close()
    for use in (
        lambda: next(batches),
        lambda: next(chosen),
        lambda: column.get_batch([0]),
        lambda: column.iter_batches(3),
        lambda: column.prefetch([0]),
    ):
        with pytest.raises(PermissionError):
            use()


@pytest.mark.parametrize("name", ["pixels", "raw", "label"])
def test_little_memory_is_enough(made, name, monkeypatch):
    repository = Repository(made[0])
    storage = repository._storage
    monkeypatch.setattr(storage.nodes, "_limit", 10**6)
    monkeypatch.setattr(storage.packs, "_decoded_limit", 40_000)
    storage.packs.arenas.limit = 40_000
    column, wanted = repository.checkout()[name], made[1][name]
    keys = list(wanted)
    for seed in range(3):
        check(column, [keys[i] for i in np.random.default_rng(seed).integers(0, len(keys), 400)], wanted)
        assert storage.packs.arenas.nbytes <= 80_000
    in_order = np.concatenate([values for _, values in column.iter_batches(64)])
    assert np.array_equal(in_order, column.get_batch(column_keys(column)))


def column_keys(column):
    return [key for key, _ in column._iterate()]


def test_what_is_known_of_a_column_is_bounded_and_forgotten_safely(made):
    column, wanted = column_of(made, "raw"), made[1]["raw"]
    column._spots._limit = column._spots._count * 8 + 1
    for seed in range(3):
        check(column, [KEYS[i] for i in np.random.default_rng(seed).integers(0, len(KEYS), 400)], wanted)
    assert len(column._spots._leaves) < 3


def test_what_storage_forgets_is_read_anew(made):
    repository = Repository(made[0])
    for name in ("pixels", "raw", "label"):
        column, wanted = repository.checkout()[name], made[1][name]
        check(column, KEYS, wanted)
        repository._storage.forget()
        check(column, KEYS, wanted)
        assert same(column[7], wanted[7])


def test_many_threads_get_the_same(made):
    repository = Repository(made[0])
    repository._storage.packs.arenas.limit = 200_000
    columns = {name: repository.checkout()[name] for name in ("pixels", "raw")}
    wrong: list[object] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(10):
            keys = [KEYS[i] for i in rng.integers(0, len(KEYS), 200)]
            for name, column in columns.items():
                if not np.array_equal(column.get_batch(keys), [made[1][name][key] for key in keys]):
                    wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("codec", ["raw", "lz4"])
def test_a_damaged_block_names_its_sample_and_leaves_the_others(tmp_path, codec):
    repository = make_repository(tmp_path)
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("a", shape=(400,), dtype=np.uint8, backend_options={"codec": codec})
    column.update({n: np.full(400, n % 250, np.uint8) + noise(n, 400) % 2 for n in range(500)})
    writer.commit("all")
    writer.close()
    good = repository.checkout()["a"].get_batch(range(500))
    pack = max((tmp_path / ".hangar/store/packs").rglob("*.pack"), key=os.path.getsize)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    column = Repository(tmp_path).checkout()["a"]
    with pytest.raises(CorruptDataError, match="column 'a', sample"):
        column.get_batch(range(500))
    with pytest.raises(CorruptDataError, match="column 'a', sample"):
        list(column.iter_batches(100))
    intact = []
    for n in range(500):
        try:
            intact.append(n)
            assert same(column[n], good[n])
        except CorruptDataError:
            intact.pop()
    assert 300 < len(intact) < 500
    for _ in range(2):
        assert np.array_equal(column.get_batch(intact), good[intact])


def test_files_that_are_gone_are_let_go_of(tmp_path):
    """A map that stays keeps the bytes of a removed pack on the disk, and a descriptor."""
    repository = make_repository(tmp_path)
    add_commit(repository, {n: noise(n) for n in range(20)})
    column = repository.checkout()["array"]
    found = column.get_batch(range(20))
    assert np.array_equal(column.get_batch(range(20)), found)
    arenas, files = repository._storage.packs.arenas, repository._storage.source._files
    assert len(arenas._maps) == 1
    pack = next(path for path in files._maps if path.suffix == ".pack")
    pack.rename(pack.with_suffix(".away"))
    files.forget_removed()
    assert not arenas._maps
    assert not arenas.memory
    pack.with_suffix(".away").rename(pack)
    assert np.array_equal(column.get_batch(range(20)), found)


@pytest.mark.parametrize("name", ["pixels", "raw", "label", "long"])
def test_the_blocks_of_a_leaf_are_those_of_its_rows(made, name):
    for leaf in column_of(made, name)._leaves():
        rows = [leaf.row(i).place for i in range(len(leaf))]
        parts = list(block_rows(leaf))
        assert [part.first for part in parts] == sorted(part.first for part in parts)
        covered = {row: part for part in parts for row in range(part.first, part.end)}
        assert set(covered) == {i for i, place in enumerate(rows) if place is not None}
        for i, part in covered.items():
            assert (part.pack, part.offset, part.stored) == rows[i][:3]
            assert block_name(leaf, i) == rows[i][:2]
            assert block_around(leaf, i) == (part.first, part.end)
        middle = len(leaf) // 2
        some = {row for part in block_rows(leaf, 3, middle) for row in range(part.first, part.end)}
        assert some == {row for row in covered if 3 <= row < middle}
        assert list(block_rows(leaf, 5, 5)) == []


def test_the_page_about_batches_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = [block for block in blocks(ROOT / "docs" / "usage-batches.md") if block.language == "python"]
    names: dict[str, object] = {}
    for block in page:
        exec(compile(block.body, block.place, "exec"), names)
    assert len(page) == 8
    assert len(names["batch"]) == 100


@pytest.mark.parametrize("keys", ["12", b"ab", 3, None, slice(0, 3)])
def test_one_key_is_not_taken_for_many(made, keys):
    with Repository(made[0]).checkout() as reader:
        column = reader["raw"]
        for read in (column.get_batch, column.prefetch, lambda wanted: column.iter_batches(3, keys=wanted)):
            if keys is None and read not in (column.get_batch, column.prefetch):
                continue
            with pytest.raises(InvalidArgumentError, match="sequence of sample keys"):
                read(keys)


@pytest.mark.parametrize("name", ["text", "pixels", "points"])
def test_what_was_compared_with_its_digest_is_not_compared_again(made, name, monkeypatch):
    column = column_of(made, name)
    list(column.values())
    monkeypatch.setattr(warm_reads, "sample_digests", None)
    monkeypatch.setattr(warm_reads, "sample_digest", None)
    list(column.values())
