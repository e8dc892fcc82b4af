"""Codecs: every byte comes back, and nothing hostile decodes to more than it declares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.codecs import (
    CODEC_NUMBERS,
    LZ4,
    RAW,
    ZSTD,
    Codec,
    choose_codec,
    codec_from_options,
    compress,
    decompress,
    shuffle_bytes,
    unshuffle_bytes,
)
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError


@given(st.binary(max_size=600), st.integers(2, 255))
def test_shuffle_keeps_every_byte_and_the_tail(data, size):
    shuffled = shuffle_bytes(data, size)
    assert len(shuffled) == len(data)
    assert bytes(unshuffle_bytes(memoryview(shuffled), size)) == data
    whole = len(data) - len(data) % size
    assert shuffled[whole:] == data[whole:]


def test_shuffle_is_the_transposition_that_the_format_names():
    assert shuffle_bytes(b"aAbBcCt", 2) == b"abcABCt"


@given(st.binary(max_size=3000), st.sampled_from([RAW, LZ4, ZSTD]), st.integers(0, 255))
def test_what_is_compressed_comes_back(data, number, shuffle):
    codec = Codec(number, 0 if number == RAW else shuffle)
    encoded = compress(codec, data)
    if not data and number != RAW:
        return  # blocks keep what does not shrink raw, so an empty block is never compressed
    assert bytes(decompress(number, codec.shuffle, encoded, len(data))) == data


@given(st.binary(max_size=200), st.sampled_from([LZ4, ZSTD]), st.integers(0, 255), st.integers(0, 4096))
def test_noise_decodes_to_the_declared_length_or_is_called_damaged(noise, number, shuffle, length):
    try:
        decoded = decompress(number, shuffle, noise, length)
    except CorruptDataError:
        return
    assert len(decoded) == length


@pytest.mark.parametrize("number", [3, 100, 128, 255])
def test_an_unknown_codec_asks_for_an_upgrade(number):
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        decompress(number, 0, b"abc", 3)


@pytest.mark.parametrize("length", [0, 2, 4])
def test_raw_bytes_of_another_length_are_damaged(length):
    with pytest.raises(CorruptDataError):
        decompress(RAW, 0, b"abc", length)


def test_smooth_floats_are_shuffled_and_noise_is_left_alone():
    smooth = np.linspace(0, 1, 30_000, dtype=np.float32).tobytes()
    assert choose_codec(smooth, 4).shuffle == 4
    noise = np.random.default_rng(1).bytes(100_000)
    assert choose_codec(noise, 4) == Codec(RAW)
    assert choose_codec(bytes(100_000), 1).number in (LZ4, ZSTD)
    assert choose_codec(b"", 8) == Codec(RAW)
    assert choose_codec(smooth, 256).shuffle == 0


@given(
    st.dictionaries(
        st.sampled_from(["codec", "shuffle", "level", "nonsense", 3]),
        st.one_of(
            st.sampled_from(["auto", *CODEC_NUMBERS, "gzip", ["lz4"], {}, None]),
            st.integers(-3, 30),
            st.booleans(),
            st.floats(),
        ),
    )
)
def test_options_give_a_codec_or_a_value_error(options):
    try:
        codec = codec_from_options(options, 4)
    except ValueError:
        return
    assert codec is None or len(decompress(codec.number, codec.shuffle, compress(codec, bytes(100)), 100)) == 100
