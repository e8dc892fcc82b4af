"""Pack files: written, sealed, resumed, damaged in every byte."""

from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.codecs import LZ4, Codec
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.pack_writer import PackWriter
from hangar_cloud.backends.packs import (
    PACK_MAGIC,
    BlockExtent,
    encode_trailer,
    file_pack_id,
    pack_path,
    read_index,
    staged_pack,
    staged_pack_number,
)
from hangar_cloud.backends.values import BYTES_PREFIX, sample_digest
from tests.backends.packing import fresh_reader, make_pack

SMALL = [bytes([i]) * (40 + i) for i in range(5)]
LARGE = [np.random.default_rng(i).bytes(9000 + i) for i in range(2)]
WRONG = (CorruptDataError, UnsupportedFormatError)


def outcome(store: Path, sample: PackedSample) -> bytes | None:
    """The payload, or None where it was refused; any other error is the test's to report."""
    try:
        return bytes(fresh_reader(store).read(sample))
    except WRONG:
        return None


def test_samples_come_back_one_by_one_and_in_any_order(tmp_path):
    packed = make_pack(tmp_path, SMALL + LARGE, Codec(LZ4))
    for sample, payload in zip(packed.samples, packed.payloads, strict=True):
        assert outcome(tmp_path, sample) == payload
    order = [6, 0, 3, 3, 5, 1, 0]
    many = fresh_reader(tmp_path).read_many([packed.samples[i] for i in order])
    assert [bytes(data) for data in many] == [packed.payloads[i] for i in order]
    assert all(data.readonly for data in many)
    with (tmp_path / pack_path(packed.pack)).open("rb") as file:
        assert {s.place.offset for s in packed.samples} == {extent.offset for extent in read_index(file)}


@pytest.mark.parametrize("codec", [Codec(0), Codec(LZ4)])
def test_every_flipped_byte_of_a_pack_is_harmless_or_noticed(tmp_path, codec):
    packed = make_pack(tmp_path, SMALL, codec)
    path = tmp_path / pack_path(packed.pack)
    intact = path.read_bytes()
    first, last = packed.samples[0], packed.samples[-1]
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 0x41
        path.unlink()
        path.write_bytes(damaged)
        assert file_pack_id(path) != packed.pack
        assert outcome(tmp_path, first) in (packed.payloads[0], None), position
        assert outcome(tmp_path, last) in (packed.payloads[-1], None), position
        index_end = len(intact) - 32 - 16
        if position >= index_end:
            with pytest.raises(CorruptDataError):
                read_index(io.BytesIO(damaged))


def test_every_truncation_of_a_pack_is_noticed(tmp_path):
    packed = make_pack(tmp_path, SMALL)
    path = tmp_path / pack_path(packed.pack)
    intact = path.read_bytes()
    end = packed.samples[0].place.offset + packed.samples[0].place.stored
    for length in range(len(intact)):
        path.unlink()
        path.write_bytes(intact[:length])
        assert outcome(tmp_path, packed.samples[0]) == (packed.payloads[0] if length >= end else None)
        with pytest.raises(CorruptDataError):
            read_index(io.BytesIO(intact[:length]))


def test_two_swapped_packs_are_noticed(tmp_path):
    one = make_pack(tmp_path, SMALL + LARGE)
    other = make_pack(tmp_path, [p[::-1] + b"." for p in SMALL] + [p[::-1] for p in LARGE])
    paths = [tmp_path / pack_path(p.pack) for p in (one, other)]
    bytes_of = [path.read_bytes() for path in paths]
    for path, data in zip(paths, reversed(bytes_of), strict=True):
        path.unlink()
        path.write_bytes(data)
    for packed in (one, other):
        assert [outcome(tmp_path, sample) for sample in packed.samples] == [None] * len(packed.samples)
        with pytest.raises(CorruptDataError, match=pack_path(packed.pack)):
            fresh_reader(tmp_path).read_many(packed.samples)


