"""Blocks: whatever happens to their bytes, a reader gets the sample or an error."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.blocks import (
    GROUP_BYTES,
    HEADER_LENGTH,
    MAX_BLOCK_BYTES,
    decode_blocks,
    encode_block,
    encode_sample,
)
from hangar_cloud.backends.codecs import LZ4, RAW, ZSTD, Codec
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.values import sample_digest

DIGEST = sample_digest(b"bytes\0", b"some sample")
OTHER = sample_digest(b"bytes\0", b"another")
CODECS = [Codec(RAW), Codec(LZ4), Codec(LZ4, 4), Codec(ZSTD), Codec(ZSTD, 8, 19)]
PAYLOAD = np.arange(60, dtype="<u4").tobytes() + b"tail"


def refused(data: bytes, expected: int = len(PAYLOAD), digest: bytes = DIGEST) -> bool:
    try:
        decode_blocks(data, digest, expected)
    except (CorruptDataError, UnsupportedFormatError):
        return True
    return False


@given(st.binary(min_size=1, max_size=3000), st.sampled_from(CODECS), st.booleans())
def test_a_block_comes_back(data, codec, bound):
    block = encode_block(data, codec, DIGEST if bound else None)
    assert bytes(decode_blocks(block, DIGEST, len(data))) == data
    assert len(block) <= HEADER_LENGTH + len(data)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("binding", [None, DIGEST])
def test_every_flipped_bit_of_a_block_is_noticed(codec, binding):
    block = encode_block(PAYLOAD, codec, binding)
    for position in range(len(block)):
        for bit in range(8):
            damaged = bytearray(block)
            damaged[position] ^= 1 << bit
            assert refused(bytes(damaged)), (position, bit)


@pytest.mark.parametrize("codec", CODECS)
def test_every_truncation_of_a_block_is_noticed(codec):
    block = encode_block(PAYLOAD, codec, DIGEST)
    for length in range(len(block)):
        assert refused(block[:length])
        assert refused(block[length:]) or length == 0
    assert refused(block + b"\0")


def test_another_samples_block_is_not_taken_for_this_one():
    assert refused(encode_block(PAYLOAD, Codec(LZ4), OTHER))
    assert refused(encode_block(PAYLOAD, Codec(RAW), OTHER))


@pytest.fixture(scope="module")
def big() -> bytes:
    return np.random.default_rng(0).bytes(2 * MAX_BLOCK_BYTES + 1000)


def test_a_big_sample_is_a_run_of_blocks(big):
    run = encode_sample(big, Codec(LZ4, 8), DIGEST)
    assert len(run) == len(big) + 3 * HEADER_LENGTH
    assert bytes(decode_blocks(run, DIGEST, len(big))) == big


def test_blocks_of_one_run_cannot_be_swapped_repeated_or_left_out(big):
    run = encode_sample(big, Codec(RAW), DIGEST)
    size = MAX_BLOCK_BYTES + HEADER_LENGTH
    first, second, last = run[:size], run[size : 2 * size], run[2 * size :]
    for damaged in (second + first + last, first + first + last, last + first + second, second + last):
        assert refused(damaged, len(big))
    assert refused(first + second + last + last, len(big))


def hostile(raw_length: int, encoded: bytes, number: int = LZ4, shuffle: int = 0) -> bytes:
    """A block with a right checksum, made by somebody who means harm."""
    seed = (number << 48) | (shuffle << 40) | raw_length
    checksum = xxhash.xxh3_64_intdigest(encoded, seed)
    return struct.pack("<2sBBB3xIIQ", b"HB", number, shuffle, 0, raw_length, len(encoded), checksum) + encoded


@pytest.mark.parametrize("number", [RAW, LZ4, ZSTD])
@pytest.mark.parametrize("raw_length", [0, 1, 100_000, MAX_BLOCK_BYTES, MAX_BLOCK_BYTES + 1, 2**32 - 1])
def test_lengths_of_hostile_blocks_allocate_nothing_undeclared(number, raw_length):
    block = hostile(raw_length, b"x" * 40, number)
    # What is imported with the first block of a process is not counted.
    assert refused(block, expected=100)
    tracemalloc.start()
    try:
        assert refused(block, expected=100)
        assert refused(block * 200, expected=100)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_is_decoded():
    bomb = encode_block(bytes(MAX_BLOCK_BYTES), Codec(ZSTD))
    assert len(bomb) < 2000
    with pytest.raises(CorruptDataError, match="more bytes than"):
        decode_blocks(bomb, DIGEST, 1000)
    half = encode_block(bytes(GROUP_BYTES * 2 + 1), Codec(ZSTD))
    assert len(decode_blocks(half, DIGEST, 10)) == GROUP_BYTES * 2 + 1
    with pytest.raises(CorruptDataError, match="more bytes than"):
        decode_blocks(half + half, DIGEST, 10)


@given(st.binary(max_size=300))
def test_noise_is_no_block(noise):
    assert refused(noise)


@given(st.binary(max_size=120), st.integers(0, 3), st.integers(0, 255), st.integers(0, 5000))
def test_hostile_blocks_decode_to_what_they_declare_or_are_refused(encoded, number, shuffle, raw_length):
    try:
        data = decode_blocks(hostile(raw_length, encoded, number, shuffle), DIGEST, 10_000)
    except (CorruptDataError, UnsupportedFormatError):
        return
    assert len(data) == raw_length
