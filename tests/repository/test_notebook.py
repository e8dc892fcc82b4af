"""What notebooks show of repositories, checkouts, columns and samples."""

from __future__ import annotations

import base64
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog.schema import array_schema
from hangar_cloud.errors import ClosedError, CorruptDataError, NotInitializedError
from hangar_cloud.notebook import facts_table
from hangar_cloud.thumbnails import encode_png, looks_like_images, thumbnail
from tests.repository.making import counted, make_repository

COLOURS = {0: 1, 2: 3, 6: 4}


def decoded(png: bytes) -> np.ndarray:
    """The pixels of a PNG file whose lines have no filter, of shape (height, width, channels)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", png, place + 8 + length)[0] == zlib.crc32(kind + data)
        chunks.append((kind, data))
        place += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, rest) == (8, [0, 0, 0])
    lines = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, COLOURS[colour])


class Page(HTMLParser):
    """The texts, cells and pictures of some HTML; refuses tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.pictures: list[tuple[str, np.ndarray]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            given = dict(attrs)
            head, _, data = given["src"].partition(",")
            assert head == "data:image/png;base64"
            assert given["alt"] == given["title"]
            self.pictures.append((given["alt"], decoded(base64.b64decode(data, validate=True))))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def fact(self, name: str) -> str:
        """The text after a name."""
        return self.texts[self.texts.index(name) + 1]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_holds_the_pixels(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    assert np.array_equal(decoded(encode_png(pixels)), pixels)


def test_thumbnails_of_images():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(decoded(thumbnail(grey))[:, :, 0], grey)
    assert np.array_equal(decoded(thumbnail(grey[:, :, np.newaxis]))[:, :, 0], grey)
    colour = np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8)
    small = decoded(thumbnail(colour))
    assert small.shape == (50, 25, 3)
    assert np.array_equal(small, colour[::4, ::4])
    assert decoded(thumbnail(np.zeros((65, 1, 4), np.uint8))).shape == (33, 1, 4)
    assert decoded(thumbnail(np.zeros((1, 100_000), np.uint8))).shape[:2] == (1, 64)
    black_and_white = decoded(thumbnail(np.array([[True, False]])))
    assert black_and_white.ravel().tolist() == [255, 0]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8"])
@pytest.mark.parametrize(
    ("values", "shades"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 51, 255], [0, 51, 255]),
        ([-2, 0, 2], [0, 128, 255]),
        ([0, 500, 1000], [0, 128, 255]),
        ([-7, -7, -7], [0, 0, 0]),
        ([np.nan, 1, -np.inf], [0, 255, 0]),
        ([np.nan, np.inf, -np.inf], [0, 0, 0]),
    ],
    ids=repr,
)
def test_floats_become_shades_of_grey(dtype, values, shades):
    assert decoded(thumbnail(np.array([values], dtype))).ravel().tolist() == shades


def test_the_greatest_floats_become_shades_too():
    most = np.finfo(np.float64).max
    assert decoded(thumbnail(np.array([[-most, 0, most]]))).ravel().tolist() == [0, 128, 255]


