"""What is exported and imported again is what it was: every column, key and bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hangar_cloud import external
from hangar_cloud.errors import (
    ExportExistsError,
    HangarError,
    InvalidArgumentError,
    PurgedError,
    StoreError,
    UnexportableError,
    UnreadableFileError,
)
from hangar_cloud.external import parquet_export, zarr_export
from hangar_cloud.external.dataset_samples import rows_of
from tests.external.conftest import picture
from tests.repository.making import make_repository, same, start_process, wait_for_line

PLACES = {"parquet": "out.parquet", "zarr": "out.zarr", "webdataset": "tars"}
FORMATS = [*PLACES.items(), ("webdataset", "out.tar")]


def contents(checkout: Any) -> tuple[dict[str, Any], list[Any]]:
    """Everything in a checkout, so that two of them can be compared bit by bit."""
    columns = {}
    for name, column in checkout.items():
        keys = list(rows_of(column))
        values = [
            (one.dtype.str, one.shape, one.tobytes()) if isinstance(one, np.ndarray) else one
            for one in column._read_all(keys)
        ]
        columns[name] = (column._entry.schema, list(zip(keys, values, strict=True)))
    return columns, list(checkout.metadata.items())


def fill_with_hard_cases(co: Any) -> None:
    """Every type and layout, with the values that formats lose most easily."""
    floats = co.add_ndarray_column("floats", shape=(2, 3), dtype=np.float32)
    floats[0] = np.array([[np.nan, -0.0, 0.0], [np.inf, 1e-45, -1]], np.float32)
    floats["0"] = np.frombuffer(bytes.fromhex("0100c07f") * 6, np.float32).reshape(2, 3)
    floats["a/b.c/.d/e.f"] = np.zeros((2, 3), np.float32)
    other_order = co.add_ndarray_column("other.order", shape=(), dtype=">i2")
    other_order[0] = np.array(300, ">i2")
    other_order[2**63 - 1] = np.array(-2, ">i2")
    complexes = co.add_ndarray_column("complexes", shape=(2, 2), dtype=">c8", variable_shape=True)
    complexes[0] = np.array([[1 + 2j]], ">c8")
    complexes["z"] = np.full((2, 2), 3j, ">c8")
    co.add_ndarray_column("complex", shape=(), dtype=np.complex128)["1"] = np.array(complex(np.nan, -0.0))
    co.add_ndarray_column("one-axis", shape=5, dtype=np.bool_, variable_shape=True)[3] = np.array([True, False, True])
    co.add_ndarray_column("bools", shape=(3, 3), dtype=np.bool_)[3] = np.eye(3, dtype=np.bool_)
    co.add_ndarray_column("images", shape=(6, 5, 3), dtype=np.uint8)[3] = picture(1)
    co.add_ndarray_column("grey", shape=(6, 5, 1), dtype=np.uint8)[3] = picture(1, (6, 5, 1))
    texts = co.add_str_column("texts")
    texts.update({0: "", "0": "\u00fc\n\x00\r\n\U0001f600", 5: "x" * 100})
    co.add_bytes_column("bytes").update({0: b"", 1: b"\0\n\xff" * 50})
    co.add_ndarray_column("empty", shape=(3,), dtype=np.float16)
    co.add_str_column("empty-nested", contains_subsamples=True)
    nested = co.add_ndarray_column("nested", shape=(2, 2), dtype=np.float16, contains_subsamples=True)
    nested["p"] = {0: np.ones((2, 2), np.float16), "0": np.zeros((2, 2), np.float16)}
    nested["p"] = {"a.b/c": np.full((2, 2), np.nan, np.float16)}
    nested[4] = {1: np.zeros((2, 2), np.float16)}
    co.add_bytes_column("nested.2", contains_subsamples=True)[1] = {"q": b""}
    of_any_shape = co.add_ndarray_column("nested3", (4, 4), "u8", variable_shape=True, contains_subsamples=True)
    of_any_shape["p"] = {7: np.full((1, 2), 2**64 - 1, np.uint64), 8: np.ones((4, 4), np.uint64)}
    co.add_str_column("__reserved")["a"] = "b"
    co.add_str_column("zarr.json")["a"] = "b"
    co.add_str_column("key")[0] = "not a key"
    co.metadata["title"] = "hard cases"
    co.metadata[3] = "\u00fc"


@pytest.mark.parametrize(("kind", "place"), FORMATS, ids=lambda one: one)
def test_the_hard_cases_come_back_bit_by_bit(writer, tmp_path, kind, place):
    fill_with_hard_cases(writer)
    path = tmp_path / place
    report = external.export_dataset(writer, path, kind, shard_bytes=8000)
    other = make_repository(tmp_path / "other").checkout(write=True)
    done = external.import_dataset(other, path)
    assert done.refused == []
    assert contents(other) == contents(writer)
    assert done.added == report.samples
    again = external.import_dataset(other, path)
    assert (again.added, again.skipped) == (0, report.samples)
    assert external.import_dataset(other, path, columns=["texts"], overwrite=True).added == 3
    other.close()
    if place == "tars":
        assert report.files == len(os.listdir(path)) > 2


KEYS = st.one_of(st.integers(0, 2**63 - 1), st.from_regex(r"\A[a-z0-9._-]{1,5}(/[a-z0-9_-]{1,3})?\Z"))
DTYPES = st.sampled_from(["?", "<i1", "<u2", ">i4", "<u8", "<f2", "<f4", ">f8", "<c8", ">c16"])


@st.composite
def columns(draw: Any) -> dict[str, Any]:
    """A column: the arguments to make it, and its samples."""
    nested = draw(st.booleans())
    kind = draw(st.sampled_from(["fixed", "variable", "str", "bytes"]))
    if kind in ("fixed", "variable"):
        dtype = draw(DTYPES)
        shape = draw(hnp.array_shapes(min_dims=0 if kind == "fixed" else 1, max_dims=3, min_side=1, max_side=3))
        shapes = st.just(shape) if kind == "fixed" else st.tuples(*[st.integers(1, n) for n in shape])
        values: Any = hnp.arrays(dtype, shapes)
        made = {"shape": shape, "dtype": dtype, "variable_shape": kind == "variable"}
    else:
        values = st.text(max_size=6).filter(str.isprintable) if kind == "str" else st.binary(max_size=6)
        made = {}
    keys = KEYS.filter(lambda key: key not in (".", "..") and ".." not in str(key).split("/"))
    samples = st.dictionaries(
        keys, st.dictionaries(keys, values, min_size=1, max_size=3) if nested else values, max_size=4
    )
    return {"kind": kind, "nested": nested, "made": made, "samples": draw(samples)}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A repository whose staging area each example fills and resets."""
    return make_repository(tmp_path_factory.mktemp("round-trips"))


