"""Arrays as extents of packs: every bit comes back, nothing damaged or hostile is taken for an array."""

from __future__ import annotations

import math
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xxhash

from hangar_cloud.backends import array_format
from hangar_cloud.backends.array_blocks import encode_array
from hangar_cloud.backends.array_format import LEAD_LENGTH, ArrayFiles, check_array, read_lead, tiles_in_box
from hangar_cloud.backends.array_options import LEVELS, array_options, default_tile
from hangar_cloud.backends.blocks import check_blocks, decode_blocks, encode_alike, is_bound
from hangar_cloud.backends.errors import CorruptDataError, StoreError, UnsupportedFormatError
from hangar_cloud.backends.store import leftovers
from tests.forked import passes_forked
from tests.repository.making import finish, start_process

DIGEST = bytes(range(32))
OTHER = bytes(range(1, 33))
FILTERS = (("byteshuffle", None), ("zstd", 1))
RAW = np.random.default_rng(1).integers(0, 50, (6, 7, 4), np.uint16).tobytes()


def encoded(raw: bytes = RAW, shape=(6, 7, 4), width=2, tile=(3, 4, 4), filters=FILTERS, samples=1, digest=DIGEST):
    return encode_array([raw] * samples, shape, width, tile, filters, [digest] * samples)


@pytest.fixture(scope="module")
def extent() -> bytes:
    return encoded()


@pytest.mark.parametrize("dtype", ["|b1", "|i1", "<u2", ">i4", "<f2", "<f4", ">f8", "<c8", "<c16", np.longdouble])
def test_every_bit_of_every_dtype_comes_back(dtype):
    width = np.dtype(dtype).itemsize
    raw = np.random.default_rng(2).integers(0, 256, 9 * 5 * width, np.uint8).tobytes()
    found = encoded(raw, (9, 5), width, (4, 2))
    assert bytes(decode_blocks(found, DIGEST, len(raw))) == raw


@pytest.mark.parametrize("name", LEVELS)
def test_every_filter_gives_back_what_it_was_given(name):
    levels = LEVELS[name]
    for level in (None,) if levels is None else (None, levels[0], levels[-1]):
        found = encoded(filters=((name, level),), samples=3)
        assert bytes(decode_blocks(found, b"", 3 * len(RAW))) == 3 * RAW


def test_an_array_of_31_dimensions():
    shape = (2, 1, 3) + (1,) * 27 + (2,)
    raw = os.urandom(12)
    assert bytes(decode_blocks(encoded(raw, shape, 1, (1,) * 31), DIGEST, 12)) == raw


def test_an_array_is_checked_without_decoding_it(extent):
    check_blocks(extent, DIGEST[:8])
    with pytest.raises(CorruptDataError, match="checksum"):
        check_blocks(extent, OTHER)


def test_an_array_of_one_sample_is_bound_to_it_and_one_that_is_shared_is_not(extent):
    shared = encoded(samples=2)
    assert (is_bound(extent), is_bound(shared)) == (True, False)
    with pytest.raises(CorruptDataError):
        decode_blocks(extent, OTHER, len(RAW))
    assert bytes(decode_blocks(shared, OTHER, 2 * len(RAW))) == 2 * RAW


def test_a_shared_array_is_encoded_anew_in_the_same_way():
    shared = encoded(samples=2)
    blank = encode_alike(bytes(2 * len(RAW)), shared)
    assert bytes(decode_blocks(blank, b"", 2 * len(RAW))) == bytes(2 * len(RAW))
    assert check_array(blank, b"").tile == check_array(shared, b"").tile
    assert len(blank) < len(shared)


def test_no_byte_can_be_changed_unnoticed(extent):
    places = [*range(LEAD_LENGTH), *range(LEAD_LENGTH, len(extent), 211), len(extent) - 1]
    for place in places:
        damaged = bytearray(extent)
        damaged[place] ^= 1
        with pytest.raises((CorruptDataError, UnsupportedFormatError)):
            check_blocks(bytes(damaged), DIGEST)


