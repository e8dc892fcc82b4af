"""Plugins: the built-in ones keep what they can, and installed ones are found."""

from __future__ import annotations

import io
import struct
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from hangar_cloud import external
from hangar_cloud.errors import (
    ExportExistsError,
    InvalidArgumentError,
    MissingFolderError,
    MissingPackageError,
    ObjectNotFoundError,
    PluginError,
    UnexportableError,
    UnreadableFileError,
)
from hangar_cloud.external import plugin_registry
from tests.external.conftest import picture
from tests.repository.making import same

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("arr", "extension", "more"),
    [
        (picture(1), "png", {}),
        (picture(2, (3, 4)), "png", {}),
        (picture(3, (3, 4, 4)), "png", {}),
        (picture(4, (3, 4, 2)), "png", {}),
        (picture(5) > 90, "npy", {}),
        (picture(6, (3, 4)) > 90, "png", {}),
        (RANDOM.integers(0, 2**16, (5, 3), np.uint16), "png", {}),
        (RANDOM.integers(-(2**31), 2**31, (5, 3), np.int32), "tiff", {}),
        (RANDOM.random((5, 3), np.float32), "tiff", {}),
        (picture(7), "bmp", {}),
        (np.array([[np.nan, -0.0], [1e300, np.inf]]), "npy", {}),
        (np.array(7, ">i2"), "npy", {}),
        (np.array([1 + 2j], np.complex64), "npy", {}),
        (np.asfortranarray(RANDOM.random((3, 4))), "npy", {}),
        ("two\r\nlines \u00fc\x00\u2028", "txt", {}),
        (RANDOM.integers(-(2**15), 2**15, 50, np.int16), "wav", {"samplerate": 8000}),
        (RANDOM.integers(-(2**31), 2**31, (50, 2), np.int32), "wav", {"samplerate": 8000}),
        (RANDOM.random(50, np.float32), "wav", {"samplerate": 44100}),
        (RANDOM.random((50, 3)), "wav", {"samplerate": 44100}),
        (RANDOM.integers(-(2**15), 2**15, 50, np.int16), "flac", {"samplerate": 8000}),
    ],
    ids=lambda one: f"{one.dtype}-{one.shape}" if isinstance(one, np.ndarray) else None,
)
def test_what_is_saved_is_loaded_bit_by_bit(tmp_path, arr, extension, more):
    path = external.save(arr, tmp_path, "str:cat/001", extension, **more)
    assert path == str(tmp_path / "cat" / f"001.{extension}")
    loaded, name = external.load(path)
    assert name == "001"
    assert same(np.ascontiguousarray(arr) if isinstance(arr, np.ndarray) and arr.ndim else arr, loaded)


@pytest.mark.parametrize("extension", ["csv", "tsv", "parquet"])
def test_a_table_is_samples_by_row_or_one_as_a_whole(tmp_path, extension):
    table = np.array([[1.5, -2], [1e-300, 3], [0.1, 1 / 3]])
    path = external.save(table, tmp_path, "int:7", extension)
    whole, name = external.load(path, whole=True)
    assert same(whole, table)
    assert name == "7"
    rows = list(external.load(path))
    assert [key for _, key in rows] == ["7/0", "7/1", "7/2"]
    assert all(same(row, line) for (row, _), line in zip(rows, table, strict=True))


def test_a_header_is_found_and_a_column_of_text_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("height,width\n1,2\n3,4\n")
    assert external.load(tmp_path / "a.csv", whole=True)[0].tolist() == [[1, 2], [3, 4]]
    (tmp_path / "b.csv").write_text("name,width\ncat,2\n")
    with pytest.raises(UnreadableFileError, match=r"b\.csv: column 'name' is string, no numbers.*dataset"):
        external.load(tmp_path / "b.csv")