@pytest.mark.parametrize("kind", list(PLACES))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(dataset=st.lists(columns(), min_size=1, max_size=3))
def test_any_dataset_comes_back_bit_by_bit(bench, tmp_path_factory, kind, dataset):
    writer = bench.checkout(write=True)
    for number, column in enumerate(dataset):
        name = f"column{number}"
        if column["made"]:
            writer.add_ndarray_column(name, **column["made"], contains_subsamples=column["nested"])
        else:
            getattr(writer, f"add_{column['kind']}_column")(name, column["nested"])
        writer[name].update(column["samples"])
    before = contents(writer)
    path = tmp_path_factory.mktemp("out") / PLACES[kind]
    external.export_dataset(writer, path, kind)
    for name in list(writer.columns):
        writer.columns.delete(name)
    assert external.import_dataset(writer, path, kind).refused == []
    assert contents(writer) == before
    writer.reset_staging_area(force=True)


def test_datasets_in_a_bucket_are_read_where_they_lie(writer, tmp_path, s3_url, s3_options):
    writer.add_ndarray_column("images", shape=(6, 5), dtype=np.uint8).update({n: picture(n, (6, 5)) for n in range(20)})
    writer.add_str_column("labels").update({n: f"label {n}" for n in range(20)})
    before = contents(writer)
    store = fsspec.filesystem("s3", **s3_options)
    for kind, place in [one for one in FORMATS if "." in one[1]]:
        external.export_dataset(writer, tmp_path / place, kind)
        store.put(str(tmp_path / place), f"{s3_url}/{place}", recursive=kind == "zarr")
        for name in ("images", "labels"):
            writer.columns.delete(name)
        report = external.import_dataset(writer, f"{s3_url}/{place}", storage_options=s3_options)
        assert report.refused == []
        assert contents(writer) == before
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet"):
        external.import_dataset(writer, f"{s3_url}/gone.parquet", storage_options=s3_options)
    wrong = {**s3_options, "secret": "not this one"}
    with pytest.raises(OSError, match=r"out\.tar") as caught:
        external.import_dataset(writer, f"{s3_url}/out.tar", storage_options=wrong)
    assert isinstance(caught.value, HangarError)
    assert "not this one" not in str(caught.value)


