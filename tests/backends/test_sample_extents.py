"""What is made of the bytes of a sample's block: its bytes, or an error, and what is compared with what."""

from __future__ import annotations

import pytest

from hangar_cloud.backends.blocks import HEADER_LENGTH, Place, encode_block, encode_sample
from hangar_cloud.backends.codecs import RAW, Codec
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.sample_extents import PackedSample, decoded_block
from hangar_cloud.backends.values import BYTES_PREFIX, sample_digest

PAYLOAD = bytes(range(64)) * 3
DIGEST = sample_digest(BYTES_PREFIX, PAYLOAD)
BLOCK = encode_sample(PAYLOAD, Codec(RAW), DIGEST)


def read(data, fetched=True, start=0):
    place = Place(b"p" * 16, 0, len(data), start, len(PAYLOAD))
    return bytes(decoded_block(memoryview(data), PackedSample(place, DIGEST, BYTES_PREFIX), fetched))


@pytest.mark.parametrize("fetched", [True, False])
def test_every_flipped_bit_is_noticed(fetched):
    assert read(BLOCK, fetched) == PAYLOAD
    for position in range(len(BLOCK)):
        for bit in range(8):
            damaged = bytearray(BLOCK)
            damaged[position] ^= 1 << bit
            with pytest.raises((CorruptDataError, UnsupportedFormatError)):
                read(damaged, fetched)


def test_what_is_not_the_sample_is_refused_though_its_block_is_intact():
    other = bytes(reversed(PAYLOAD))
    for block in (encode_sample(other, Codec(RAW), DIGEST), encode_block(other, Codec(RAW))):
        with pytest.raises(CorruptDataError, match="do not match its digest"):
            read(block)


@pytest.mark.parametrize("end", [0, HEADER_LENGTH - 1, HEADER_LENGTH, len(BLOCK) - 1])
def test_a_block_that_is_cut_short_is_refused(end):
    with pytest.raises(CorruptDataError):
        read(BLOCK[:end])


def test_a_sample_in_the_middle_of_a_block_is_found_there():
    shared = encode_block(b"before" + PAYLOAD, Codec(RAW))
    assert read(shared, start=6)[6:] == PAYLOAD
