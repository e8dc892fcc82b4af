"""Sample keys and names: what may be one, and the byte form that gives keys their order (pure).

Whole numbers come before text; the number 15 and the text "15" are different keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, TypeGuard

import numpy as np

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.catalog.errors import InvalidNameError

KeyType = int | str
RowKey = int | str | tuple[KeyType, KeyType]
"""The key of a row: a sample key, or in a nested column a pair of sample and subsample key."""

MAX_KEY_LENGTH: Final = 1024
MAX_ENCODED_KEY_LENGTH: Final = 2**16 - 1
MAX_ROWS: Final = 2**63 - 1
"""Of a column: what Python's len() can say."""
MAX_NAME_LENGTH: Final = 64
MAX_INT_KEY: Final = 2**63 - 1
_INT_TAG: Final = b"\1"
_STR_TAG: Final = b"\2"
_STR_KEY: Final = re.compile(r"[A-Za-z0-9._\-/]+", re.ASCII)
_ADVICE: Final[dict[type, str]] = {
    tuple: " (pairs (sample, subsample) are for columns made with contains_subsamples=True)",
    slice: " (many samples at once: items(), or get_batch(keys))",
    type(...): " (many samples at once: items(), or get_batch(keys))",
}
_NAME: Final = re.compile(r"[A-Za-z0-9._\-]+", re.ASCII)


def check_key(key: Any) -> KeyType:
    """The key itself if it may be one.

    Raises:
        InvalidNameError: it is neither a whole number from 0 to 2**63 - 1 nor text of ASCII letters,
            digits and ``. _ - /`` of at most 1,024 characters.
    """
    kind = type(key)
    if kind is int:
        if 0 <= key <= MAX_INT_KEY:
            return int(key)
        raise InvalidNameError(f"sample key {key} is not suitable: a whole number must be from 0 to 2**63 - 1")
    if kind is str:
        return _check_str_key(key)
    if isinstance(key, np.integer) or (isinstance(key, int) and not isinstance(key, bool)):
        return check_key(int(key))
    if isinstance(key, str):
        return _check_str_key(str(key))
    raise InvalidNameError(
        f"sample key {key!r} of type {kind.__name__} is not suitable: use a whole number >= 0, or text of "
        f"ASCII letters, digits and . _ - /{_ADVICE.get(kind, '')}"
    )


def is_name(name: object) -> TypeGuard[str]:
    """Whether a branch, tag, column or remote may be called so: see `check_name`."""
    fits = isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name)
    return bool(fits) and name not in (".", "..")


def check_name(name: Any, what: str) -> str:
    """The name itself if a branch, column or remote may have it; `what` says which, for the message.

    Raises:
        InvalidNameError: it is not text of 1 to 64 ASCII letters, digits, ``.``, ``_`` or ``-``.
    """
    if not is_name(name):
        raise InvalidNameError(
            f"{what} name {name!r} is not suitable: use 1 to {MAX_NAME_LENGTH} ASCII letters, digits or . _ - "
            "(no spaces)"
        )
    return name


def encode_key(key: RowKey) -> bytes:
    """Bytes whose order is the order of keys: numbers by value, then text by its ASCII bytes.

    The subsamples of a sample follow each other: their keys begin with the sample's.
    """
    if type(key) is int:
        return _INT_TAG + key.to_bytes(8, "big")
    if type(key) is tuple:
        return encode_key(key[0]) + encode_key(key[1])
    return _STR_TAG + key.encode("ascii") + b"\0"  # type: ignore[union-attr]


def decode_key(encoded: bytes) -> RowKey:
    """The inverse of `encode_key`.

    Raises:
        CorruptDataError: these are not the bytes of a key.
    """
    key, rest = _decode_part(encoded, encoded)
    if not rest:
        return key
    sub, rest = _decode_part(rest, encoded)
    if rest:
        raise CorruptDataError(f"{encoded!r} is not an encoded sample key")
    return key, sub


def key_range(sample: KeyType) -> tuple[bytes, bytes]:
    """Bounds of the encoded keys of a sample's subsamples: from the first to below the second."""
    prefix = encode_key(sample)
    return prefix, prefix + b"\xff"


def _decode_part(part: bytes, whole: bytes) -> tuple[KeyType, bytes]:
    if part[:1] == _INT_TAG and len(part) >= 9:
        return int.from_bytes(part[1:9], "big"), part[9:]
    end = part.find(b"\0")
    if part[:1] == _STR_TAG and end > 0:
        try:
            return part[1:end].decode("ascii"), part[end + 1 :]
        except UnicodeDecodeError:
            pass
    raise CorruptDataError(f"{whole!r} is not an encoded sample key")


def sort_keys(keys: Iterable[RowKey]) -> list[RowKey]:
    """Keys in tree order: numbers by value, then text."""
    return sorted(keys, key=encode_key)


def _check_str_key(key: str) -> str:
    if not _STR_KEY.fullmatch(key) or len(key) > MAX_KEY_LENGTH:
        raise InvalidNameError(
            f"sample key {key[:80]!r} is not suitable: use 1 to {MAX_KEY_LENGTH} ASCII letters, digits or . _ - /"
        )
    if "/" in key and (key[0] == "/" or key[-1] == "/" or "//" in key):
        raise InvalidNameError(f"sample key {key[:80]!r} is not suitable: '/' only between two parts")
    if ".." in key and ".." in key.split("/"):
        raise InvalidNameError(f"sample key {key[:80]!r} is not suitable: '..' may not be a part of it")
    return key
