"""Which parts of a sparse file are told to be there, and how what follows each other is kept."""

import os

import pytest

from hangar_cloud.backends import kept_objects, sparse_file
from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.backends.extents import Extent
from hangar_cloud.backends.kept_objects import KeptObjects
from hangar_cloud.backends.local_files import LocalFiles
from hangar_cloud.backends.object_source import ObjectSource

PAGE = 64 * 1024
MANY = 2 * kept_objects._MOST_BLOBS + 3


@pytest.fixture(params=["holes are known", "holes are not known"])
def system(request, monkeypatch):
    """File systems that know of holes, and ones that do not."""
    if request.param == "holes are not known":
        monkeypatch.setattr(sparse_file, "_SEEK_DATA", None)


@pytest.fixture
def source(tmp_path):
    return ObjectSource(tmp_path / "store", tmp_path / "partial")


def keep(tmp_path, parts):
    """Keep bytes of an object as if they were fetched."""
    kept = KeptObjects(tmp_path / "store", tmp_path / "partial", None, LocalFiles())
    why = DataNotLocalError("it was not here")
    kept.keep_parts([(Extent("packs/x.pack", offset, len(data), exactly(data)), data, why) for offset, data in parts])


def exactly(wanted):
    def verify(data, fetched):
        if bytes(data) != bytes(wanted):
            raise CorruptDataError("these are other bytes")
        return bytes(data)

    return verify


def seem(source, *spans):
    return source.seem_local("packs/x.pack", spans)


@pytest.mark.usefixtures("system")
def test_what_was_written_is_told_from_what_was_not(tmp_path, source):
    assert seem(source, (0, 10)) == [False], "there is no file"
    keep(tmp_path, [(4 * PAGE, b"a" * PAGE), (5 * PAGE, b"b" * 10), (9 * PAGE, b"c" * 100)])
    there = (4 * PAGE, PAGE), (5 * PAGE, 10), (9 * PAGE, 100), (4 * PAGE + 7, 10)
    absent = (0, 10), (3 * PAGE, PAGE), (5 * PAGE + 10, 100), (7 * PAGE, PAGE), (9 * PAGE, 101), (99 * PAGE, 1)
    assert seem(source, *there) == [True] * 4
    assert seem(source, *absent) == [False] * 6
    mixed = [span for pair in zip(there, absent, strict=False) for span in pair]
    assert seem(source, *mixed) == [True, False] * 4
    assert seem(source, *reversed(mixed)) == [False, True] * 4


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="this system does not know of holes")
def test_neighbours_that_were_not_written_are_told_by_one_look(tmp_path, source, monkeypatch):
    keep(tmp_path, [(0, b"a" * PAGE), (99 * PAGE, b"b" * PAGE)])
    looks = []

    def look(*told, real=os.lseek):
        looks.append(told)
        return real(*told)

    monkeypatch.setattr(os, "lseek", look)
    assert seem(source, *((at * PAGE, PAGE) for at in range(1, 99))) == [False] * 98
    assert len(looks) == 1
    assert seem(source, *((at * PAGE, PAGE) for at in range(200, 300))) == [False] * 100
    assert len(looks) == 1, "behind the end of the file"
    assert seem(source, (98 * PAGE, PAGE), (99 * PAGE, PAGE)) == [False, True]
    assert seem(source) == []


@pytest.mark.usefixtures("system")
def test_places_that_no_file_can_have_are_not_here(tmp_path, source):
    keep(tmp_path, [(0, b"a" * 100)])
    assert seem(source, (-1, 10), (2**63, 10), (2**64, 2**64), (0, 2**63)) == [False] * 4


@pytest.mark.usefixtures("system")
def test_a_batch_reads_what_is_here_and_misses_the_rest_alone(tmp_path, source):
    data = os.urandom(3 * PAGE)
    pieces = [(i * PAGE, data[i * PAGE : (i + 1) * PAGE]) for i in range(3)]
    keep(tmp_path, [pieces[0], pieces[2]])
    extents = [Extent("packs/x.pack", offset, len(piece), exactly(piece)) for offset, piece in pieces]
    assert source.read_many([extents[0], extents[2], extents[0]]) == [pieces[0][1], pieces[2][1], pieces[0][1]]
    with pytest.raises(DataNotLocalError, match=f"bytes {PAGE}"):
        source.read_many(extents)
    keep(tmp_path, [pieces[1]])
    assert b"".join(source.read_many(extents)) == data, "what came meanwhile is seen by the next batch"


@pytest.mark.usefixtures("system")
def test_a_file_that_was_emptied_is_not_here(tmp_path, source):
    keep(tmp_path, [(0, b"a" * PAGE)])
    assert seem(source, (0, PAGE)) == [True]
    os.truncate(tmp_path / "partial/packs/x.pack", 0)
    assert seem(source, (0, PAGE)) == [False]


@pytest.mark.parametrize("taken", [1, 700, 10**9])
def test_all_is_kept_however_little_the_disk_takes_at_once(tmp_path, monkeypatch, taken):
    data = os.urandom(300 * MANY)
    parts = [(i * 300, memoryview(data)[i * 300 : (i + 1) * 300]) for i in range(MANY)]
    gap = [(offset + PAGE * (offset >= 600), blob) for offset, blob in parts]
    whole, calls = os.pwritev, []

    def some(file, blobs, offset):
        calls.append(len(blobs))
        return whole(file, [memoryview(b"".join(blobs))[:taken]], offset)

    monkeypatch.setattr(os, "pwritev", some)
    keep(tmp_path, list(reversed(gap)))
    found = (tmp_path / "partial/packs/x.pack").read_bytes()
    assert found == data[:600] + bytes(PAGE) + data[600:]
    assert calls == [2, 512, 512]


def test_parts_are_kept_where_a_system_writes_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "pwritev")
    keep(tmp_path, [(10, b"bb"), (0, b"a" * 10), (12, b""), (12, b"c")])
    assert (tmp_path / "partial/packs/x.pack").read_bytes() == b"a" * 10 + b"bbc"


def test_what_a_purge_put_in_the_place_of_an_extent_is_read_in_a_batch_too(tmp_path, source):
    old, new = b"a" * 100, b"b" * 50
    keep(tmp_path, [(0, old), (100, old)])
    kept = KeptObjects(tmp_path / "store", tmp_path / "partial", None, LocalFiles())
    extents = [Extent("packs/x.pack", at, 100, lambda data, fetched: bytes(data)) for at in (0, 100)]
    kept.keep_parts((), rewritten=[(extents[1], new)])
    assert source.read_many([extents[0], extents[0], extents[1]]) == [old, old, new]