@pytest.mark.parametrize("cut", [1, LEAD_LENGTH - 1, LEAD_LENGTH, LEAD_LENGTH + 100, -1])
def test_an_array_that_is_cut_short(extent, cut):
    with pytest.raises(CorruptDataError):
        decode_blocks(b"HT" + extent[2:cut], DIGEST, len(RAW))


def test_an_array_with_more_bytes_than_its_record_declares_is_not_decoded(extent):
    with pytest.raises(CorruptDataError, match="more bytes than its record declares"):
        decode_blocks(extent, DIGEST, len(RAW) - 1)


def test_a_later_version_is_called_later(extent):
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        read_lead(extent[:2] + b"\x02" + extent[3:], DIGEST)


def forged(extent: bytes, **changes) -> bytes:
    """The extent with other contents, and all checksums right."""
    head = check_array(extent, DIGEST)
    files = head.files._replace(**{name: value for name, value in changes.items() if name in ArrayFiles._fields})
    data = changes.get("data", extent[head.lead.data_at :])
    shape, tile = changes.get("shape", head.shape), changes.get("tile", head.tile)
    return array_format.encode_extent(head.lead.width, shape, tile, files, data, [DIGEST])


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (7, 6, 4)},
        {"shape": (6, 7, 2**40)},
        {"tile": (3, 4, 5)},
        {"tile": (6, 4, 2)},
        {"tile": (0, 4, 4)},
        {"schema_name": "../../escape"},
        {"fragment_name": "__1_1_x"},
        {"schema": b""},
        {"schema": b"\xff" * 300},
        {"fragment": b""},
        {"fragment": b"\0" * 5000},
    ],
    ids=str,
)
def test_a_hostile_array_whose_checksums_are_right(extent, changes):
    with pytest.raises(CorruptDataError):
        decode_blocks(forged(extent, **changes), DIGEST, 1 << 40)


def test_the_schema_of_another_array(extent):
    other = check_array(encoded(os.urandom(336), (12, 7, 4), 1, (3, 4, 4)), DIGEST)
    with pytest.raises(CorruptDataError):
        decode_blocks(forged(extent, schema=other.files.schema), DIGEST, len(RAW))


def test_a_tile_that_would_decode_to_gigabytes(extent):
    head = check_array(extent, DIGEST)
    data = bytearray(extent[head.lead.data_at :])
    struct.pack_into("<I", data, 8, 1 << 31)
    with pytest.raises(CorruptDataError, match="holds 2147483648 bytes where a tile has"):
        check_blocks(forged(extent, data=bytes(data)), DIGEST)


def test_files_of_tiledb_changed_at_random_give_an_error_or_other_bytes_and_nothing_worse(extent):
    random = np.random.default_rng(5)
    head = check_array(extent, DIGEST)
    for name in ("schema", "fragment"):
        for _ in range(12):
            text = bytearray(getattr(head.files, name))
            text[int(random.integers(len(text)))] ^= int(random.integers(1, 256))
            try:
                found = decode_blocks(forged(extent, **{name: bytes(text)}), DIGEST, len(RAW))
            except CorruptDataError:
                continue
            assert len(found) == len(RAW)


def test_the_tiles_that_a_box_touches(extent):
    head = check_array(extent, DIGEST)
    assert head.tiles == 4
    assert tiles_in_box(head, 0, (0, 0, 0), (6, 7, 4)).tolist() == [0, 1, 2, 3]
    assert tiles_in_box(head, 0, (2, 3, 0), (3, 4, 1)).tolist() == [0]
    assert tiles_in_box(head, 0, (2, 3, 0), (4, 4, 1)).tolist() == [0, 2]
    assert tiles_in_box(head, 5, (5, 4, 3), (6, 7, 4)).tolist() == [23]


