"""The golden repository of arrays in tiles opens, and holds what it held."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.errors import PurgedError
from tests.golden.make_golden_arrays import DTYPES, FOLDER, PURGED, REASON, scene, small, volume
from tests.repository.making import same

BOX = np.s_[10:15, ::-3, 1]


@pytest.fixture
def golden(tmp_path: Path) -> Repository:
    shutil.copytree(FOLDER, tmp_path / "golden")
    return Repository(f"file://{tmp_path / 'golden'}", cache_dir=tmp_path / "cache")


def expected_small() -> dict[int | str, np.ndarray]:
    found: dict[int | str, np.ndarray] = {i: small(i) for i in range(3, 8)}
    return {**found, 0: small(0), "twin": small(PURGED) + np.uint8(1)}


def test_every_value_and_a_box_of_each_read_back(golden: Repository) -> None:
    checkout = golden.checkout()
    for key, number in ((0, 0), ("0", 1)):
        assert same(checkout["volumes"][key], volume(number))
        assert same(checkout["volumes"].read_slice(key, BOX), volume(number)[BOX].copy())
    for small_key, value in expected_small().items():
        assert same(checkout["small"][small_key], value)
        assert same(checkout["small"].read_slice(small_key, BOX), value[BOX].copy())
    for i, dtype in enumerate(DTYPES):
        assert same(checkout[f"dtype-{i}", "scene", "only"], scene(dtype))
        assert same(checkout[f"dtype-{i}"]["scene"].read_slice("only", np.s_[33:, 7]), scene(dtype)[33:, 7].copy())


def test_options_are_as_they_were_given(golden: Repository) -> None:
    checkout = golden.checkout()
    assert checkout["small"].backend_options == {"tile": [8, 8, 2], "filters": ["bitshuffle", ["gzip", 3]]}
    assert (checkout["volumes"].backend, checkout["volumes"].backend_options) == ("t0", {})


def test_what_was_purged_says_so(golden: Repository) -> None:
    with pytest.raises(PurgedError, match=REASON):
        golden.checkout()["small"][PURGED]
    with pytest.raises(PurgedError, match=REASON):
        golden.checkout()["small"].read_slice(PURGED, BOX)


def test_it_verifies_and_goes_on(golden: Repository) -> None:
    (finding,) = golden.fsck()
    assert finding.kind == "purged"
    writer = golden.checkout(write=True)
    writer["volumes"][7] = volume(7)
    writer.commit("today")
    writer.close()
    assert same(golden.checkout()["volumes"].read_slice(7, BOX), volume(7)[BOX].copy())
    golden.repack()
    assert golden.verify_repo_integrity()


def test_digests_have_not_changed(golden: Repository) -> None:
    """The same contents, written today, have the same roots, however TileDB encodes them by now."""
    today = golden.checkout(write=True)
    today["volumes"].update({0: volume(0), "0": volume(1)})
    today["small"].update(expected_small())
    with pytest.raises(RuntimeError, match="nothing to commit"):
        today.commit("the same again")
    today.close()
