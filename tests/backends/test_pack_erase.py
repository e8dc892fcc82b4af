"""Packs that are written again without some of their samples."""

from __future__ import annotations

import io
import random
from itertools import pairwise

import numpy as np
import pytest
import xxhash

from hangar_cloud.backends.blocks import MAX_BLOCK_BYTES, decode_blocks, most_decoded
from hangar_cloud.backends.codecs import LZ4, RAW, ZSTD, Codec
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.moves import Moves
from hangar_cloud.backends.pack_erase import erase_samples
from hangar_cloud.backends.packs import BlockExtent, pack_path, read_index
from hangar_cloud.backends.values import sample_digest
from tests.backends.packing import make_pack

CODECS = [Codec(RAW), Codec(LZ4), Codec(ZSTD), Codec(LZ4, 4), Codec(ZSTD, 4), Codec(ZSTD, 0, 19)]


def noise(number: int, size: int) -> bytes:
    return np.random.default_rng(number).integers(0, 256, size, np.uint8).tobytes()


def words(number: int, size: int) -> bytes:
    """Bytes that codecs shrink."""
    chooser = random.Random(number)
    return b" ".join(chooser.choice([b"alpha", b"beta", b"gamma", b"delta"]) for _ in range(size))[:size]


def check(tmp_path, payloads: list[bytes], doomed: set[int], codec: Codec) -> bytes:
    """Erase some of the samples of a pack; the new file."""
    packed = make_pack(tmp_path, payloads, codec)
    target = tmp_path / "erased.pack"
    samples = [packed.samples[i] for i in sorted(doomed)]
    erased = erase_samples(tmp_path / pack_path(packed.pack), packed.pack, samples, target)
    file = target.read_bytes()
    moves = Moves()
    moves.add(0, erased.moves)
    for i, payload in enumerate(payloads):
        place, digest, prefix = packed.samples[i]
        spot = moves.spots(pack_path(packed.pack), place.offset, place.stored)[0]
        if spot.path is None:
            assert i in doomed
            continue
        assert spot.path == pack_path(erased.pack or b"")
        data = file[spot.offset : spot.offset + spot.length]
        assert spot.checksum in (None, xxhash.xxh3_64_intdigest(data))
        found = bytes(decode_blocks(data, digest, most_decoded(place))[place.start : place.start + place.size])
        assert (found == payload, sample_digest(prefix, found) == digest) == (i not in doomed, i not in doomed)
    assert erased.erased == sum(len(payloads[i]) for i in doomed)
    extents = read_index(io.BytesIO(file))
    for before, after in pairwise([BlockExtent(0, 8), *extents]):
        assert before.offset + before.stored == after.offset
    assert not any(payloads[i] in file for i in doomed if len(set(payloads[i])) > 1)
    return file


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("make", [noise, words])
def test_small_and_big_samples_are_erased_and_all_others_stay(tmp_path, codec, make):
    payloads = [make(i, 300) for i in range(120)] + [make(1000 + i, 20_000 + i) for i in range(4)]
    check(tmp_path, payloads, {0, 57, 58, 119, 121, 123}, codec)


@pytest.mark.parametrize("codec", [Codec(RAW), Codec(ZSTD)], ids=str)
def test_a_sample_of_many_blocks_and_the_last_of_a_pack(tmp_path, codec):
    big = [noise(i, 2 * MAX_BLOCK_BYTES + 5) for i in range(2)]
    check(tmp_path, [*big, noise(7, 100), noise(8, 100)], {1}, codec)
    file = check(tmp_path / "all", [big[0]], {0}, codec)
    assert len(file) == 8 + 32


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_zeros_are_erased_too(tmp_path, codec):
    check(tmp_path, [bytes(500), noise(1, 500), bytes([255]) * 500], {0, 2}, codec)


def test_what_was_erased_before_is_passed_over(tmp_path):
    packed = make_pack(tmp_path, [noise(i, 300) for i in range(5)])
    first = erase_samples(tmp_path / pack_path(packed.pack), packed.pack, packed.samples[:1], tmp_path / "first")
    assert first.pack is not None
    again = [s._replace(place=s.place._replace(pack=first.pack)) for s in packed.samples[:2]]
    second = erase_samples(tmp_path / "first", first.pack, again, tmp_path / "second")
    assert (first.erased, second.erased) == (300, 300)
    assert [move.checksum is None for move in first.moves] == [False]
    third = erase_samples(tmp_path / "second", second.pack or b"", again, tmp_path / "third")
    assert third.erased == 0
    assert third.pack == second.pack


def test_a_damaged_pack_or_a_wrong_place_is_refused(tmp_path):
    packed = make_pack(tmp_path, [noise(i, 300) for i in range(5)])
    path = tmp_path / pack_path(packed.pack)
    stray = packed.samples[0]._replace(place=packed.samples[0].place._replace(offset=9))
    with pytest.raises(CorruptDataError, match=r"no block of packs/.* lies at 9\+"):
        erase_samples(path, packed.pack, [stray], tmp_path / "new")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match="do not match its name"):
        erase_samples(path, packed.pack, packed.samples[:1], tmp_path / "new")