@pytest.mark.parametrize(
    "shape", [(512, 512, 512), (513, 513, 513), (4096, 4096), (10**7,), (3, 5000, 5000), (8, 8), (2,) * 31]
)
def test_tiles_that_are_chosen_are_of_a_moderate_size_and_need_little_padding(shape):
    tile = default_tile(shape, 2)
    size = math.prod(tile) * 2
    padded = math.prod(-(-n // t) * t for n, t in zip(shape, tile, strict=True))
    assert all(1 <= t <= n for n, t in zip(shape, tile, strict=True))
    assert size <= 256 * 1024
    assert size >= min(60 * 1024, math.prod(shape) * 2)
    assert padded <= 1.1 * math.prod(shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiles": 3}, "unknown backend option"),
        ({"tile": (3,)}, r"has 1 dimension\(s\), and samples have 2"),
        ({"tile": (3, 0)}, "whole numbers of at least 1"),
        ({"tile": (3, 2.0)}, "whole numbers"),
        ({"tile": (True, 2)}, "whole numbers"),
        ({"tile": "ab"}, "whole numbers"),
        ({"tile": (1, 1)}, "into 4,000,000 tiles"),
        ({"filters": "zstd"}, "must be a list"),
        ({"filters": ["zst"]}, "filter 'zst' is not one of zstd, gzip"),
        ({"filters": [["zstd", 23]]}, "level from 1 to 22, not 23"),
        ({"filters": [["lz4", 1]]}, "takes no level"),
        ({"filters": [{"zstd": 1}]}, "is not one of"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        array_options(options, (2000, 2000), 2)


def test_options_come_back_as_they_are_recorded():
    given = {"tile": (100, 5000), "filters": ("byteshuffle", ("zstd", 5))}
    recorded = array_options(given, (2000, 2000), 2).as_json()
    assert recorded == {"tile": [100, 5000], "filters": ["byteshuffle", ["zstd", 5]]}
    assert array_options(recorded, (2000, 2000), 2).tile_of((2000, 2000), 2) == (100, 2000)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(leftovers, "is_alive", lambda process: process == os.getpid())
    dead, mine, other = (tmp_path / f"hangar-array-{name}" for name in (f"{2**22 + 1}-abc", f"{os.getpid()}-abc", "x"))
    for folder in (dead, mine, other):
        folder.mkdir()
    encoded()
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])


def test_no_room_for_temporary_files_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StoreError, match="TMPDIR"):
        encoded()


def test_an_array_is_read_in_a_process_that_was_forked_after_tiledb_was_used(extent):
    decode_blocks(extent, DIGEST, len(RAW))
    assert passes_forked(lambda: bytes(decode_blocks(extent, DIGEST, len(RAW))) == RAW)


def test_a_forked_process_ends_as_any_other_does(tmp_path):
    script = """
        import os, sys
        import numpy as np
        from hangar_cloud import Repository
        repository = Repository(sys.argv[1], exists=False)
        repository.init("Test User", "test@example.org")
        writer = repository.checkout(write=True)
        column = writer.add_ndarray_column("v", shape=(90, 90, 90), dtype="u1", backend="t0")
        column[0] = np.random.default_rng(0).integers(0, 255, (90, 90, 90), np.uint8)
        writer.commit("one")
        writer.close()
        column = repository.checkout()["v"]
        column.read_slice(0, np.s_[:3, :3, :3])
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        elif len(sys.argv) > 2:
            column.read_slice(0, np.s_[50:60, :3, :3])
    """
    for more in ([], ["reading"]):
        finish(start_process(script, str(tmp_path / str(len(more))), *more))


def test_the_lead_is_what_the_format_says(extent):
    """Read from the bytes alone, as another program would."""
    *beginning, head_length, raw, data, checksum = struct.unpack_from("<2sBBB3xIIQQQ", extent)
    assert beginning == [b"HT", 1, 2, 1, 1]
    assert (raw, head_length + data + LEAD_LENGTH) == (len(RAW), len(extent))
    seed = int.from_bytes(DIGEST[:8], "little")
    head = extent[LEAD_LENGTH : LEAD_LENGTH + head_length]
    assert xxhash.xxh3_64_intdigest(head, seed) == checksum
    assert xxhash.xxh3_64_intdigest(extent[:40], seed) == int.from_bytes(extent[40:48], "little")
    assert head[0] == 3
    assert struct.unpack_from("<6Q8s", head, 1) == (6, 3, 7, 4, 4, 4, DIGEST[:8])


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch, extent):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    decode_blocks(encoded(), DIGEST, len(RAW))
    with pytest.raises(CorruptDataError):
        decode_blocks(forged(extent, schema=b""), DIGEST, len(RAW))
    assert list(Path(tmp_path).iterdir()) == []
