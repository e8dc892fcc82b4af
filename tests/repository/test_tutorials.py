"""Programs that make the calls of Hangar 0.5.2's tutorials, in their order and with their arguments, on data made here.

They follow the tutorials step by step, so that what people learned there goes on working. Where a tutorial fetches from
its server, a folder stands in for it.
"""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from hangar_cloud import Repository
from tests.repository.following import column_facts, empty_column, printer, shown_columns, started
from tests.repository.making import same

HASH = r"[0-9a-f]{64}"


@pytest.fixture
def printed(capsys):
    """Gives the lines that a call prints."""
    return printer(capsys)


def test_quick_start(tmp_path, capsys, printed):
    place = tmp_path / "quick-start"
    place.mkdir()
    repo = started(place, capsys, "Ada", "ada@example.org")
    writer = repo.checkout(write=True)
    assert repr(writer) == (
        "Hangar WriterCheckout\n    Writer       : True\n    Base Branch  : master\n    Num Columns  : 0"
    )
    assert shown_columns(writer.columns) == ["-"]
    dummy = np.random.rand(3, 2)
    column = writer.add_ndarray_column(name="dummy_column", prototype=dummy)
    assert column_facts(column) == empty_column("dummy_column", "float64", (3, 2))
    assert shown_columns(writer.columns) == ["- dummy_column / False"]
    column[0] = dummy
    assert column_facts(column)["Number of Samples"] == "1"
    second = column[1] = np.random.rand(3, 2)
    assert column_facts(column)["Number of Samples"] == "2"
    assert same(column[1], second)
    pairs = list(column.items())
    assert [key for key, _ in pairs] == [0, 1]
    assert same(pairs[0][1], dummy)
    assert (len(column), 0 in column, 5 in column) == (2, True, False)
    first = writer.commit("Add dummy_column with 2 samples")
    column[2] = np.random.rand(3, 2)
    assert column_facts(column) == empty_column("dummy_column", "float64", (3, 2), 3)
    head = writer.commit("Add one more sample to dummy_column")
    assert printed(writer.log) == [
        f"* {head} (master) : Add one more sample to dummy_column",
        f"* {first} : Add dummy_column with 2 samples",
    ]
    writer.close()
    summary = printed(repo.summary)
    assert summary[0] == "Summary of Contents Contained in Data Repository"
    for line in (
        *("| Repository Info", f"|  Base Directory: {place}", "| Commit Details", f"|  Commit: {head}", "|  By: Ada"),
        *("|  Email: ada@example.org", "|  Message: Add one more sample to dummy_column", "| DataSets"),
        *("|  Number of Named Columns: 1", '|  * Column Name: ColumnSchemaKey(column="dummy_column", layout="flat")'),
        *("|    Num Data Pieces: 3", "|    - column_layout: flat", "|    - column_type: ndarray"),
        *("|    - schema_type: fixed_shape", "|    - shape: (3, 2)", "|    - dtype: float64"),
    ):
        assert line in summary
    assert any(re.fullmatch(r"\|  Disk Usage: [\d.]+ k?B", line) for line in summary)


@pytest.fixture
def digits():
    """80 images of 784 shades from 0 to 1, and their labels."""
    generator = np.random.default_rng(0)
    return generator.random((80, 784), np.float32), generator.integers(0, 10, 80)


def test_adding_data_to_six_columns(tmp_path, capsys, printed, digits):
    repo = started(tmp_path / "mnist", capsys, "Ada", "ada@example.org")
    writer = repo.checkout(write=True)
    images, labels = digits
    parts = {"training": slice(0, 50), "validation": slice(50, 60), "test": slice(60, 80)}
    for part, rows in parts.items():
        image_column = writer.add_ndarray_column(name=f"mnist_{part}_images", prototype=images[0])
        label_column = writer.add_ndarray_column(name=f"mnist_{part}_labels", prototype=np.array([labels[0]]))
        with image_column, label_column:
            for index, (image, label) in enumerate(zip(images[rows], labels[rows], strict=True)):
                image_column[index] = image
                label_column[index] = np.array([label])
    assert column_facts(writer["mnist_training_images"]) == empty_column("mnist_training_images", "float32", (784,), 50)
    assert same(writer["mnist_test_images", 3], images[63])
    assert writer["mnist_test_images"].get(1000) is None
    digest = writer.commit("added all the mnist datasets")
    writer.close()
    assert printed(repo.log) == [f"* {digest} (master) : added all the mnist datasets"]
    summary = printed(repo.summary)
    assert "|  Number of Named Columns: 6" in summary
    assert [int(line.split()[-1]) for line in summary if "Num Data Pieces" in line] == [20, 20, 50, 50, 10, 10]


