"""Zarr groups, WebDataset tars and folders of images that other tools made."""

from __future__ import annotations

import io
import json
import pickle
import resource
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from PIL import Image

from hangar_cloud import external
from hangar_cloud.errors import ExportExistsError, InvalidSchemaError, UnexportableError, UnreadableFileError
from hangar_cloud.external.zarr_store import make_array
from tests.external.conftest import picture
from tests.repository.making import same


def png(number: int, shape: tuple[int, ...] = (6, 5, 3)) -> bytes:
    into = io.BytesIO()
    Image.fromarray(picture(number, shape)).save(into, "PNG")
    return into.getvalue()


def make_tar(path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if str(path).endswith("gz") else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


# Python 3.10 has the library's version 2 only, which knows one format.
VERSIONS = [2] if zarr.__version__.startswith("2.") else [2, 3]


def make_group(path: Path, version: int = VERSIONS[-1]) -> Any:
    """A new group, in one of the two formats."""
    return zarr.open_group(str(path), mode="w", **({"zarr_format": version} if len(VERSIONS) > 1 else {}))


@pytest.mark.parametrize("version", VERSIONS)
def test_arrays_of_a_group_become_columns(writer, tmp_path, version):
    group = make_group(tmp_path / "g.zarr", version)
    images = make_array(group, "images", (7, 4, 3), "uint8", (2, 4, 3))
    images[:] = picture(1, (7, 4, 3))
    make_array(group, "labels", (7,), ">i4", (3,))[:] = np.arange(7)
    inner = group.create_group("inner")
    make_array(inner, "deep", (2, 2), "complex64", (1, 1))[:] = np.eye(2)
    make_array(inner, "none", (0, 2), "float32", (1, 2))
    group.attrs.update({"title": "seven", "scale": [1, 2.5]})
    report = external.import_dataset(writer, tmp_path / "g.zarr")
    assert report.refused == []
    assert sorted(writer.columns) == ["images", "inner.deep", "inner.none", "labels"]
    assert all(same(writer["images", row], picture(1, (7, 4, 3))[row]) for row in range(7))
    assert writer["labels", 6] == 6
    # Version 3 knows the order of bytes in its chunks only.
    assert writer["labels"].dtype.str == (">i4" if version == 2 else "<i4")
    assert len(writer["inner.none"]) == 0
    assert dict(writer.metadata.items()) == {"title": "seven", "scale": "[1, 2.5]"}


@pytest.mark.parametrize(
    "note",
    [
        {"dtype": "|O", "filters": [{"id": "pickle"}], "compressor": None},
        {"dtype": "<i8", "filters": [{"id": "pickle"}], "compressor": None},
        {"dtype": "<i8", "filters": [{"id": "shuffle", "elementsize": 8}, {"id": "pickle"}], "compressor": None},
        {"dtype": "<i8", "filters": None, "compressor": {"id": "pickle"}},
    ],
)
def test_an_array_of_objects_runs_nothing(writer, tmp_path, note):
    folder = tmp_path / "evil.zarr"
    (folder / "a").mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    common = {"zarr_format": 2, "shape": [1], "chunks": [1], "fill_value": 0, "order": "C"}
    (folder / "a" / ".zarray").write_text(json.dumps(common | note))

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder / "a" / "0").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UnreadableFileError, match="'a'.*Python objects|cannot read the notes"):
        external.import_dataset(writer, folder)
    assert not (tmp_path / "ran").exists()
    assert list(writer.columns) == []


@pytest.mark.parametrize(("shape", "chunks"), [((10, 2**40), (1, 2**40)), ((2**40, 2), (2**40, 2))])
def test_a_group_that_claims_much_takes_no_memory(writer, tmp_path, shape, chunks):
    group = make_group(tmp_path / "g.zarr")
    make_array(group, "big", shape, "float64", chunks)
    with pytest.raises(UnreadableFileError, match=r"'big': one of its chunks or rows would take .* rechunk"):
        external.import_dataset(writer, tmp_path / "g.zarr")
    assert list(writer.columns) == []


def test_what_no_column_holds_is_told(writer, tmp_path):
    group = make_group(tmp_path / "g.zarr")
    make_array(group, "one", (), "float64", ())
    with pytest.raises(InvalidSchemaError, match="'one': it has no axis that could be the samples"):
        external.import_dataset(writer, tmp_path / "g.zarr")
    (tmp_path / "empty.zarr").mkdir()
    for path in ("empty.zarr", "gone.zarr"):
        with pytest.raises((UnreadableFileError, FileNotFoundError)):
            external.import_dataset(writer, tmp_path / path, "zarr")


