"""What is made of the bytes of a sample's block: its bytes, or an error, and what is compared with what."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud.backends import sample_extents
from hangar_cloud.backends.blocks import HEADER_LENGTH, Place, encode_block, encode_sample
from hangar_cloud.backends.codecs import LZ4, RAW, Codec
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.sample_extents import PackedSample, decoded_block, decoded_blocks
from hangar_cloud.backends.values import BYTES_PREFIX, STR_PREFIX, array_prefix, sample_digest

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


def run_of(*told):
    """Extents that lie behind each other from byte 1000 of a pack on, and their samples, as (prefix, payload, block)
    give them."""
    samples, at = [], 1000
    for prefix, payload, block in told:
        samples.append(
            PackedSample(Place(b"p" * 16, at, len(block), 0, len(payload)), sample_digest(prefix, payload), prefix)
        )
        at += len(block)
    return b"".join(block for _, _, block in told), samples


def lone(payload, prefix=BYTES_PREFIX, codec=RAW):
    return prefix, payload, encode_sample(payload, Codec(codec), sample_digest(prefix, payload))


def one_by_one(data, samples, fetched):
    starts = [sample.place.offset - 1000 for sample in samples]
    return [
        bytes(decoded_block(memoryview(data)[start : start + sample.place.stored], sample, fetched))
        for start, sample in zip(starts, samples, strict=True)
    ]


ARRAY = array_prefix(np.dtype("uint8"), (192,))
KINDS = {
    "alone": lone(PAYLOAD),
    "another": lone(PAYLOAD[:100]),
    "long": lone(PAYLOAD * 300),
    "empty": lone(b""),
    "text": lone(b"as text", STR_PREFIX),
    "array": lone(PAYLOAD, ARRAY),
    "compressed": lone(PAYLOAD * 9, codec=LZ4),
    "shared": (BYTES_PREFIX, PAYLOAD, encode_block(PAYLOAD + b"and more", Codec(RAW))),
    "not bound": (BYTES_PREFIX, PAYLOAD, encode_block(PAYLOAD, Codec(RAW))),
    "of several blocks": lone(bytes(5 * 1024 * 1024)),
}


@pytest.mark.parametrize("fetched", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_blocks_is_what_its_blocks_are(kind, fetched):
    for told in ([KINDS[kind]], [KINDS["alone"], KINDS[kind], KINDS["another"]], [KINDS[kind]] * 3):
        data, samples = run_of(*told)
        found = decoded_blocks(memoryview(data), 1000, samples, fetched)
        assert [bytes(raw) for raw in found] == one_by_one(data, samples, fetched)


@pytest.mark.parametrize("fetched", [True, False])
def test_every_flipped_bit_of_a_run_is_noticed_and_told_as_one_by_one(fetched):
    data, samples = run_of(lone(b"first"), lone(b"second one"), lone(b""))
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises((CorruptDataError, UnsupportedFormatError)) as alone:
                one_by_one(damaged, samples, fetched)
            with pytest.raises(type(alone.value)) as together:
                decoded_blocks(memoryview(damaged), 1000, samples, fetched)
            assert str(together.value) == str(alone.value)


def test_blocks_that_changed_places_are_refused():
    _, samples = run_of(lone(b"first"), lone(b"other"))
    data, _ = run_of(lone(b"other"), lone(b"first"))
    for fetched in (True, False):
        with pytest.raises(CorruptDataError):
            decoded_blocks(memoryview(data), 1000, samples, fetched)


def test_a_record_that_gives_an_array_another_size_is_refused_in_a_run():
    data, samples = run_of(lone(PAYLOAD, ARRAY), lone(PAYLOAD[:100], ARRAY))
    for fetched in (True, False):
        with pytest.raises(CorruptDataError, match="its record gives a sample of 192 bytes 100"):
            decoded_blocks(memoryview(data), 1000, samples, fetched)


def test_a_sample_whose_intact_block_is_of_other_bytes_is_refused_where_it_was_fetched():
    other = bytes(reversed(PAYLOAD))
    data, samples = run_of((BYTES_PREFIX, PAYLOAD, encode_sample(other, Codec(RAW), DIGEST)), lone(PAYLOAD))
    with pytest.raises(CorruptDataError, match="do not match its digest"):
        decoded_blocks(memoryview(data), 1000, samples, True)


@pytest.mark.parametrize("odd", ["compressed", "shared", "text", "of several blocks"])
def test_nothing_is_hashed_twice_for_one_that_is_of_another_kind(odd, monkeypatch):
    hashed = []

    def counted(prefix, payload):
        hashed.append(len(payload))
        return sample_digest(prefix, payload)

    monkeypatch.setattr(sample_extents, "sample_digest", counted)
    monkeypatch.setattr(sample_extents, "sample_digests", None)
    data, samples = run_of(KINDS["alone"], KINDS["another"], KINDS[odd])
    decoded_blocks(memoryview(data), 1000, samples, True)
    assert len(hashed) == 3
