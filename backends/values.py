"""Canonical bytes of a sample, and the digest or literal that stands for it in history.

A sample is one of three kinds: an ndarray, a str, or bytes. Its *payload* is the C-order array
bytes, the UTF-8 text (lone surrogates kept, so every Python str round-trips), or the bytes
themselves. Its *prefix* says what the payload means, so that equal bytes of different shape or
dtype are different samples. `docs/format.md` section "Sample identity" is the normative text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from typing import Final, Union

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from hangar_cloud.backends.byte_rows import ByteRows

SampleValue = Union["npt.NDArray[np.generic]", str, bytes]

DIGEST_LENGTH: Final = 32
LITERAL_LIMIT: Final = 32
STR_PREFIX: Final = b"str\0"
BYTES_PREFIX: Final = b"bytes\0"
# Up to so many bytes a copy behind the prefix costs less than a second call of the hash (by 4 to 10% of all of it), and
# other threads take Python's lock at each call.
_COPIED: Final = 1024 * 1024
# What begins amid one of BLAKE3's chunks is hashed a few chunks at a time: a tenth slower.
_WHOLE_CHUNKS: Final = 16 * 1024
_LONG: Final = 2 * _WHOLE_CHUNKS


def array_prefix(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """Prefix of an array sample: dtype with its byte order, then the dimensions.

    >>> array_prefix(np.dtype("uint8"), (28, 28))
    b'ndarray\\x00|u1\\x0028,28\\x00'
    """
    dimensions = ",".join(map(str, shape))
    return f"ndarray\0{dtype.str}\0{dimensions}\0".encode("ascii")


@lru_cache(maxsize=1024)
def payload_size(prefix: bytes) -> int | None:
    """Bytes of the payload of an array sample, from its prefix; None for text and bytes.

    >>> payload_size(b"ndarray\\0<f4\\x0028,28\\0")
    3136
    """
    if prefix in (STR_PREFIX, BYTES_PREFIX):
        return None
    _, dtype, dimensions, _ = prefix.decode("ascii").split("\0")
    return prod(map(int, filter(None, dimensions.split(",")))) * np.dtype(dtype).itemsize


def encode_text(text: str) -> bytes:
    """UTF-8 bytes of `text`; lone surrogates are kept in their three-byte form."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(payload: bytes | memoryview) -> str:
    """The inverse of `encode_text`."""
    return bytes(payload).decode("utf-8", "surrogatepass")


def sample_digest(prefix: bytes, payload: bytes | memoryview) -> bytes:
    """BLAKE3-256 (32 bytes) of prefix and payload: the name of a sample in history."""
    if len(payload) <= _COPIED:
        return blake3(prefix + payload).digest()
    return sample_digests(prefix, [payload])[0]


def sample_digests(prefix: bytes, payloads: Iterable[bytes | memoryview]) -> list[bytes]:
    """What `sample_digest` gives for each payload, all with one prefix; quicker for many."""
    found: list[bytes] = []
    hasher = blake3()
    begin = _WHOLE_CHUNKS - len(prefix)
    # To begin anew with one hasher takes a quarter less than one for each, and two updates less than a joined copy.
    add, reset, update, digest = found.append, hasher.reset, hasher.update, hasher.digest
    for payload in payloads:
        reset()
        if len(payload) < _LONG:
            update(prefix)
            update(payload)
        else:
            view = memoryview(payload).cast("B")
            update(prefix + view[:begin])
            update(view[begin:])
        add(digest())
    return found


def sample_identity(prefix: bytes, payload: bytes | memoryview, shape: tuple[int, ...] | None) -> bytes:
    """What a record tree hashes for one sample: the value itself when short, else its digest.

    A value of at most 32 bytes (dimensions of a variable shape included) stands for itself,
    because its digest would be no shorter. The first byte tells the two apart: 0 for a literal,
    1 for a digest. The choice depends on the value alone, never on where it is stored.

    Args:
        prefix: what the payload means, see `array_prefix`.
        payload: canonical bytes.
        shape: dimensions of a variable-shape array, None where the schema fixes them.
    """
    literal = bytes(payload) if len(payload) <= LITERAL_LIMIT else None
    if literal is not None and shape is not None:
        literal = b"".join(n.to_bytes(8, "little") for n in shape) + literal
    if literal is not None and len(literal) <= LITERAL_LIMIT:
        return b"\0" + literal
    return b"\1" + sample_digest(prefix, payload)


def sample_identities(prefix: bytes, payloads: Sequence[bytes | memoryview]) -> list[bytes]:
    """What `sample_identity` gives for each payload, without shapes and all with one prefix; quicker for many."""
    digests = iter(sample_digests(prefix, [payload for payload in payloads if len(payload) > LITERAL_LIMIT]))
    return [b"\1" + next(digests) if len(payload) > LITERAL_LIMIT else b"\0" + payload for payload in payloads]


def digests_of(identities: Sequence[bytes]) -> ByteRows:
    """The digests in identities that all have one."""
    if isinstance(identities, ByteRows):
        return ByteRows.of(identities.matrix[:, 1:])
    return ByteRows(b"".join(identity[1:] for identity in identities), DIGEST_LENGTH)


def identity_digest(identity: bytes) -> bytes | None:
    """The 32-byte digest inside an identity, or None where the identity is a literal."""
    return identity[1:] if identity[:1] == b"\1" else None