def test_parquet_is_a_table_that_other_tools_read(writer, tmp_path):
    writer.add_ndarray_column("images", shape=(2, 2), dtype=np.uint8).update(
        {3: picture(1, (2, 2)), 10: picture(2, (2, 2))}
    )
    writer.add_str_column("labels").update({3: "cat", 4: "dog"})
    external.export_dataset(writer, tmp_path / "out.parquet", "parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["key"].to_pylist() == [3, 4, 10]
    assert table["labels"].to_pylist() == ["cat", "dog", None]
    assert table["images"][0].as_py() == picture(1, (2, 2)).reshape(-1).tolist()
    assert table["images"].null_count == 1


def test_a_large_dataset_is_written_in_parts(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_export, "_GROUP_BYTES", 20_000)
    monkeypatch.setattr(zarr_export, "CHUNK_BYTES", 10_000)
    column = writer.add_ndarray_column("images", shape=(30, 30), dtype=np.uint8, variable_shape=True)
    column.update({n: picture(n, (1 + n % 30, 30)) for n in range(200)})
    before = contents(writer)
    for kind, place in PLACES.items():
        external.export_dataset(writer, tmp_path / place, kind, shard_bytes=30_000)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups > 2
    assert len(os.listdir(tmp_path / "tars")) > 2
    for place in PLACES.values():
        writer.columns.delete("images")
        external.import_dataset(writer, tmp_path / place)
        assert contents(writer) == before


# webdataset leaves the last tar open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_our_tars(writer, tmp_path):
    writer.add_ndarray_column("image", shape=(6, 5, 3), dtype=np.uint8).update({"a/1": picture(1), "a/2": picture(2)})
    writer.add_str_column("label").update({"a/1": "cat", "a/2": "dog"})
    external.export_dataset(writer, tmp_path / "tars", "webdataset", extension="png")
    found = list(webdataset.WebDataset(str(tmp_path / "tars" / "000000.tar"), shardshuffle=False).decode("rgb8"))
    assert [one["__key__"] for one in found] == ["a/1", "a/2"]
    assert [one["label.txt"] for one in found] == ["cat", "dog"]
    assert same(found[1]["image.png"], picture(2))


@pytest.mark.parametrize(("kind", "place"), FORMATS, ids=lambda one: one)
def test_what_is_there_is_not_written_over_unless_asked(writer, tmp_path, kind, place):
    writer.add_str_column("labels")[0] = "cat"
    external.export_dataset(writer, tmp_path / place, kind)
    writer["labels", 0] = "dog"
    with pytest.raises(ExportExistsError, match="already"):
        external.export_dataset(writer, tmp_path / place, kind)
    external.export_dataset(writer, tmp_path / place, kind, overwrite=True)
    external.import_dataset(writer, tmp_path / place, overwrite=True)
    assert writer["labels", 0] == "dog"
    assert [path.name for path in tmp_path.iterdir() if path.name != "repository"] == [place]


@pytest.mark.parametrize("kind", ["zarr", "webdataset"])
def test_a_folder_that_is_no_export_is_never_removed(writer, tmp_path, kind):
    writer.add_str_column("labels")[0] = "cat"
    precious = tmp_path / "work"
    (precious / "thesis").mkdir(parents=True)
    (precious / "thesis" / "chapter.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ExportExistsError, match="already|not removed"):
            external.export_dataset(writer, precious, kind, overwrite=overwrite)
    assert (precious / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_tar_that_is_missing_is_told(writer, repo, tmp_path):
    samples = writer.add_ndarray_column("numbers", shape=(5000,), dtype=np.uint8)
    samples.update({n: np.full(5000, n, np.uint8) for n in range(20)})
    writer.add_str_column("labels", contains_subsamples=True).update({n: {"a": "cat", "b": "dog"} for n in range(20)})
    writer.commit("all")
    external.export_dataset(writer, tmp_path / "tars", "webdataset", shard_bytes=40_000)
    for name in ("numbers", "labels"):
        writer.columns.delete(name)
    parts = sorted((tmp_path / "tars").iterdir())
    parts[1].rename(tmp_path / "elsewhere.tar")
    report = external.import_dataset(writer, tmp_path / "tars")
    left = 20 - len(writer["numbers"])
    assert 0 < left < 20
    assert [(one.source.rpartition(", ")[2], one.reason.split()[0]) for one in report.refused] == [
        ("column labels", str(2 * left)),
        ("column numbers", str(left)),
    ]
    (tmp_path / "elsewhere.tar").rename(parts[1])
    assert external.import_dataset(writer, tmp_path / "tars").refused == []
    assert (len(writer["numbers"]), writer["labels"].num_subsamples) == (20, 40)


def test_a_chunk_that_is_missing_is_told(writer, tmp_path):
    zeros = np.zeros((3, 4), np.uint8)
    writer.add_ndarray_column("numbers", prototype=zeros).update(dict.fromkeys(range(5), zeros))
    writer.add_str_column("labels").update(dict.fromkeys(range(5), "cat"))
    external.export_dataset(writer, tmp_path / "out.zarr", "zarr")
    for name in ("numbers", "labels"):
        writer.columns.delete(name)
    external.import_dataset(writer, tmp_path / "out.zarr")
    assert writer["numbers", 4].tolist() == zeros.tolist()
    writer.columns.delete("numbers")
    chunks = [path for path in (tmp_path / "out.zarr" / "numbers").rglob("*") if path.is_file()]
    (chunk,) = (path for path in chunks if not path.name.startswith(("zarr", ".z")))
    chunk.unlink()
    with pytest.raises(UnreadableFileError, match="array 'numbers': 1 of its 1 chunks are missing"):
        external.import_dataset(writer, tmp_path / "out.zarr")


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "zarr", "imagefolder"])
def test_nothing_is_written_among_a_repositorys_own_files(writer, repo, kind):
    writer.add_str_column("labels")[0] = "cat"
    own = Path(repo.path, ".hangar")
    before = {path for path in own.rglob("*") if path.is_file()}
    settings = (own / "config.toml").read_bytes()
    for place in (own, own / "config.toml", own / "store" / "packs" / "new.tar"):
        with pytest.raises(InvalidArgumentError, match="among a repository's own files"):
            external.export_dataset(writer, place, kind, overwrite=True)
        with pytest.raises(InvalidArgumentError, match="among a repository's own files"):
            external.export_files(writer, "labels", place, overwrite=True)
    assert {path for path in own.rglob("*") if path.is_file()} == before
    assert (own / "config.toml").read_bytes() == settings


@pytest.mark.parametrize("kind", ["zarr", "webdataset"])
def test_the_current_folder_is_not_made_anew(writer, tmp_path, monkeypatch, kind):
    writer.add_str_column("labels")[0] = "cat"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ExportExistsError, match="is the current folder"):
        external.export_dataset(writer, ".", kind)
    with pytest.raises(StoreError, match=r"cannot export to .*file/out\.parquet: Not a directory|File exists"):
        (tmp_path / "file").write_text("x")
        external.export_dataset(writer, tmp_path / "file" / "out.parquet", "parquet")


