"""Small JSON objects that notice damage: canonical text with a checksum of itself (pure)."""

from __future__ import annotations

import json
from typing import Any, Final

from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError

FORMAT_VERSION: Final = 1
_CHECKSUM_BYTES: Final = 16
_MAX_BYTES: Final = 64 * 1024 * 1024


def canonical(data: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII only. What is hashed is exactly this."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def seal(data: dict[str, Any]) -> bytes:
    """The object's bytes: the canonical text of `data` with its format version and checksum, and a newline."""
    body = {**data, "format": FORMAT_VERSION}
    return canonical({**body, "checksum": _checksum(body)}) + b"\n"


def unseal(text: bytes, what: str) -> dict[str, Any]:
    """The inverse of `seal`, every byte checked.

    Args:
        text: the object's bytes.
        what: names the object in messages.

    Raises:
        CorruptDataError: these are not the bytes that `seal` made.
        UnsupportedFormatError: written by a later format version.
    """
    if len(text) > _MAX_BYTES:
        raise CorruptDataError(f"{what} is damaged: {len(text)} bytes are too many for it")
    try:
        data = json.loads(text)
        claimed = data.pop("checksum")
        version = data["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptDataError(f"{what} is damaged: it is not the JSON text that was written") from error
    try:
        intact = claimed == _checksum(data) and canonical({**data, "checksum": claimed}) + b"\n" == text
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise CorruptDataError(f"{what} is damaged: its checksum does not match")
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"{what} has format version {version}, this hangar-cloud reads version {FORMAT_VERSION}; upgrade "
            "hangar-cloud"
        )
    del data["format"]
    return dict(data)


def _checksum(data: Any) -> str:
    return blake3(canonical(data)).hexdigest(length=_CHECKSUM_BYTES)