def test_a_damaged_chunk_is_told(writer, tmp_path):
    group = make_group(tmp_path / "g.zarr")
    make_array(group, "images", (4, 64), "uint8", (2, 64))[:] = picture(1, (4, 64))
    chunk = max(path for path in (tmp_path / "g.zarr" / "images").rglob("*0") if path.is_file())
    chunk.write_bytes(b"no chunk")
    with pytest.raises(UnreadableFileError, match="images', rows from 0: a chunk is damaged"):
        external.import_dataset(writer, tmp_path / "g.zarr")
    writer.columns.delete("images")
    names = writer.add_str_column("names")
    names.update({0: "a", 1: "b"})
    external.export_dataset(writer, tmp_path / "names.zarr", "zarr")
    next((tmp_path / "names.zarr" / "names" / "data").rglob("0")).write_bytes(b"no chunk")
    with pytest.raises(UnreadableFileError, match="a chunk is damaged"):
        external.import_dataset(writer, tmp_path / "names.zarr", overwrite=True)
    assert dict(names.items()) == {0: "a", 1: "b"}


@pytest.mark.parametrize("name", ["d.tar", "d.tar.gz"])
def test_fields_of_a_tar_become_columns(writer, tmp_path, name):
    members = {}
    for number in range(4):
        members[f"./train/{number:04d}.png"] = png(number, (6 - number, 5, 3))
        members[f"./train/{number:04d}.cls"] = str(number % 2).encode()
        members[f"./train/{number:04d}.seg.npy"] = _npy(np.full((2, 2), number))
        members[f"./train/{number:04d}.json"] = b'{"a": 1}'
        members[f"./train/{number:04d}.pyd"] = pickle.dumps([number])
    members["README"] = b"no field"
    make_tar(tmp_path / name, members)
    report = external.import_dataset(writer, tmp_path / name, "webdataset")
    assert report.refused == []
    assert sorted(writer.columns) == ["cls", "json", "png", "pyd", "seg.npy"]
    assert (writer["png"].schema_type, writer["png"].shape) == ("variable_shape", (6, 5, 3))
    assert same(writer["png", "train/0003"], picture(3, (3, 5, 3)))
    assert same(writer["cls", "train/0003"], np.array(1))
    assert same(writer["seg.npy", "train/0002"], np.full((2, 2), 2))
    assert writer["json", "train/0000"] == '{"a": 1}'
    assert writer["pyd", "train/0001"] == pickle.dumps([1])
    assert external.import_dataset(writer, tmp_path / name, "webdataset").skipped == 20


def test_a_folder_of_tars_and_one_at_a_url(writer, tmp_path):
    for number in range(2):
        make_tar(tmp_path / f"{number}.tar", {f"{number}.txt": f"text {number}".encode()})
    external.import_dataset(writer, tmp_path)
    assert dict(writer["txt"].items()) == {"0": "text 0", "1": "text 1"}
    with fsspec.open("memory://tars/2.tar", "wb") as file:
        make_tar(tmp_path / "2.tar", {"2.txt": b"text 2"})
        file.write((tmp_path / "2.tar").read_bytes())
    assert external.import_dataset(writer, "memory://tars/2.tar").added == 1


def test_what_is_wrong_in_a_tar_is_told_member_by_member(writer, tmp_path):
    make_tar(
        tmp_path / "a.tar",
        {
            "good.png": png(1),
            "good.cls": b"7",
            "bad.png": b"\x89PNG\r\n\x1a\nno",
            "bad.cls": b"seven",
            "../../etc/x.cls": b"1",
            "/etc/y.cls": b"2",
            "no good.cls": b"3",
            "text.txt": b"\xff",
            "good2.txt": b"ok",
        },
    )
    make_tar(tmp_path / "b.tar", {"good.cls": b"8"})
    report = external.import_dataset(writer, tmp_path)
    assert list(writer["png"]) == ["good"]
    assert {key: value.item() for key, value in writer["cls"].items()} == {"good": 7}
    assert external.import_dataset(writer, tmp_path / "a.tar", columns=["cls"], clean_names=True).added == 1
    assert writer["cls", "no_good"] == 3
    assert {one.source.partition(", ")[2] for one in report.refused} == {
        *("bad.png", "bad.cls", "../../etc/x.cls", "/etc/y.cls", "no good.cls", "text.txt", "good.cls"),
    }