@pytest.mark.parametrize(("kind", "place"), FORMATS, ids=lambda one: one)
def test_an_export_that_fails_leaves_what_was_there(writer, tmp_path, kind, place, monkeypatch):
    texts = writer.add_str_column("labels")
    texts.update(dict.fromkeys(range(3), "cat"))
    external.export_dataset(writer, tmp_path / place, kind)
    before = contents(writer)
    texts[1] = "dog" * 50
    reads = type(texts)._read_all

    def failing(column: Any, keys: Any) -> Any:
        if 1 in list(keys):
            raise OSError(28, "No space left on device")
        return reads(column, keys)

    monkeypatch.setattr(type(texts), "_read_all", failing)
    with pytest.raises(StoreError, match="cannot export to .*: No space left"):
        external.export_dataset(writer, tmp_path / place, kind, overwrite=True)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir() if path.name != "repository"] == [place]
    external.import_dataset(writer, tmp_path / place, overwrite=True)
    assert contents(writer) == before


EXPORT = """
    import sys
    from hangar_cloud import Repository, external
    from hangar_cloud.external import dataset_samples

    learn = dataset_samples.ReadAhead.learn
    def waiting(self, rows, size):
        learn(self, rows, size)
        if self.rows > 8:
            print("some", flush=True)
            sys.stdin.read()
    dataset_samples.ReadAhead.learn = waiting
    co = Repository(sys.argv[1]).checkout()
    external.export_dataset(co, sys.argv[2], sys.argv[3], overwrite=True, shard_bytes=9000)
"""


@pytest.mark.parametrize("kind", list(PLACES))
def test_a_killed_export_leaves_what_was_there(repo, tmp_path, kind):
    writer = repo.checkout(write=True)
    images = writer.add_ndarray_column("images", shape=(30, 30), dtype=np.uint8)
    images[0] = picture(0, (30, 30))
    writer.commit("one")
    place = tmp_path / PLACES[kind]
    external.export_dataset(writer, place, kind)
    images.update({number: picture(number, (30, 30)) for number in range(60)})
    writer.commit("sixty")
    writer.close()
    process = start_process(EXPORT, str(repo.path), str(place), kind)
    assert wait_for_line(process) == "some"
    process.kill()
    process.communicate()
    writer = repo.checkout(write=True)
    writer.columns.delete("images")
    assert external.import_dataset(writer, place).added == 1
    writer.reset_staging_area()
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"repository", place.name}
    assert all(path.name.endswith(".part") for path in tmp_path.iterdir() if path.name.startswith("."))


