"""The examples of documentation about bulk import: ours as they stand, and those of Hangar 0.5.2's manual."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from PIL import Image

from hangar_cloud.bulk_importer import UDF_Return, run_bulk_import
from tests.project.source_rules import ROOT
from tests.project.test_docs import blocks
from tests.repository.making import make_repository, read_all

FILES = ["cat/image_001", "cat/image_002", "dog/image_001", "bird/image_011", "bird/image_003"]


@pytest.fixture
def pictures(tmp_path):
    """A folder of small pictures, in folders by what they show."""
    for number, name in enumerate(FILES):
        file = tmp_path / "folder" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (80, 90, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    return tmp_path / "folder"


def scaled(file, size):
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize(size))


def test_the_page_about_bulk_import_runs_as_it_stands(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repository = make_repository("photographs")
    place: dict[str, object] = {"__name__": "page"}
    for block in blocks(ROOT / "docs" / "usage-bulk-import.md"):
        exec(compile(block.body, block.place, "exec"), place)
    assert repository.log(return_contents=True)["head"] == place["digest"]
    assert "undetermined yields different results" in str(place["refused"])
    checkout = repository.checkout()
    assert sorted(checkout["image"]["cat"]) == ["image_001", "image_002"]
    stored = checkout["image", "bird", "image_003"]
    assert np.array_equal(stored, scaled(pictures / "bird" / "image_003.png", (64, 64)))
    assert checkout["file", "dog", "image_001"] == os.path.join("folder", "dog", "image_001.png")
    checkout.close()


def image_loader(file_path):
    image = Image.open(file_path)
    array = np.array(image.resize((512, 512)))
    root, sample_file = os.path.split(file_path)
    category = os.path.basename(root)
    sample_name, _ = os.path.splitext(sample_file)
    yield UDF_Return(column="image", key=(category, sample_name), data=array)
    yield UDF_Return(column="file_str", key=(category, sample_name), data=file_path)


def nondeterminstic(x, y):
    yield UDF_Return(column="valstr", key=f"{x}_{y}", data=str(x * y))
    yield UDF_Return(column="valstr", key=f"{x}_{y}_second", data=str(x * y * random.random()))


def maybe_load(x_arr, y_arr, sample_name, columns=("default",)):
    for column in columns:
        yield UDF_Return(column=column, key=sample_name, data=np.multiply(x_arr, y_arr))
    if len(columns) == 1:
        other = np.array(x_arr.shape) * np.array(y_arr.shape)
        yield UDF_Return(column="strange_column", key=sample_name, data=other)


def test_the_examples_of_the_manual(pictures, tmp_path):
    repo = make_repository(tmp_path / "repository")
    checkout = repo.checkout(write=True)
    checkout.add_ndarray_column("image", shape=(512, 512, 3), dtype=np.uint8, contains_subsamples=True)
    checkout.add_str_column("file_str", contains_subsamples=True)
    checkout.add_str_column("valstr")
    for name in ("default", "foo", "bar"):
        checkout.add_ndarray_column(name, shape=(10,), dtype=np.int64)
    checkout.add_ndarray_column("strange_column", shape=(1,), dtype=np.int64)
    checkout.commit("columns")
    checkout.close()

    udf_kwargs = [{"file_path": str(pictures / f"{name}.png")} for name in FILES]
    run_bulk_import(
        repo, branch_name="master", column_names=["file_str", "image"], udf=image_loader, udf_kwargs=udf_kwargs
    )
    with pytest.raises(TypeError, match=r"item 0 of udf_kwargs \(x=1, y=2\)"):
        run_bulk_import(
            repo,
            branch_name="master",
            column_names=["valstr"],
            udf=nondeterminstic,
            udf_kwargs=[{"x": 1, "y": 2}, {"x": 1, "y": 3}, {"x": 2, "y": 4}],
        )
    ten = np.arange(10)
    run_bulk_import(
        repo,
        branch_name="master",
        column_names=["default", "foo", "bar", "strange_column"],
        udf=maybe_load,
        udf_kwargs=[
            {"x_arr": ten, "y_arr": ten + 1, "sample_name": "sample_1"},
            {"x_arr": ten, "y_arr": ten + 1, "sample_name": "sample_2", "columns": ["foo", "bar", "default"]},
            {"x_arr": ten * 2, "y_arr": ten, "sample_name": "sample_3"},
        ],
    )
    found = read_all(repo)
    assert found["valstr"] == {}
    assert list(found["default"]) == ["sample_1", "sample_2", "sample_3"]
    assert list(found["foo"]) == list(found["bar"]) == ["sample_2"]
    assert {key: int(value[0]) for key, value in found["strange_column"].items()} == {"sample_1": 100, "sample_3": 100}
    checkout = repo.checkout()
    loaded = checkout["image", "dog", "image_001"]
    assert np.array_equal(loaded, scaled(pictures / "dog" / "image_001.png", (512, 512)))
    assert checkout["file_str", "dog", "image_001"] == str(pictures / "dog" / "image_001.png")
    checkout.close()
    one = UDF_Return(column="a", key=("b", 0), data="c")
    assert (one.column, one.key, one.data) == tuple(one) == ("a", ("b", 0), "c")