def test_damaged_tars_are_told(writer, tmp_path):
    make_tar(tmp_path / "cut.tar", {"a.bin": bytes(5000)})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:2000])
    with pytest.raises(UnreadableFileError, match=r"cut\.tar"):
        external.import_dataset(writer, tmp_path / "cut.tar")
    make_tar(tmp_path / "cut.tar", {f"{n}.txt": bytes(100) for n in range(3)})
    whole = (tmp_path / "cut.tar").read_bytes()
    # In the head of a member, right before one, and a damaged head: to tarfile, each is the end of the tar.
    for damaged in (whole[:1200], whole[:1024], whole[:1100] + b"\xff" * 50 + whole[1150:]):
        (tmp_path / "cut.tar").write_bytes(damaged)
        with pytest.raises(UnreadableFileError, match=r"cut\.tar: .*damaged or cut off at byte 1,024"):
            external.import_dataset(writer, tmp_path / "cut.tar")
    (tmp_path / "no.tar").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(
        UnreadableFileError, match=r"no\.tar: this is no whole tar: file could not be opened successfully$"
    ):
        external.import_dataset(writer, tmp_path / "no.tar")
    make_tar(tmp_path / "note.tar", {"__hangar__": b'{"version": 9}'})
    with pytest.raises(UnreadableFileError, match="exported by a later version"):
        external.import_dataset(writer, tmp_path / "note.tar")
    make_tar(tmp_path / "note.tar", {"__hangar__": b'{"version": 1, "columns": 3}'})
    with pytest.raises(UnreadableFileError, match="says of itself is damaged"):
        external.import_dataset(writer, tmp_path / "note.tar")


def test_an_image_folder_and_back(writer, photos, tmp_path):
    report = external.import_dataset(writer, photos)
    assert sorted(writer.columns) == ["image", "label"]
    assert report.added == 24
    assert writer["label", "dog/001"] == "dog"
    external.export_dataset(writer, tmp_path / "out", "imagefolder")
    written = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*.png")}
    assert sorted(written) == sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    assert same(external.load(tmp_path / "out" / "owl" / "002.png")[0], picture(2))
    with pytest.raises(ExportExistsError, match="already; give overwrite=True"):
        external.export_dataset(writer, tmp_path / "out", "imagefolder")
    external.export_dataset(writer, tmp_path / "out", "imagefolder", overwrite=True, extension="jpg")
    assert len(list((tmp_path / "out").rglob("*.*"))) == 24


def test_an_image_folder_of_splits(writer, photos, tmp_path):
    (tmp_path / "whole").mkdir()
    photos.rename(tmp_path / "whole" / "train")
    external.import_dataset(writer, tmp_path / "whole")
    assert sorted(writer.columns) == ["image", "label", "split"]
    assert writer["split", "train/dog/001"] == "train"
    assert writer["label", "train/dog/001"] == "dog"
    assert external.import_dataset(writer, tmp_path / "whole", "imagefolder", columns=["image"]).skipped == 12


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({0: "cat"}, "sample '0' of column 'images' has no label"),
        ({0: "..", "0": "a"}, "cannot be a folder's name"),
        ({0: "a/b", "0": "a"}, "cannot be a folder's name"),
        ({0: "", "0": "a"}, "would lead elsewhere"),
        ({0: "cat", "0": "cat"}, "samples 0 and '0' would both be the file"),
    ],
)
def test_what_no_folder_holds_is_told_before_anything_is_written(writer, tmp_path, labels, said):
    writer.add_ndarray_column("images", shape=(2, 2), dtype=np.uint8).update(
        dict.fromkeys([0, "0"], picture(1, (2, 2)))
    )
    writer.add_str_column("labels").update(labels)
    with pytest.raises(UnexportableError) as caught:
        external.export_dataset(writer, tmp_path / "out", "imagefolder")
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def _npy(arr: np.ndarray) -> bytes:
    into = io.BytesIO()
    np.save(into, arr)
    return into.getvalue()


def test_a_zarr_export_without_room_says_so(writer, tmp_path):
    writer.add_str_column("words")[0] = "word"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(OSError, match="cannot export to .*File too large"):
            external.export_dataset(writer, tmp_path / "out.zarr", "zarr")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.glob("*out.zarr*")) == []
