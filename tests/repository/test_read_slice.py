"""Boxes of arrays are what numpy takes of them, wherever and however these are stored."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import HangarError, InvalidSliceError
from tests.forked import passes_forked
from tests.repository.making import finish, start_process
from tests.repository.tiling import INDICES, OPTIONS, SHAPE, add_volumes, commit_volumes, same_boxes, volume


@pytest.mark.parametrize("backend", ["t0", "p0", "i0"])
def test_boxes_are_what_numpy_takes_before_and_after_a_commit(empty, backend):
    co = empty.checkout(write=True)
    column = add_volumes(co, backend=backend, backend_options=OPTIONS if backend == "t0" else None)
    value = volume(1)
    with column:
        column[0] = value
        assert same_boxes(column, 0, value)
    assert same_boxes(column, 0, value)
    co.commit("one")
    assert same_boxes(column, 0, value)
    co.close()
    assert same_boxes(empty.checkout()["volumes"], 0, value)


@pytest.mark.parametrize("dtype", ["|b1", "<f2", ">f4", "<i8", "<c16", np.longdouble])
def test_boxes_of_every_dtype(empty, dtype):
    random = np.random.default_rng(3)
    value = random.integers(0, 2, (60, 70, 50)).astype(dtype) * random.normal(size=(60, 70, 50)).astype(dtype)
    commit_volumes(empty, {"k": value}, shape=value.shape, dtype=value.dtype)
    column = empty.checkout()["volumes"]
    assert same_boxes(column, "k", value, INDICES[:6])
    assert column["k"].tobytes() == value.tobytes()


def test_boxes_of_samples_that_vary_in_shape(empty):
    shapes = [(48, 40, 50), (48, 40, 49), (1, 1, 50), (17, 33, 16), (48, 1, 1)]
    values = {i: volume(i, shape) for i, shape in enumerate(shapes)}
    values["0"] = volume(9, (20, 20, 20))
    commit_volumes(empty, values, variable_shape=True)
    column = empty.checkout()["volumes"]
    for key, value in values.items():
        assert same_boxes(column, key, value, [np.s_[0], np.s_[..., -1], np.s_[:, ::-1], np.s_[100:], np.s_[-1, 0, 0]])
        assert np.array_equal(column[key], value)


def test_boxes_of_subsamples(empty):
    co = empty.checkout(write=True)
    column = add_volumes(co, contains_subsamples=True)
    values = {(sample, sub): volume(i) for i, (sample, sub) in enumerate([("a", 0), ("a", "0"), (0, "a")])}
    for (sample, sub), value in values.items():
        column[sample, sub] = value
    co.commit("nested")
    co.close()
    column = empty.checkout()["volumes"]
    for (sample, sub), value in values.items():
        assert same_boxes(column, (sample, sub), value, INDICES[:4])
        assert same_boxes(column[sample], sub, value, INDICES[:4])
    with pytest.raises(KeyError, match="no subsample 9"):
        column["a"].read_slice(9, ...)
    with pytest.raises(KeyError, match="nested"):
        column.read_slice("a", ...)


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_small_arrays_have_boxes_too(empty, shape):
    value = np.arange(np.prod(shape, dtype=int), dtype=np.int16).reshape(shape)
    commit_volumes(empty, {0: value}, shape=shape, dtype=np.int16, backend_options=None)
    indices = [..., (), np.s_[:]][: 2 + bool(shape)]
    assert same_boxes(empty.checkout()["volumes"], 0, value, indices)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([1, 2], "not list"),
        (np.array([1, 2]), "not ndarray"),
        (np.ones(SHAPE, bool), "not ndarray"),
        (True, "not bool"),
        (np.True_, "not bool"),
        (None, "not NoneType"),
        ("a", "not str"),
        (1.0, "not float"),
        (np.s_[0, 0, 0, 0], r"has 3 dimension\(s\), and the index names 4"),
        (np.s_[..., 0, ...], "one `...` at most"),
        (48, "48 is out of bounds for dimension 0, which has size 48"),
        (np.s_[:, -41], "-41 is out of bounds for dimension 1"),
        (np.s_[::0], "zero"),
        (slice("a", None), "slice"),
    ],
    ids=str,
)
def test_what_is_no_box_is_refused(empty, index, message):
    commit_volumes(empty, {0: volume(0)})
    with pytest.raises(InvalidSliceError, match=message) as caught:
        empty.checkout()["volumes"].read_slice(0, index)
    assert isinstance(caught.value, IndexError)
    assert "column 'volumes', sample 0" in str(caught.value)


def test_keys_columns_and_checkouts_that_cannot_be_read(committed):
    co = committed.checkout()
    with pytest.raises(KeyError, match="no sample 77"):
        co["array"].read_slice(77, 0)
    with pytest.raises(ValueError, match=r"column 'text', sample 0: read_slice reads boxes of arrays.*holds str"):
        co["text"].read_slice(0, 0)
    column = co["array"]
    co.close()
    with pytest.raises(PermissionError):
        column.read_slice(0, 0)


def test_what_is_handed_out_can_be_changed_and_changes_nothing_stored(empty):
    commit_volumes(empty, {0: volume(0)})
    column = empty.checkout()["volumes"]
    for index in (np.s_[:20, :20, :20], ..., np.s_[::2]):
        found = column.read_slice(0, index)
        assert found.base is None
        found[...] = 0
        assert np.array_equal(column.read_slice(0, index), volume(0)[index])


def test_boxes_are_read_by_other_processes_and_in_forked_ones(empty):
    commit_volumes(empty, {0: volume(0)})
    column = empty.checkout()["volumes"]
    assert same_boxes(column, 0, volume(0), INDICES[:2])
    assert passes_forked(lambda: same_boxes(column, 0, volume(0), INDICES[:4]))
    assert same_boxes(column, 0, volume(0), INDICES[:4])
    script = """
        import sys
        import numpy as np
        from hangar_cloud import Repository
        print(Repository(sys.argv[1]).checkout()["volumes"].read_slice(0, np.s_[1:3, 4, 5]).tolist())
    """
    assert finish(start_process(script, empty.path)).strip() == str(volume(0)[1:3, 4, 5].tolist())


def test_many_arrays_are_open_under_a_bound_and_nothing_is_left_of_them(empty, tmp_path, monkeypatch):
    import tempfile

    from hangar_cloud.backends import open_arrays

    monkeypatch.setattr(open_arrays, "MOST_ARRAYS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    values = {i: volume(i) for i in range(3)}
    for key, value in values.items():
        commit_volumes(empty, {key: value})
    again = Repository(empty.path)
    column = again.checkout()["volumes"]
    for _ in range(2):
        for key, value in values.items():
            assert same_boxes(column, key, value, INDICES[:1])
        assert len(list((tmp_path / "temporary").iterdir())) == 1
    again._storage.forget()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_threads_read_boxes_of_the_same_arrays(empty):
    from concurrent.futures import ThreadPoolExecutor

    values = {i: volume(i) for i in range(3)}
    commit_volumes(empty, values)
    column = empty.checkout()["volumes"]
    boxes = [(key, np.s_[i : i + 9, i : i + 9, 2 * i :]) for i in range(12) for key in values]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda box: column.read_slice(*box), boxes))
    assert all(np.array_equal(one, values[key][index]) for one, (key, index) in zip(found, boxes, strict=True))


def test_a_damaged_tile_is_told_with_the_sample_and_other_boxes_can_be_read(empty):
    from tests.repository.forging import store_files

    commit_volumes(empty, {"scan": volume(0)})
    (pack,) = store_files(empty, "packs/*/*.pack")
    data = bytearray(pack.read_bytes())
    data[-200] ^= 1  # in the last tile: behind it are 48 bytes of the index and the trailer
    pack.chmod(0o644)
    pack.write_bytes(data)
    column = Repository(empty.path).checkout()["volumes"]
    assert same_boxes(column, "scan", volume(0), [np.s_[:20]])
    with pytest.raises(HangarError, match=r"column 'volumes', sample 'scan'.*tile 35") as caught:
        column.read_slice("scan", np.s_[-2:, -2:, -2:])
    assert isinstance(caught.value, ValueError)


def test_the_page_about_arrays_is_true(empty):
    from tests.project.source_rules import ROOT
    from tests.project.test_docs import blocks

    names = {"repo": empty, "np": np, "volume": volume(0, (128, 256, 256))}
    page = "\n".join(block.body for block in blocks(ROOT / "docs" / "usage-arrays.md") if block.language == "python")
    first, second = page.split("co.add_ndarray_column(\n")
    exec(first, names)
    assert np.array_equal(names["lesion"], names["volume"][10:26, :64, :64])
    names["co"] = empty.checkout(write=True)
    exec("co.add_ndarray_column(\n" + second, names)
    assert names["co"]["scenes"].backend_options == {"tile": [1, 512, 512], "filters": ["byteshuffle", ["zstd", 5]]}
    names["co"].close()