def test_swapped_packs_that_begin_alike_are_noticed(tmp_path):
    """The first sample of a shared block is the same in both, so only the later one tells them apart."""
    first = b"a" * 500
    one, other = make_pack(tmp_path, [first, b"b" * 500]), make_pack(tmp_path, [first, b"c" * 500])
    paths = [tmp_path / pack_path(p.pack) for p in (one, other)]
    bytes_of = [path.read_bytes() for path in paths]
    for path, data in zip(paths, reversed(bytes_of), strict=True):
        path.unlink()
        path.write_bytes(data)
    reader = fresh_reader(tmp_path)
    assert bytes(reader.read(one.samples[0])) == first
    with pytest.raises(CorruptDataError, match="digest"):
        reader.read(one.samples[1])
    with pytest.raises(CorruptDataError, match="digest"):
        fresh_reader(tmp_path).read_many(other.samples)


def test_two_swapped_blocks_are_noticed(tmp_path):
    same_size = [np.random.default_rng(i).bytes(4000) for i in range(8)]
    packed = make_pack(tmp_path, same_size)
    places = sorted({(s.place.offset, s.place.stored) for s in packed.samples})
    (a, size), (b, other_size) = places[:2]
    assert size == other_size
    path = tmp_path / pack_path(packed.pack)
    data = bytearray(path.read_bytes())
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    path.unlink()
    path.write_bytes(data)
    assert [outcome(tmp_path, sample) for sample in packed.samples] == [None] * 8


@pytest.mark.parametrize(
    "place",
    [
        {"offset": 2**62},
        {"offset": 2**63 - 1, "stored": 2**63 - 1},
        {"stored": 2**62},
        {"stored": 0},
        {"stored": 1},
        {"start": 2**60},
        {"size": 2**60},
        {"start": 1},
        {"size": 3},
        {"size": 2**60, "start": 2**60, "stored": 2**60},
    ],
)
@pytest.mark.parametrize("where", ["store", "partial", "staging"])
def test_records_that_lie_about_places_are_refused_without_allocating(tmp_path, place, where):
    packed = make_pack(tmp_path, SMALL)
    sample = packed.samples[1]
    lying = sample._replace(place=sample.place._replace(**place))
    reader = fresh_reader(tmp_path)
    if where == "partial":
        (tmp_path / "packs").rename(tmp_path / "elsewhere")
        partial = tmp_path / "partial"
        partial.mkdir()
        (tmp_path / "elsewhere").rename(partial / "packs")
        reader = PackReader(ObjectSource(tmp_path, partial))
        with pytest.raises((CorruptDataError, FileNotFoundError)):
            reader.read(lying)
        return
    if where == "staging":
        (tmp_path / pack_path(packed.pack)).rename(tmp_path / "3.pack")
        lying = lying._replace(place=lying.place._replace(pack=staged_pack(3)))
        reader = PackReader(ObjectSource(tmp_path), staging=tmp_path)
    with pytest.raises(CorruptDataError):
        reader.read(lying)


def test_indexes_that_lie_are_refused():
    def pack(index: bytes, offset: int, count: int) -> bytes:
        return (
            PACK_MAGIC
            + index
            + struct.pack("<QQQ8s", offset, count, xxhash.xxh3_64_intdigest(index, offset), PACK_MAGIC)
        )

    assert read_index(io.BytesIO(pack(b"", 8, 0))) == []
    for data in (
        b"",
        bytes(100),
        pack(b"", 8, 2**63),
        pack(b"", 2**63, 0),
        pack(bytes(16), 8, 2**60 + 1),
        pack(bytes(16), 2**64 - 16, 2),
        pack(bytes(16), 24, 0)[:-1],
    ):
        with pytest.raises(CorruptDataError):
            read_index(io.BytesIO(data))
    assert read_index(io.BytesIO(PACK_MAGIC + encode_trailer(8, [BlockExtent(8, 0)]))) == [BlockExtent(8, 0)]


def test_a_resumed_pack_is_cut_behind_what_was_recorded_and_sealed_alike(tmp_path):
    writer = PackWriter(tmp_path / "a.pack")
    extents = writer.append([b"one", b"two"])
    writer.append([b"lost"])
    writer.close()
    resumed = PackWriter(tmp_path / "a.pack", extents)
    assert (tmp_path / "a.pack").read_bytes() == PACK_MAGIC + b"onetwo"
    extents += resumed.append([b"three"])
    name = resumed.seal()
    # Killed after sealing and before that was recorded: sealed again, to the same bytes.
    whole = (tmp_path / "a.pack").read_bytes()
    assert PackWriter(tmp_path / "a.pack", extents).seal() == name
    assert (tmp_path / "a.pack").read_bytes() == whole
    assert file_pack_id(tmp_path / "a.pack") == name