def test_whole_numbers_that_no_float_is_are_not_made_one(tmp_path):
    (tmp_path / "a.csv").write_text(f"{2**53 + 1},0.5\n")
    with pytest.raises(UnreadableFileError, match=r"a\.csv: column 'f0' has whole numbers that are too large"):
        list(external.load(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text(f"{-(2**60)},0.5\n3,nan\n")
    assert [rows.tolist()[0] for rows, _ in external.load(tmp_path / "b.csv")] == [-(2**60), 3]


def test_a_table_as_text_keeps_what_is_no_number_of_reals(tmp_path):
    rows = np.array([[1.5, np.nan], [np.inf, -0.0]])
    external.save(rows, tmp_path, "str:a", "csv")
    assert same(external.load(tmp_path / "a.csv", whole=True)[0], rows)


def test_an_archive_of_arrays_gives_each_of_them(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.arange(3), b=np.eye(2))
    assert [(name, arr.shape) for arr, name in external.load(tmp_path / "two.npz")] == [
        ("two/a", (3,)),
        ("two/b", (2, 2)),
    ]


def test_a_palette_becomes_colours_and_a_mode_can_be_asked_for(tmp_path):
    colours = Image.fromarray(picture(1)).quantize(4)
    colours.save(tmp_path / "p.png")
    loaded, _ = external.load(tmp_path / "p.png")
    assert same(loaded, np.asarray(colours.convert("RGB")))
    assert external.load(tmp_path / "p.png", mode="L")[0].shape == (6, 5)
    with pytest.raises(InvalidArgumentError, match="Pillow has no mode 'PINK'"):
        external.load(tmp_path / "p.png", mode="PINK")


def test_a_file_of_several_frames_wants_one_named(tmp_path):
    frames = [Image.fromarray(picture(number, (4, 4))) for number in range(3)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableFileError, match=r"a\.tiff: the file has 3 frames; say which one"):
        external.load(tmp_path / "a.tiff")
    assert same(external.load(tmp_path / "a.tiff", frame=2)[0], picture(2, (4, 4)))


@pytest.mark.parametrize(
    ("arr", "extension", "said"),
    [
        (np.zeros((4, 4), np.float64), "png", "is no picture"),
        (np.zeros((4, 4, 5), np.uint8), "png", "is no picture"),
        (np.zeros((4, 4), np.int32), "png", "int32 pixels do not fit into a PNG file; use TIFF, or npy"),
        (np.zeros((4, 4), np.uint16), "jpg", "do not fit"),
        (np.zeros((4, 4, 4), np.uint8), "jpg", "cannot hold an array"),
        ("text", "npy", "is str, no array"),
        (np.array([{"a": 1}], dtype=object), "npz", "Python objects, which are not written"),
        (np.zeros(3), "txt", "not text"),
        ("half \ud800", "txt", "cannot be a text file"),
        (np.zeros((2, 2, 2)), "csv", "no table of numbers"),
        (np.zeros(3, np.complex64), "parquet", "no table of numbers"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path, arr, extension, said):
    with pytest.raises(UnexportableError, match=said):
        external.save(arr, tmp_path, "str:a", extension)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sample", ["str:../a", "str:a/../../b", "str:/etc/a", "str:a\\b", "str:a/./b", "str:"])
@pytest.mark.parametrize("extension", ["png", "npy", "txt", "csv"])
def test_no_key_leads_out_of_the_folder(tmp_path, sample, extension):
    inner = tmp_path / "inner"
    inner.mkdir()
    value = "x" if extension == "txt" else np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="sample"):
        external.save(value, inner, sample, extension)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_is_not_written_over_unless_asked(tmp_path):
    external.save(np.zeros(3), tmp_path, "int:1", "npy")
    with pytest.raises(ExportExistsError, match=r"1\.npy already; give overwrite=True"):
        external.save(np.ones(3), tmp_path, "int:1", "npy")
    external.save(np.ones(3), tmp_path, "int:1", "npy", overwrite=True)
    assert external.load(tmp_path / "1.npy")[0].tolist() == [1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["1.npy"]


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(MissingFolderError, match="make it first"):
        external.save(np.zeros(3), tmp_path / "no", "int:1", "npy")


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UnreadableFileError, match=r"a\.npy: the file holds Python objects, which are not read"):
        external.load(tmp_path / "a.npy")
    with pytest.raises(UnreadableFileError, match=r"b\.npz"):
        list(external.load(tmp_path / "b.npz"))


def test_a_head_that_claims_much_takes_no_memory(tmp_path):
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head)
    with pytest.raises(UnreadableFileError, match=r"a\.npy: the file is cut off: 0 bytes of numbers"):
        external.load(tmp_path / "a.npy")


def test_a_decompression_bomb_is_refused_by_name(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(UnreadableFileError, match=r"bomb\.png: the picture is too large"):
        external.load(tmp_path / "bomb.png")


@pytest.mark.parametrize("extension", ["png", "jpg", "npy", "npz", "wav", "parquet", "tiff"])
def test_damaged_files_are_told_by_name(tmp_path, extension):
    path = tmp_path / f"damaged.{extension}"
    path.write_bytes(b"this is nothing of the kind, and long enough to be looked into" * 20)
    with pytest.raises(UnreadableFileError, match=f"damaged.{extension}"):
        list(external.load(path))
    picture_file = io.BytesIO()
    Image.fromarray(picture(1, (60, 60, 3))).save(picture_file, "PNG")
    (tmp_path / "cut.png").write_bytes(picture_file.getvalue()[:200])
    with pytest.raises(UnreadableFileError, match="cut"):
        external.load(tmp_path / "cut.png")


@pytest.mark.parametrize("extension", ["png", "npy", "wav", "parquet", "csv", "txt"])
def test_a_missing_file_is_one(tmp_path, extension):
    with pytest.raises(ObjectNotFoundError, match=f"no.{extension}: No such file"):
        list(external.load(tmp_path / f"no.{extension}"))


def test_what_is_asked_wrongly_is_told():
    with pytest.raises(PluginError, match=r"no plugin that can load \.xyz files; there is: .*image \(jpg"):
        external.load("a.xyz")
    with pytest.raises(PluginError, match="there is no plugin 'xyz'; there is: .*image, numpy"):
        external.load("a.png", plugin="xyz")
    with pytest.raises(PluginError, match="both are missing"):
        external.show(np.zeros(3))
    with pytest.raises(
        InvalidArgumentError, match=r"cannot load a\.png: the plugin has no option modus; it takes.*mode"
    ):
        external.load("a.png", modus="RGB")


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(5), 8000)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingPackageError, match=r"a\.wav needs .*pip install 'hangar-cloud\[audio\]'") as caught:
        external.load(tmp_path / "a.wav")
    assert isinstance(caught.value, ImportError)


def test_a_board_shows_html():
    assert external.board_show(picture(1), extension="png").startswith('<img src="data:image/png;base64,')
    assert external.board_show(np.zeros(8, np.int16), "audio").startswith("<audio")
    assert external.board_show("<b>", extension="txt") == "<pre>&lt;b&gt;</pre>"
    assert "float64 array of shape (2,)" in external.board_show(np.array([1.0, np.nan]), extension="npy")


def test_a_window_is_drawn_by_matplotlib(monkeypatch):
    drawn = []
    pyplot = types.SimpleNamespace(imshow=lambda *_, **__: drawn.append("image"), plot=lambda *_: drawn.append("line"))
    pyplot.show = lambda: drawn.append("shown")
    monkeypatch.setitem(sys.modules, "matplotlib", types.SimpleNamespace(pyplot=pyplot))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    external.show(picture(1), extension="png")
    external.show(np.zeros(9), extension="npy")
    assert drawn == ["image", "shown", "line", "shown"]


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hangar-cloud\[view\]'"):
        external.show(np.zeros(9), extension="npy")


PLUGIN = """
from pathlib import Path

import numpy as np
from hangar_cloud.external import BasePlugin

class Counting(BasePlugin):
    def __init__(self):
        super().__init__(["load", "save"], ["count", "png"])

    def load(self, fpath, start=0):
        for i, line in enumerate(Path(fpath).read_text().split()):
            yield np.array([int(line) + start]), f"{self.sample_name(fpath)}-{i}"

    def save(self, arr, outdir, sample_detail, extension):
        raise ZeroDivisionError("no such thing")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package with plugins, as pip would: files, and what they offer."""

    def put(group: str, **plugins: str) -> None:
        site = tmp_path / f"site-{group}-{'-'.join(plugins)}"
        notes = site / f"{'_'.join(plugins)}-1.0.dist-info"
        notes.mkdir(parents=True)
        (site / "counting_plugin.py").write_text(PLUGIN)
        (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {'-'.join(plugins)}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in plugins.items()]
        (notes / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(site))
        for known in (plugin_registry._installed, plugin_registry._made):
            known.cache_clear()

    yield put
    monkeypatch.undo()
    plugin_registry._installed.cache_clear()
    plugin_registry._made.cache_clear()
    sys.modules.pop("counting_plugin", None)


@pytest.mark.parametrize("group", ["hangar_cloud.external.plugins", "hangar.external.plugins"])
def test_an_installed_plugin_is_found(tmp_path, install, group):
    install(group, counting="counting_plugin:Counting")
    (tmp_path / "a.count").write_text("5\n6\n")
    assert [(arr.tolist(), name) for arr, name in external.load(tmp_path / "a.count", start=10)] == [
        ([15], "a-0"),
        ([16], "a-1"),
    ]
    assert next(iter(external.list_plugins())) == "counting"
    with pytest.raises(PluginError, match=r"'counting' cannot show; it has load, save"):
        external.show(np.zeros(1), plugin="counting")
    with pytest.raises(UnreadableFileError, match=r"'int:1': ZeroDivisionError: no such thing"):
        external.save(np.zeros(1), tmp_path, "int:1", "count")


def test_where_several_fit_it_is_said_which_one_is_used(tmp_path, install):
    install("hangar_cloud.external.plugins", counting="counting_plugin:Counting")
    (tmp_path / "a.png").write_text("5\n")
    with pytest.warns(UserWarning, match=r"several plugins load \.png files: counting, image; 'counting' is used"):
        assert next(external.load(tmp_path / "a.png"))[0].tolist() == [5]
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    assert same(external.load(tmp_path / "a.png", plugin="image")[0], picture(1))


def test_a_broken_plugin_hinders_no_other(tmp_path, install):
    install("hangar_cloud.external.plugins", broken="counting_plugin:Gone")
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.warns(UserWarning, match=r"the plugin 'broken' \(counting_plugin:Gone\) cannot be loaded"):
        assert external.load(tmp_path / "a.npy")[0].tolist() == [0, 1, 2]
    with pytest.raises(PluginError, match="'broken'"):
        external.load(tmp_path / "a.npy", plugin="broken")


@pytest.mark.parametrize(("provides", "accepts"), [([], ["a"]), (["load"], []), (["fly"], ["a"]), ("load", ["a"])])
def test_a_plugin_says_what_it_is_for(provides, accepts):
    with pytest.raises(InvalidArgumentError, match="`provides`|`accepts`"):
        external.BasePlugin(provides, accepts)


def test_the_name_of_a_sample_is_that_of_the_file():
    assert external.BasePlugin.sample_name("/path/to/myfile.ext") == "myfile"
    assert external.BasePlugin.sample_name(Path("a.tar.gz")) == "a.tar"
    with pytest.raises(PluginError, match="does not have 'load'"):
        external.BasePlugin(["load"], ["x"]).load("a.x")
