"""Tables that other tools wrote: pyarrow, pandas' kin, and Hugging Face `datasets`."""

from __future__ import annotations

import datetime
import io
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from hangar_cloud import external
from hangar_cloud.errors import ColumnNotFoundError, InvalidSchemaError, ObjectNotFoundError, UnreadableFileError
from tests.external.conftest import picture
from tests.external.make_hugging_face import FOLDER
from tests.repository.making import same

TABLE = pa.table(
    {
        "id": ["a", "b/c", "d"],
        "count": pa.array([1, None, 3], pa.int16()),
        "flag": [True, False, None],
        "share": pa.array([0.5, float("nan"), -0.0], pa.float32()),
        "name": pa.array(["x", "", None], pa.string()),
        "kind": pa.array(["p", "q", "p"]).dictionary_encode(),
        "raw": pa.array([b"", b"\x00", None], pa.binary()),
        "box": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
        "words": pa.array([[1, 2, 3], [4], []], pa.list_(pa.int64())),
        "grid": pa.array([[[1, 2], [3, 4]], [[5, 6]], [[1], [2, 3]]], pa.list_(pa.list_(pa.int8()))),
        "pair": pa.array([{"x": 1, "y": "a"}, {"x": 2, "y": None}, None]),
    }
)


@pytest.fixture
def table(tmp_path):
    pq.write_table(TABLE, tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def check(writer, keys):
    """Whether the columns of `TABLE` are in a checkout, under these keys."""
    values = {name: {keys.index(key): value for key, value in column.items()} for name, column in writer.items()}
    assert {row: value.item() for row, value in values["count"].items()} == {0: 1, 2: 3}
    assert writer["count"].dtype == np.int16
    assert {row: value.item() for row, value in values["flag"].items()} == {0: True, 1: False}
    assert values["share"][2].tobytes() == np.float32(-0.0).tobytes()
    assert values["name"] == {0: "x", 1: ""}
    assert values["kind"] == {0: "p", 1: "q", 2: "p"}
    assert values["raw"] == {0: b"", 1: b"\x00"}
    assert {row: value.tolist() for row, value in values["box"].items()} == {0: [1, 2], 2: [3, 4]}
    assert writer["words"].shape == (3,)
    assert {row: value.tolist() for row, value in values["words"].items()} == {0: [1, 2, 3], 1: [4]}
    assert {row: value.tolist() for row, value in values["grid"].items()} == {0: [[1, 2], [3, 4]], 1: [[5, 6]]}
    assert {row: value.item() for row, value in values["pair.x"].items()} == {0: 1, 1: 2}
    assert values["pair.y"] == {0: "a"}


def test_each_column_becomes_one_and_rows_are_keys(writer, table):
    report = external.import_dataset(writer, table)
    check(writer, [0, 1, 2])
    reasons = {one.source.rpartition("column ")[2]: one.reason for one in report.refused}
    assert set(reasons) == {"words", "grid"}
    assert "no elements" in reasons["words"]
    assert "different lengths (1 to 2)" in reasons["grid"]
    assert external.import_dataset(writer, table).added == 0


def test_a_column_can_be_the_keys(writer, table):
    external.import_dataset(writer, table, key="id")
    check(writer, ["a", "b/c", "d"])
    assert "id" not in writer.columns


def test_keys_that_cannot_be_or_come_twice_are_told(writer, tmp_path):
    pq.write_table(pa.table({"k": ["a", "a", "no good", None], "v": [1, 2, 3, 4]}), tmp_path / "t.parquet")
    report = external.import_dataset(writer, tmp_path / "t.parquet", key="k")
    assert {key: value.item() for key, value in writer["v"].items()} == {"a": 1}
    assert [one.reason.partition(" is ")[0] for one in report.refused] == [
        "column 'k': 'a'",
        "column 'k': sample key 'no good'",
        "column 'k': sample key None of type NoneType",
    ]


@pytest.mark.parametrize("kind", ["file", "stream", "feather"])
def test_arrow_files_are_tables_too(writer, tmp_path, kind):
    path = tmp_path / ("t.feather" if kind == "feather" else "t.arrow")
    if kind == "feather":
        pyarrow.feather.write_feather(TABLE, path)
    else:
        with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(str(path), TABLE.schema) as sink:
            sink.write_table(TABLE)
    external.import_dataset(writer, path)
    check(writer, [0, 1, 2])


def test_a_folder_of_files_is_one_table_with_its_splits(writer, tmp_path):
    (tmp_path / "data").mkdir()
    for split, number in (("train", 0), ("train", 1), ("test", 0)):
        part = pa.table({"v": [10 * number, 10 * number + 1]})
        pq.write_table(part, tmp_path / "data" / f"{split}-0000{number}-of-00002.parquet")
    external.import_dataset(writer, tmp_path / "data")
    assert {key: value.item() for key, value in writer["v"].items()} == {
        "test/0": 0,
        "test/1": 1,
        "train/0": 0,
        "train/1": 1,
        "train/2": 10,
        "train/3": 11,
    }
    pq.write_table(pa.table({"w": [1]}), tmp_path / "data" / "z.parquet")
    with pytest.raises(UnreadableFileError, match=r"z\.parquet: its columns are not those of"):
        external.import_dataset(writer, tmp_path / "data", overwrite=True)


def test_a_url_is_read_where_it_lies(writer, table):
    with fsspec.open("memory://tables/t.parquet", "wb") as file:
        file.write(table.read_bytes())
    external.import_dataset(writer, "memory://tables/t.parquet")
    check(writer, [0, 1, 2])


@pytest.mark.parametrize(
    "values",
    [
        pa.array([datetime.date(2020, 1, 1)]),
        pa.array([[{"a": 1}]]),
        pa.array([["a", "b"]]),
        pa.nulls(1),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
    ids=lambda one: str(one.type),
)
def test_what_no_column_holds_is_told_before_anything_is_written(writer, tmp_path, values):
    pq.write_table(pa.table({"good": [1], "odd": values}), tmp_path / "t.parquet")
    with pytest.raises(InvalidSchemaError, match=r"columns hold neither .*: odd \(.*columns=; good can be"):
        external.import_dataset(writer, tmp_path / "t.parquet")
    assert list(writer.columns) == []
    assert external.import_dataset(writer, tmp_path / "t.parquet", columns=["good"]).added == 1


def test_names_that_no_column_has_are_told_or_cleaned(writer, tmp_path):
    odd = pa.table({"sepal length (cm)": [1.5], "id": ["a b"], "\u00fc": [2], "good": [3]})
    pq.write_table(odd, tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"'sepal length \(cm\)' is not suitable.*clean_names=True"):
        external.import_dataset(writer, tmp_path / "t.parquet")
    assert list(writer.columns) == []
    external.import_dataset(writer, tmp_path / "t.parquet", clean_names=True, key="id")
    assert sorted(writer.columns) == ["_", "good", "sepal_length_cm_"]
    assert writer["sepal_length_cm_", "a_b"] == 1.5
    pq.write_table(pa.table({"a b": [1], "a_b": [2]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="'a b', 'a_b' would all be called 'a_b'"):
        external.import_dataset(writer, tmp_path / "t.parquet", clean_names=True)


def test_what_is_missing_or_damaged_is_told(writer, table, tmp_path):
    with pytest.raises(ColumnNotFoundError, match="has no column 'no'; it has: id, count"):
        external.import_dataset(writer, table, columns=["no"])
    with pytest.raises(ColumnNotFoundError, match="has no column 'no' for keys"):
        external.import_dataset(writer, table, key="no")
    (tmp_path / "cut.parquet").write_bytes(table.read_bytes()[:-50])
    with pytest.raises(UnreadableFileError, match=r"cut\.parquet: this is no whole Parquet"):
        external.import_dataset(writer, tmp_path / "cut.parquet")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        external.import_dataset(writer, tmp_path / "gone.parquet")
    with pytest.raises(ObjectNotFoundError, match=r"cannot open memory://gone\.parquet"):
        external.import_dataset(writer, "memory://gone.parquet")
    with pytest.raises(ValueError, match=r"gopher://a/b\.parquet cannot be opened"):
        external.import_dataset(writer, "gopher://a/b.parquet")
    with pytest.raises(ValueError, match="not seen to be a dataset"):
        external.import_dataset(writer, __file__)
    assert list(writer.columns) == []


def test_two_columns_of_one_name_are_told(writer, tmp_path):
    twice = pa.Table.from_arrays([pa.array([1, 2]), pa.array([3, 4])], names=["x", "x"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(UnreadableFileError, match=r"a\.parquet has several columns called 'x'"):
        external.import_dataset(writer, tmp_path / "a.parquet")


def test_a_column_that_holds_something_else_stops_all(writer, table):
    writer.add_ndarray_column("share", shape=(2,), dtype=np.float32)
    with pytest.raises(InvalidSchemaError, match=r"column 'share' is there and holds float32 \(<f4\) of shape \(2,\)"):
        external.import_dataset(writer, table)
    assert list(writer.columns) == ["share"]


def test_a_saved_hugging_face_dataset(writer):
    report = external.import_dataset(writer, FOLDER / "saved")
    assert report.refused == []
    assert writer["image"].shape == (6, 5, 3)
    assert list(writer["image"]) == ["test/0", "train/0", "train/1", "train/2"]
    assert same(writer["image", "train/2"], picture(2, (6, 5, 3)))
    assert dict(writer["label"].items()) == {"test/0": "dog", "train/1": "dog", "train/2": "cat"}
    assert same(writer["grid", "train/1"], np.full((2, 3), 1, np.float32))
    assert writer["text", "test/0"] == "text 1"
    external.import_dataset(writer, FOLDER / "made.parquet", overwrite=True)
    assert same(writer["image", 2], picture(2, (6, 5, 3)))
    assert writer["label", 1] == "dog"


def test_a_dataset_that_names_files_of_this_machine_gets_none(writer, tmp_path):
    Image.fromarray(picture(1)).save(tmp_path / "secret.png")
    rows = pa.table(
        {"image": [{"bytes": None, "path": str(tmp_path / "secret.png")}, {"bytes": b"no picture", "path": None}]}
    )
    note = b'{"info": {"features": {"image": {"_type": "Image"}}}}'
    pq.write_table(rows.replace_schema_metadata({b"huggingface": note}), tmp_path / "t.parquet")
    report = external.import_dataset(writer, tmp_path / "t.parquet")
    assert "only names a file" in report.refused[0].reason
    assert report.refused[0].source.endswith("t.parquet, column image")
    assert list(writer.columns) == []


def test_sounds_are_decoded_and_what_cannot_be_is_told_row_by_row(writer, tmp_path):
    rows: list[Any] = []
    for length in (30, 40):
        sound = io.BytesIO()
        soundfile.write(sound, np.arange(length, dtype=np.int16), 8000, format="WAV")
        rows.append({"bytes": sound.getvalue(), "path": "a.wav"})
    rows += [None, {"bytes": b"no sound", "path": None}, {"bytes": None, "path": "/etc/passwd"}]
    note = b'{"info": {"features": {"clip": {"_type": "Audio"}}}}'
    pq.write_table(pa.table({"clip": rows}).replace_schema_metadata({b"huggingface": note}), tmp_path / "t.parquet")
    report = external.import_dataset(writer, tmp_path / "t.parquet")
    assert writer["clip"].shape == (40,)
    assert {key: value.tolist() for key, value in writer["clip"].items()} == {0: list(range(30)), 1: list(range(40))}
    assert [one.source.rpartition("row ")[2] for one in report.refused] == ["3, column clip", "4, column clip"]
