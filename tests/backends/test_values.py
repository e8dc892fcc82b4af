"""Sample identity: equal means equal, bit for bit, and nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from hangar_cloud.backends.values import (
    BYTES_PREFIX,
    STR_PREFIX,
    array_prefix,
    decode_text,
    encode_text,
    identity_digest,
    sample_digest,
    sample_digests,
    sample_identity,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)


@given(ANY_TEXT)
def test_every_python_text_comes_back(text):
    assert decode_text(encode_text(text)) == text


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_have_different_bytes(one, other):
    assert (encode_text(one) == encode_text(other)) == (one == other)


def test_prefixes_tell_dtype_byte_order_and_shape_apart():
    prefixes = [
        array_prefix(np.dtype(dtype), shape)
        for dtype in ("<f4", ">f4", "<i4", "|b1", "|u1", "<c8", np.dtype(np.longdouble).str)
        for shape in ((), (1,), (1, 1), (11,), (1, 11), (11, 1))
    ]
    assert len({*prefixes, STR_PREFIX, BYTES_PREFIX}) == len(prefixes) + 2
    assert array_prefix(np.dtype("=i4"), (2,)) == array_prefix(np.dtype(np.int32), (2,))


@given(st.binary(max_size=70_000).filter(lambda data: True), st.binary(max_size=20))
def test_digests_are_blake3_of_prefix_and_payload(payload, prefix):
    assert sample_digest(prefix, payload) == blake3(prefix + payload).digest()
    assert sample_digest(prefix, memoryview(payload)) == sample_digest(prefix, payload)


def test_a_long_payload_has_the_same_digest_as_in_one_piece():
    payload = bytes(range(256)) * 1000
    assert sample_digest(b"bytes\0", payload) == blake3(b"bytes\0" + payload).digest()


@pytest.mark.parametrize("size", [0, 1, 33, 1024, 32_767, 32_768, 100_000, 1_500_000])
@pytest.mark.parametrize("prefix", [BYTES_PREFIX, b"ndarray\0|u1\0" + b"1," * 60])
def test_many_digests_are_those_of_each(size, prefix):
    payloads: list[Any] = [bytes([number]) * size for number in range(3)]
    payloads.append(memoryview(np.arange(size * 2 + 1, dtype=np.uint16).view(np.uint8)[1 : size + 1]))
    wanted = [blake3(prefix + bytes(payload)).digest() for payload in payloads]
    assert sample_digests(prefix, payloads) == wanted


@given(st.binary(max_size=80), st.one_of(st.none(), st.lists(st.integers(1, 2**40), max_size=5).map(tuple)))
def test_short_values_stand_for_themselves_and_long_ones_for_their_digest(payload, shape):
    identity = sample_identity(BYTES_PREFIX, payload, shape)
    literal = b"".join(n.to_bytes(8, "little") for n in shape or ()) + payload
    if len(literal) <= 32:
        assert identity == b"\0" + literal
        assert identity_digest(identity) is None
    else:
        assert identity_digest(identity) == sample_digest(BYTES_PREFIX, payload)
    assert identity == sample_identity(BYTES_PREFIX, memoryview(payload), shape)