def test_a_resumed_pack_that_is_too_short_is_not_filled_with_zeros(tmp_path):
    writer = PackWriter(tmp_path / "a.pack")
    extents = writer.append([b"x" * 100])
    writer.close()
    os.truncate(tmp_path / "a.pack", 50)
    with pytest.raises(CorruptDataError, match="50 bytes"):
        PackWriter(tmp_path / "a.pack", extents)
    (tmp_path / "a.pack").unlink()
    with pytest.raises(CorruptDataError, match="gone"):
        PackWriter(tmp_path / "a.pack", extents)


def test_a_new_pack_never_writes_through_another_name_of_an_old_one(tmp_path):
    writer = PackWriter(tmp_path / "0.pack")
    writer.append([b"committed"])
    writer.seal()
    os.link(tmp_path / "0.pack", tmp_path / "published.pack")
    before = (tmp_path / "published.pack").read_bytes()
    PackWriter(tmp_path / "0.pack").append([b"something else"])
    assert (tmp_path / "published.pack").read_bytes() == before


def test_a_full_disk_leaves_the_pack_as_it_was(tmp_path, monkeypatch):
    writer = PackWriter(tmp_path / "a.pack")
    extents = writer.append([b"kept"])
    real = os.pwrite

    def full(file, data, offset):
        real(file, bytes(data)[:3], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        writer.append([b"does not fit"])
    monkeypatch.undo()
    extents += writer.append([b"fits"])
    writer.seal()
    with (tmp_path / "a.pack").open("rb") as file:
        assert read_index(file) == extents
    assert b"keptfits" in (tmp_path / "a.pack").read_bytes()


def test_short_writes_are_continued(tmp_path, monkeypatch):
    writer = PackWriter(tmp_path / "a.pack")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, bytes(data)[:7], offset))
    extents = writer.append([b"0123456789" * 10])
    assert (tmp_path / "a.pack").read_bytes()[extents[0].offset :] == b"0123456789" * 10


def test_blocks_in_parts_are_written_as_whole_ones_are(tmp_path):
    payload = bytes(range(256)) * 40
    many = [(b"head%d" % i, memoryview(payload)[: 5000 + i]) for i in range(700)]
    run = tuple(memoryview(payload) for _ in range(1500))
    blocks = [b"alone", *many, run, b"end"]
    whole = [block if isinstance(block, bytes) else b"".join(block) for block in blocks]
    names = []
    for name, given in (("parts", blocks), ("whole", whole)):
        writer = PackWriter(tmp_path / name)
        extents = writer.append(given)
        names.append(writer.seal())
    assert names[0] == names[1] == file_pack_id(tmp_path / "parts")
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert [extent.stored for extent in extents] == list(map(len, whole))


def test_short_writes_of_parts_are_continued(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, bytes(data)[:2001], offset))
    parts = tuple(bytes([i]) * 6000 for i in range(9))
    extents = PackWriter(tmp_path / "a.pack").append([parts, b"end"])
    assert (tmp_path / "a.pack").read_bytes()[extents[0].offset :] == b"".join(parts) + b"end"


def test_staging_names_are_told_from_ids():
    assert staged_pack_number(staged_pack(7)) == 7
    assert staged_pack_number(bytes(16)) is None


def test_a_committed_record_that_names_a_staging_pack_is_damage(tmp_path):
    sample = PackedSample(Place(staged_pack(0), 8, 30, 0, 5), sample_digest(BYTES_PREFIX, b"x"), BYTES_PREFIX)
    with pytest.raises(CorruptDataError, match="staging"):
        fresh_reader(tmp_path).read(sample)
    with pytest.raises(CorruptDataError, match="gone"):
        PackReader(ObjectSource(tmp_path), staging=tmp_path).read(sample)


def test_decoded_blocks_stay_under_their_bound(tmp_path):
    packed = make_pack(tmp_path, [np.random.default_rng(i).bytes(4000) for i in range(40)])
    reader = PackReader(ObjectSource(tmp_path), decoded_limit=50_000)
    for sample, payload in zip(packed.samples, packed.payloads, strict=True):
        assert bytes(reader.read(sample)) == payload
    assert reader.decoded_bytes <= 50_000
    assert reader.decoded_bytes == sum(len(block.raw) for block in reader.decoded.values())