def test_half_a_character_is_text_that_parquet_cannot_hold(writer, tmp_path):
    writer.add_str_column("labels").update({"a": "cat", "b": "\ud800"})
    with pytest.raises(UnexportableError, match="column 'labels', some sample from 'a' to 'b': Parquet cannot hold it"):
        external.export_dataset(writer, tmp_path / "out.parquet", "parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]
    external.export_dataset(writer, tmp_path / "out.zarr", "zarr")
    writer["labels", "b"] = ""
    external.import_dataset(writer, tmp_path / "out.zarr", overwrite=True)
    assert writer["labels", "b"] == "\ud800"


def test_a_picture_that_is_exported_lossless_comes_back(writer, tmp_path):
    fill = {"a": picture(1, (6, 5, 1)), "b": picture(2, (6, 5, 1))}
    writer.add_ndarray_column("grey", shape=(6, 5, 1), dtype=np.uint8).update(fill)
    external.export_dataset(writer, tmp_path / "out.tar", "webdataset", extension="png")
    before = contents(writer)
    writer.columns.delete("grey")
    external.import_dataset(writer, tmp_path / "out.tar")
    assert contents(writer) == before


@pytest.mark.parametrize(
    ("arguments", "more", "error", "said"),
    [
        (["out", "hdf5"], {}, ValueError, "format 'hdf5' is not known; use one of parquet"),
        (["s3://b/out.parquet", "parquet"], {}, ValueError, "is a URL; export to this machine"),
        (["out.parquet", "parquet"], {"columns": ["no"]}, KeyError, "has no column 'no'; it has: labels"),
        (["out.parquet", "parquet"], {"columns": "labels"}, ValueError, "not one text"),
        (["out.tar", "webdataset"], {"extension": "exe"}, ValueError, "none of pictures"),
        (["out", "webdataset"], {"shard_bytes": 0}, ValueError, "at least 1"),
        (["out", "imagefolder"], {}, ValueError, "which column holds the images? none could"),
        (["out", "imagefolder"], {"image": "labels"}, ValueError, "cannot be the images"),
    ],
)
def test_what_is_asked_wrongly_writes_nothing(writer, tmp_path, monkeypatch, arguments, more, error, said):
    monkeypatch.chdir(tmp_path)
    writer.add_str_column("labels")[0] = "cat"
    with pytest.raises(error) as caught:
        external.export_dataset(writer, *arguments, **more)
    assert said in str(caught.value)
    assert [path.name for path in Path().iterdir()] == ["repository"]


def test_what_was_purged_is_left_out_with_a_warning(tmp_path):
    """One sample that is gone for good keeps nobody from exporting the others."""
    repo = make_repository(tmp_path / "source")
    with_parts = {"p": {0: "a", "0": "b"}, "q": {1: "c"}}
    co = repo.checkout(write=True)
    images = co.add_ndarray_column("images", shape=(6, 5, 3), dtype=np.uint8)
    images.update({i: picture(i) for i in range(4)})
    co.add_str_column("labels").update({i: f"label {i}" for i in range(4)})
    co.add_str_column("parts", contains_subsamples=True).update(with_parts)
    co.commit("base")
    co.close()
    for column, key in (("images", 1), ("labels", 2), ("parts", ("q", 1))):
        repo.purge(column=column, key=key, reason="asked for")
    co = repo.checkout()
    for format_name, place in PLACES.items():
        with pytest.warns(UserWarning, match="3 purged samples are left out"):
            external.export_dataset(co, tmp_path / place, format_name)
        other = make_repository(tmp_path / f"from-{format_name}").checkout(write=True)
        external.import_dataset(other, tmp_path / place)
        assert {key: same(value, picture(key)) for key, value in other["images"].items()} == {0: True, 2: True, 3: True}
        assert dict(other["labels"].items()) == {0: "label 0", 1: "label 1", 3: "label 3"}
        assert {key: dict(value) for key, value in other["parts"].items()} == {"p": with_parts["p"]}
        other.close()
    with pytest.warns(UserWarning, match="1 purged sample is left out"):
        assert external.export_files(co, "images", tmp_path / "files").samples == 3
    with pytest.raises(PurgedError):
        external.export_files(co, "images", tmp_path / "one", samples=[1])
    co.close()