def test_part_1_creating_a_repository_and_working_with_data(tmp_path, capsys, printed, digits):
    images = np.round(digits[0] * 255).astype(np.uint8)
    labels = digits[1]
    repo = started(tmp_path / "mnist", capsys, "Rick", "rick@example.org")
    co = repo.checkout(write=True)
    assert shown_columns(co.columns) == ["-"]
    column = co.add_ndarray_column(name="mnist_training_images", prototype=images[0])
    expected = empty_column("mnist_training_images", "uint8", (784,))
    assert column_facts(column) == expected
    assert column_facts(co.columns["mnist_training_images"]) == expected
    assert column_facts(co.columns.get("mnist_training_images")) == expected
    assert column_facts(co["mnist_training_images"]) == expected
    column["0"] = images[0]
    column.update({"1": images[1], "2": images[2]})
    column[51] = images[51]
    co["mnist_training_images", 60] = images[60]
    assert (len(column), "hi" in column, "0" in column, 60 in column) == (5, False, True, True)
    assert np.allclose(column["0"], co["mnist_training_images", "0"])
    assert sorted(map(str, column)) == sorted(map(str, column.keys())) == ["0", "1", "2", "51", "60"]
    assert [value.reshape(28, 28).shape for value in column.values()] == [(28, 28)] * 5
    assert {key: value.tobytes() for key, value in column.items()}[51] == images[51].tobytes()
    co.reset_staging_area()
    co.close()

    for in_blocks in (False, True):
        co = repo.checkout(write=True)
        image_column = co.add_ndarray_column(name="train_images", prototype=images[0])
        label_column = co.add_ndarray_column(name="train_labels", prototype=np.array([labels[0]]))
        start_time = time.time()
        if in_blocks:
            with image_column, label_column:
                for index, image in enumerate(images):
                    image_column[index] = image
                    label_column[index] = np.array([labels[index]])
        else:
            for index, image in enumerate(images):
                image_column[index] = image
                label_column[index] = np.array([labels[index]])
        assert time.time() >= start_time
        assert len(image_column) == len(label_column) == 80
        if not in_blocks:
            co.reset_staging_area()
            co.close()
    with pytest.raises(PermissionError, match="only one writer checkout can be open at a time"):
        repo.checkout(write=True)
    digest = co.commit("hello world, this is my first hangar commit")
    assert re.fullmatch(HASH, digest)
    co.close()
    with pytest.warns(ResourceWarning, match="by force"):
        assert repo.force_release_writer_lock() is True

    co = repo.checkout()
    label_column, image_column = co["train_labels"], co["train_images"]
    for key in image_column.keys():  # noqa: SIM118
        assert same(image_column[key], images[key])
        assert label_column[key] == labels[key]
    with label_column, image_column:
        for key, image in image_column.items():
            assert same(image, images[key])
            assert label_column[key] == labels[key]
    co.close()
    summary = printed(repo.summary)
    assert "|  Number of Named Columns: 2" in summary
    assert [line for line in summary if "shape:" in line] == ["|    - shape: (784,)", "|    - shape: (1,)"]
    assert printed(repo.log) == [f"* {digest} (master) : hello world, this is my first hangar commit"]