def test_what_does_not_look_like_an_image():
    for array in (
        np.zeros(4, np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((2, 2, 3, 1), np.uint8),
        np.zeros((2, 2), np.int16),
        np.zeros((2, 2), np.complex64),
        np.zeros((0, 2), np.uint8),
    ):
        assert thumbnail(array) is None
    shapes = [((4,), "u1"), ((2, 2, 2), "u1"), ((2, 2), "i2"), ((2, 2), "c8"), ((1, 2, 2, 3), "u1"), ((), "f4")]
    shapes += [((4, 4), "u1"), ((4, 4, 3), "?"), ((4, 4, 4), ">f8"), ((4, 4, 1), "f2")]
    said = [looks_like_images(array_schema(shape, np.dtype(dtype), None, False, False, "x")) for shape, dtype in shapes]
    assert said == [False] * 6 + [True] * 4


def image(number: int, side: int = 40) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


@pytest.fixture
def gallery(empty):
    """A writer with 20 committed images flat, 2 times 10 nested, other columns, and one staged image each."""
    co = empty.checkout(write=True)
    co.add_ndarray_column("flat", prototype=image(0)).update({i: image(i) for i in range(20)})
    nested = co.add_ndarray_column("nested", prototype=image(0), contains_subsamples=True)
    nested.update({name: {i: image(i) for i in range(10)} for name in ("a", "b")})
    co.add_ndarray_column("vector", shape=3, dtype=np.uint8)[0] = np.zeros(3, np.uint8)
    co.add_ndarray_column("grows", shape=(9, 9, 4), dtype=np.uint8, variable_shape=True)
    co["grows"].update({0: np.ones((2, 3, 3), np.uint8), 1: np.ones((2, 3, 2), np.uint8)})
    co.add_str_column("text")["k"] = "<b>bold</b>"
    co.commit("images")
    yield co
    if co._alive.open:
        co.close()


def test_a_column_shows_its_facts_and_first_images(gallery, empty):
    for column, name in ((empty.checkout()["flat"], "FlatSampleReader"), (gallery["flat"], "FlatSampleWriter")):
        page = Page(column._repr_html_())
        assert page.texts[0] == f"Hangar {name}"
        said = [page.fact(fact) for fact in ("Column Name", "DType", "Shape", "Number of Samples")]
        assert said == ["flat", "uint8", "(40, 40, 3)", "20"]
        assert [label for label, _ in page.pictures] == [str(i) for i in range(8)]
        assert all(np.array_equal(picture, image(i)) for i, (_, picture) in enumerate(page.pictures))


def test_a_writer_shows_what_is_staged(gallery):
    flat = gallery["flat"]
    flat[0] = image(100)
    del flat[1]
    flat["15"] = image(101)
    with flat:
        flat[3] = image(102)
        shown = Page(flat._repr_html_()).pictures
    assert [label for label, _ in shown] == ["0", "2", "3", "4", "5", "6", "7", "8"]
    assert np.array_equal(shown[0][1], image(100))
    assert np.array_equal(shown[2][1], image(102))
    for key in list(flat)[:-2]:
        del flat[key]
    assert [label for label, _ in Page(flat._repr_html_()).pictures] == ["19", "'15'"]


def test_nested_columns_and_samples_show_their_own_images(gallery, empty):
    gallery["nested"]["b"]["new"] = image(50)
    for co in (gallery, empty.checkout()):
        page = Page(co["nested"]._repr_html_())
        assert (page.fact("Number of Samples"), len(page.pictures)) == ("2", 8)
        assert page.pictures[7][0] == "'a' / 7"
        page = Page(co["nested"]["b"]._repr_html_())
        assert page.fact("Sample Name") == "b"
        assert [label for label, _ in page.pictures] == [f"'b' / {i}" for i in range(8)]
        assert page.fact("Number of Subsamples") == str(len(co["nested"]["b"]))
    sample = gallery["nested"]["b"]
    for i in range(10):
        del sample[i]
    assert [label for label, _ in Page(sample._repr_html_()).pictures] == ["'b' / 'new'"]


def test_samples_that_are_no_images_are_left_out(gallery):
    assert [label for label, _ in Page(gallery["grows"]._repr_html_()).pictures] == ["0"]
    for name in ("vector", "text"):
        page = Page(gallery[name]._repr_html_())
        assert (page.pictures, page.tags) == ([], {"div", "strong", "table", "tr", "th", "td"})


def test_checkouts_and_columns_show_a_row_for_each_column(gallery, empty):
    for co, kind in ((gallery, "WriterCheckout"), (empty.checkout(), "ReaderCheckout")):
        page = Page(co._repr_html_())
        assert page.texts[0] == f"Hangar {kind}"
        assert page.fact("Num Columns") == "5"
        assert len(page.pictures) == 4 + 4 + 1
        assert page.texts[page.texts.index("nested") :][:7] == [
            *("nested", "ndarray", "nested", "fixed_shape", "uint8", "(40, 40, 3)", "20")
        ]
    page = Page(gallery.columns._repr_html_())
    assert page.texts[:5] == ["Hangar Columns", "Writeable", "True", "Number of Columns", "5"]
    assert len(page.pictures) == 9


def test_many_columns_are_not_all_listed(empty):
    co = empty.checkout(write=True)
    for i in range(102):
        co.add_str_column(f"c{i:03}")
    page = Page(co._repr_html_())
    assert page.texts[-1] == "and more columns"
    assert ("c099" in page.texts, "c100" in page.texts) == (True, False)
    co.close()


def test_the_repository(tmp_path):
    hostile = tmp_path / '<script>alert("1")</script>&amp;'
    repository = make_repository(hostile)
    page = Page(repository._repr_html_())
    assert page.texts[0] == "Hangar Repository"
    assert page.fact("Repository Path") == str(hostile)
    assert "script" not in page.tags
    with pytest.raises(NotInitializedError):
        Repository(tmp_path / "none", exists=False)._repr_html_()


def test_every_text_is_escaped():
    html = facts_table("<i>", [("<script>", '"><img src=x onerror=alert(1)>'), ("a&b", "</table>'")])
    page = Page(html)
    assert page.texts == ["<i>", "<script>", '"><img src=x onerror=alert(1)>', "a&b", "</table>'"]
    assert page.tags == {"div", "strong", "table", "tr", "th", "td"}
    assert page.pictures == []


def test_a_hostile_column_name_is_escaped(gallery, empty):
    co = empty.checkout()
    co["flat"]._name = "<script>"
    for one in (co, co.columns, co["flat"]):
        page = Page(one._repr_html_())
        assert "<script>" in page.texts
        assert "script" not in page.tags


def test_nothing_is_shown_after_close(gallery, empty):
    for co in (empty.checkout(), gallery):
        shown = [co, co.columns, co["flat"], co["nested"], co["nested"]["a"]]
        co.close()
        for one in shown:
            for show in (one._repr_html_, one.__repr__, one.__str__):
                with pytest.raises(PermissionError) as caught:
                    show()
                assert type(caught.value) is ClosedError


def test_a_clone_without_data_is_shown_without_a_read(gallery, empty, s3_url, s3_options, tmp_path):
    gallery.close()
    empty.remote.add("origin", s3_url, storage_options=s3_options)
    empty.remote.push("origin", "master")
    clone = Repository(tmp_path / "clone", exists=False)
    clone.clone("Clone User", "clone@example.org", s3_url, storage_options=s3_options)
    co = clone.checkout()
    before = sorted(path for path in (tmp_path / "clone").rglob("*") if path.is_file())
    store = counted(clone)
    for one in (clone, co, co.columns, co["flat"], co["nested"], co["text"], co["grows"]):
        for html in (one._repr_html_(), repr(one), str(one)):
            assert "<img" not in html
    assert "not counted" in Page(co["nested"]._repr_html_()).fact("Number of Samples")
    assert Page(co["flat"]._repr_html_()).fact("Partial Remote Data Refs") == "True"
    assert not store.requests
    assert sorted(path for path in (tmp_path / "clone").rglob("*") if path.is_file()) == before
    sample = co["nested"]["b"]
    assert np.array_equal(co["flat", 17], image(17))
    assert np.array_equal(sample[3], image(3))
    asked = dict(store.requests)
    assert asked
    shown = {label for label, _ in Page(co["flat"]._repr_html_()).pictures}
    assert shown <= {repr(key) for key in co["flat"].keys(local=True)}
    assert "'b' / 3" in {label for label, _ in Page(sample._repr_html_()).pictures}
    assert Page(co["nested"]._repr_html_()).fact("Number of Samples") == "2"
    assert dict(store.requests) == asked


def test_a_sample_among_many_leaves_shows_its_own(empty):
    co = empty.checkout(write=True)
    column = co.add_ndarray_column("many", shape=(2, 2), dtype=np.uint8, contains_subsamples=True)
    pixel = np.zeros((2, 2), np.uint8)
    column.update({name: dict.fromkeys(range(6000), pixel) for name in ("a", "b", "c")})
    co.commit("many")
    reader = empty.checkout()["many"]
    assert len(list(reader._nodes.leaves(reader._entry.root))) > 3
    del column["b"][0]
    reader._nodes.forget()
    for one, first in ((column, 1), (reader, 0)):
        for name, start in (("a", 0), ("b", first), ("c", 0)):
            page = Page(one[name]._repr_html_())
            assert [label for label, _ in page.pictures] == [f"'{name}' / {i}" for i in range(start, start + 8)]
            assert page.fact("Number of Subsamples") == str(6000 - start)
    co.close()


def test_what_is_damaged_or_huge_is_left_out(tmp_path):
    repository = make_repository(tmp_path / "r")
    co = repository.checkout(write=True)
    column = co.add_ndarray_column("images", shape=(4100, 4100), dtype=np.uint8, variable_shape=True)
    column[0] = np.zeros((4100, 4100), np.uint8)
    column[1] = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    co.commit("images")
    assert [label for label, _ in Page(column._repr_html_()).pictures] == ["1"]
    co.close()
    for pack in (tmp_path / "r").rglob("*.pack"):
        data = bytearray(pack.read_bytes())
        data[: len(data) // 2] = bytes(len(data) // 2)
        pack.chmod(0o600)
        pack.write_bytes(data)
    column = Repository(tmp_path / "r").checkout()["images"]
    assert Page(column._repr_html_()).pictures == []
    with pytest.raises(CorruptDataError):
        column[1]
