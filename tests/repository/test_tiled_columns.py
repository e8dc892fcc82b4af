"""Columns of backend t0 in all that is done to repositories: they are chosen, changed, merged, moved and erased."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.array_format import is_array
from hangar_cloud.catalog.errors import PurgedError
from hangar_cloud.errors import InvalidArgumentError
from tests.repository.forging import store_files
from tests.repository.making import read_all, same_columns
from tests.repository.purging import REASON, check_purged, contents, everywhere, holders
from tests.repository.tiling import INDICES, OPTIONS, SHAPE, add_volumes, commit_volumes, same_boxes, volume

ALL = {"grace": 0, "keep_reflog": 0}


def extents_of(repository: Repository) -> list[bytes]:
    """Every extent of every pack."""
    import io

    from hangar_cloud.backends.packs import read_index

    found = []
    for path in store_files(repository, "packs/*/*.pack"):
        data = path.read_bytes()
        found += [data[offset : offset + stored] for offset, stored in read_index(io.BytesIO(data))]
    return found


def assert_healthy(repository: Repository) -> None:
    assert [str(finding) for finding in repository.fsck() if finding.is_damage] == []


@pytest.mark.parametrize(
    ("shape", "dtype", "variable", "backend"),
    [
        ((1024, 1024, 8), np.uint8, False, "t0"),
        ((1024, 1024), np.float64, True, "t0"),
        ((1024, 1024, 7), np.uint8, False, "p0"),
        ((2, 2), np.uint8, False, "i0"),
        ((), np.float64, False, "i0"),
    ],
)
def test_tiles_are_chosen_for_samples_of_8_mebibytes(empty, shape, dtype, variable, backend):
    co = empty.checkout(write=True)
    column = co.add_ndarray_column("new", shape=shape, dtype=dtype, variable_shape=variable)
    assert column.backend == backend
    co.close()


def test_options_are_recorded_in_one_form_and_stay(empty):
    co = empty.checkout(write=True)
    given = {"tile": (16, 16, 100), "filters": ("bitshuffle", ("zstd", 5))}
    column = add_volumes(co, backend_options=given)
    recorded = {"tile": [16, 16, 100], "filters": ["bitshuffle", ["zstd", 5]]}
    assert column.backend_options == recorded
    column[0] = volume(0)
    co.commit("one")
    co.close()
    column = empty.checkout()["volumes"]
    assert (column.backend, column.backend_options) == ("t0", recorded)
    assert same_boxes(column, 0, volume(0), INDICES[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"codec": "lz4"}, "take 'tile' and 'filters'"), ({"tile": [4]}, "dimension"), ({"filters": ["x"]}, "filter 'x'")],
)
def test_options_that_cannot_be_meant_make_no_column(empty, options, message):
    co = empty.checkout(write=True)
    with pytest.raises(InvalidArgumentError, match=message):
        add_volumes(co, backend_options=options)
    with pytest.raises(InvalidArgumentError, match="for text and bytes"):
        co.add_str_column("text", backend="t0")
    assert list(co.columns) == []
    co.close()


def test_small_samples_share_arrays_and_those_of_one_tile_are_blocks(empty):
    co = empty.checkout(write=True)
    column = add_volumes(co)
    with column:
        column.update({i: volume(i) for i in range(10)})
    tiny = add_volumes(co, "tiny", shape=(16, 16, 16))
    with tiny:
        tiny.update({i: volume(i, (16, 16, 16)) for i in range(10)})
    co.commit("ten of each")
    co.close()
    arrays = [extent for extent in extents_of(empty) if is_array(extent)]
    assert len(arrays) == 2  # 192 kB each, at most 1 MiB together
    co = empty.checkout()
    assert all(same_boxes(co["volumes"], i, volume(i), INDICES[:2]) for i in range(10))
    assert np.array_equal(co["volumes"].get_batch([3, 0, 9]), [volume(3), volume(0), volume(9)])
    assert all(np.array_equal(co["tiny"][i], volume(i, (16, 16, 16))) for i in range(10))


def test_equal_samples_are_stored_once_whatever_the_backend(empty):
    co = empty.checkout(write=True)
    tiled, packed = add_volumes(co), add_volumes(co, "packed", backend="p0", backend_options=None)
    tiled[0] = packed["a"] = volume(0)
    packed[1] = tiled["b"] = volume(1)
    tiled["0"] = volume(0)
    co.commit("two volumes, five samples")
    co.close()
    assert [is_array(extent) for extent in extents_of(empty)] == [True, False]
    co = empty.checkout()
    for name, key, seed in [("volumes", 0, 0), ("packed", "a", 0), ("packed", 1, 1), ("volumes", "b", 1)]:
        assert same_boxes(co[name], key, volume(seed), INDICES[:2])


def test_the_backend_is_changed_both_ways(empty):
    commit_volumes(empty, {0: volume(0)})
    co = empty.checkout(write=True)
    column = co["volumes"]
    column.change_backend("p0", {"codec": "lz4"})
    column[1] = volume(1)
    co.commit("packs")
    column.change_backend("t0", {"tile": [48, 8, 8]})
    column[2] = volume(2)
    co.commit("tiles again")
    co.close()
    assert sorted(map(is_array, extents_of(empty))) == [False, True, True]
    column = empty.checkout()["volumes"]
    assert all(same_boxes(column, i, volume(i), INDICES[:4]) for i in range(3))
    assert column.backend_options == {"tile": [48, 8, 8]}
    assert_healthy(empty)


def test_a_column_is_altered(empty):
    commit_volumes(empty, {0: volume(0)})
    co = empty.checkout(write=True)
    co.columns.alter("volumes", dtype=np.int32)
    co.columns.alter("volumes", variable_shape=True, shape=(2000, 2000, 2000))
    assert same_boxes(co["volumes"], 0, volume(0).astype(np.int32), INDICES[:4])
    co["volumes"][1] = volume(1, (30, 30, 90)).astype(np.int32)
    co.commit("altered")
    co.close()
    column = empty.checkout()["volumes"]
    assert same_boxes(column, 0, volume(0).astype(np.int32), INDICES)
    assert same_boxes(column, 1, volume(1, (30, 30, 90)).astype(np.int32), INDICES[:1])


def test_branches_are_compared_and_merged_and_changes_put_away(empty):
    base = commit_volumes(empty, {0: volume(0), "k": volume(1)})
    empty.create_branch("side", base)
    co = empty.checkout(write=True, branch="side")
    co["volumes"]["side"] = volume(2)
    co.commit("on the side")
    co.close()
    commit_volumes(empty, {"k": volume(3)})
    diff = empty.diff("master", "side").diff
    assert [record.sample for record in diff.added.samples] == ["side"]
    empty.merge("merged", "master", "side")
    co = empty.checkout(write=True)
    co["volumes"]["later"] = volume(4)
    co.stash("away")
    assert "later" not in co["volumes"]
    co.stash.pop("away")
    assert same_boxes(co["volumes"], "later", volume(4), INDICES[:2])
    co.commit("all")
    co.close()
    column = empty.checkout()["volumes"]
    for key, seed in {0: 0, "k": 3, "side": 2, "later": 4}.items():
        assert same_boxes(column, key, volume(seed), INDICES[:2])
    assert_healthy(empty)


def test_what_is_staged_survives_a_writer_that_dies(empty, tmp_path):
    import shutil

    co = empty.checkout(write=True)
    add_volumes(co)["staged"] = volume(7)
    shutil.copytree(empty.path, tmp_path / "killed")
    co.close()
    again = Repository(tmp_path / "killed", exists=False)
    co = again.checkout(write=True)
    assert same_boxes(co["volumes"], "staged", volume(7), INDICES[:3])
    co.commit("after")
    co.close()
    assert same_boxes(again.checkout()["volumes"], "staged", volume(7), INDICES[:3])
    assert_healthy(again)


def test_repack_moves_arrays_as_they_are_and_gc_removes_dead_ones(empty):
    for i in range(4):
        commit_volumes(empty, {i: volume(i), f"{i}-more": volume(10 + i)})
    before = read_all(empty)
    report = empty.repack()
    assert report.merged["packs"].objects == 4
    empty.gc(**ALL)
    assert len(store_files(empty, "packs/*/*.pack")) == 1
    again = Repository(empty.path)
    column = again.checkout()["volumes"]
    for i in range(4):
        assert same_boxes(column, i, volume(i), INDICES[:3])
        assert same_boxes(column, f"{i}-more", volume(10 + i), INDICES[:3])
    assert same_columns(read_all(again), before)
    co = again.checkout(write=True)
    for i in range(1, 4):
        del co["volumes"][i], co["volumes"][f"{i}-more"]
    co.commit("fewer")
    co.close()
    again.reset_branch("master", again.checkout().commit_hash)
    assert_healthy(again)


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in one array"])
def test_a_purge_erases_a_sample_and_no_other(empty, together):
    samples = {key: volume(key) for key in range(3)}
    for group in [samples] if together else [{key: value} for key, value in samples.items()]:
        commit_volumes(empty, group)
    before = contents(empty)
    digest = empty.purge(column="volumes", key=1, reason=REASON).digests[0]
    check_purged(before, contents(empty), {("volumes", 1)})
    assert holders(everywhere(empty), volume(1).tobytes(), digest) == []
    column = Repository(empty.path).checkout()["volumes"]
    assert same_boxes(column, 0, volume(0), INDICES[:4])
    assert same_boxes(column, 2, volume(2), INDICES[:4])
    with pytest.raises(PurgedError, match=REASON):
        column.read_slice(1, np.s_[:3])
    assert_healthy(empty)
    empty.repack()
    empty.gc(**ALL)
    column = Repository(empty.path).checkout()["volumes"]
    assert same_boxes(column, 2, volume(2), INDICES[:4])


def test_an_open_array_gives_nothing_of_a_sample_that_was_purged(empty):
    commit_volumes(empty, {0: volume(0)})
    column = empty.checkout()["volumes"]
    column.read_slice(0, np.s_[:3])
    empty.purge(column="volumes", key=0, reason=REASON)
    with pytest.raises(PurgedError):
        column.read_slice(0, np.s_[:3])


def test_verify_finds_every_kind_of_damage(empty):
    commit_volumes(empty, {"scan": volume(0)})
    assert_healthy(empty)
    (pack,) = store_files(empty, "packs/*/*.pack")
    whole = pack.read_bytes()
    pack.chmod(0o644)
    for place in (8 + 20, 8 + 300, 8 + 3000, len(whole) - 300):
        pack.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        damage = [str(finding) for finding in empty.fsck() if finding.is_damage]
        assert any("'volumes'" in line and "'scan'" in line for line in damage), (place, damage)
    pack.write_bytes(whole)
    assert_healthy(empty)


def test_a_column_of_tiles_is_shown_and_iterated(empty):
    commit_volumes(empty, {i: volume(i) for i in range(3)})
    co = empty.checkout()
    column = co["volumes"]
    assert [key for key, value in column.items() if np.array_equal(value, volume(key))] == [0, 1, 2]
    assert column.shape == SHAPE
    assert column.backend_options == OPTIONS
    assert "volumes" in repr(column)
    assert column._repr_html_()