def test_quick_start_with_pictures_and_labels(tmp_path, capsys, printed):
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (9, 160, 163, 3), np.uint8)
    labels = [f"label {number % 3}, genus Täxt" for number in range(9)]
    repo = started(tmp_path / "imagenette", capsys, "Ada", "ada@example.org")
    co = repo.checkout(write=True)
    assert shown_columns(co.columns) == ["-"]
    picture_column = co.add_ndarray_column(name="training_images", prototype=pictures[0])
    assert shown_columns(co.columns) == ["- training_images / False"]
    assert column_facts(picture_column) == empty_column("training_images", "uint8", (160, 163, 3))
    assert column_facts(co.columns["training_images"]) == column_facts(picture_column)
    label_column = co.add_str_column(name="training_labels")
    shown = column_facts(label_column)
    assert [shown[name] for name in ("Column Type", "Schema Type", "Shape")] == ["str", "variable_shape", "None"]
    picture_column[0] = pictures[0]
    label_column[0] = labels[0]
    assert column_facts(co.columns["training_labels"])["Number of Samples"] == "1"
    picture_column.update({1: pictures[1], 2: pictures[2]})
    assert column_facts(picture_column)["Number of Samples"] == "3"
    with picture_column:
        for i, picture in enumerate(pictures):
            if i not in [0, 1, 2]:
                picture_column[i] = picture
    with label_column:
        for i, label in enumerate(labels):
            if i != 0:
                label_column[i] = label
    assert column_facts(label_column)["Number of Samples"] == "9"
    training = co.commit("Add training images and labels")
    picture_column = co.add_ndarray_column(name="validation_images", prototype=pictures[0])
    label_column = co.add_str_column(name="validation_labels")
    with picture_column, label_column:
        for picture, label in zip(pictures, labels, strict=True):
            picture_column[8] = picture
            label_column[8] = label
    validation = co.commit("Add validation images and labels")
    assert printed(co.log) == [
        f"* {validation} (master) : Add validation images and labels",
        f"* {training} : Add training images and labels",
    ]
    co.close()
    summary = printed(repo.summary)
    assert [int(line.split()[-1]) for line in summary if "Num Data Pieces" in line] == [9, 9, 1, 1]
    reader = repo.checkout()
    assert same(reader["training_images", 5], pictures[5])
    assert reader[("training_labels", 4), ("validation_labels", 8)] == [labels[4], labels[8]]
    reader.close()


def test_storing_pictures_and_captions_for_the_loaders(tmp_path, capsys):
    generator = np.random.default_rng(0)
    repo = started(tmp_path / "hangar_repo", capsys, "Ada", "ada@example.org")
    co = repo.checkout(write=True)
    co.add_ndarray_column("images", shape=(29, 29, 3), dtype=np.uint8)
    co.commit("column init")
    co.close()
    co = repo.checkout(write=True)
    images = co.columns["images"]
    for i in range(3):
        images[i] = generator.integers(0, 256, (29, 29, 3), np.uint8)
    co.commit("added image")
    co.close()

    repo = Repository(str(tmp_path / "hangar_repo"))
    repo.init(user_name="Ada", user_email="ada@example.org", remove_old=True)
    co = repo.checkout(write=True)
    co.add_ndarray_column("images", shape=(29, 29, 3), dtype=np.uint8)
    co.add_ndarray_column("captions", shape=(60,), dtype=float, variable_shape=True)
    co.commit("column init")
    co.close()
    co = repo.checkout(write=True)
    images, captions = co.columns["images"], co.columns["captions"]
    written = {}
    with images, captions:
        for i in range(25):
            caption = np.array(range(i + 2), dtype=float)
            key = images.append(np.full((29, 29, 3), i, np.uint8))
            captions[key] = caption
            written[key] = caption
            if i % 10 == 0 and i != 0 and co.diff.status() == "DIRTY":
                co.commit(f"Added batch {i}")
    co.commit("Added full data")
    co.close()

    co = repo.checkout(write=True)
    images = co.columns["images"]
    first = list(images.keys())[0]  # noqa: RUF015
    features = co.add_ndarray_column("processed_images", prototype=images[first].reshape(-1, 3).astype(np.float32))
    with features:
        for key in images:
            features[key] = images[key].reshape(-1, 3).astype(np.float32)
    co.commit("processed image saved")
    co.close()
    co = repo.checkout()
    assert list(co.columns["captions"]) == list(co.columns["processed_images"]) == list(written)
    assert all(same(co["captions", key], caption) for key, caption in written.items())
    assert [value[0, 0] for value in co["processed_images"].values()] == list(range(25))
    co.close()
