"""Small JSON objects that notice damage: canonical text with a checksum of itself (pure)."""

from __future__ import annotations

import json
from typing import Any, Final

from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.catalog.errors import ObjectTooLargeError

FORMAT_VERSION: Final = 1
_CHECKSUM_BYTES: Final = 16
# What one object may cost a reader: a value takes some 100 bytes of memory where its text may be two characters.
_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_VALUES: Final = 400_000
_MAX_DEPTH: Final = 32


def canonical(data: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII only. What is hashed is exactly this."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def seal(data: dict[str, Any]) -> bytes:
    """The object's bytes: the canonical text of `data` with its format version and checksum, and a newline.

    Raises:
        ObjectTooLargeError: no reader would take an object of that size.
    """
    halves = _halves({**data, "format": FORMAT_VERSION})
    text = _sealed(halves, _checksum(halves))
    excess = _excess(text)
    if excess:
        raise ObjectTooLargeError(
            f"an object of the repository would have {excess}; nothing refers to it, and what is staged is kept. Use "
            "fewer columns (samples of one kind belong into one column), or a shorter message"
        )
    return text


def unseal(text: bytes, what: str) -> dict[str, Any]:
    """The inverse of `seal`, every byte checked.

    Args:
        text: the object's bytes.
        what: names the object in messages.

    Raises:
        CorruptDataError: these are not the bytes that `seal` made.
        UnsupportedFormatError: written by a later format version.
    """
    data = load_json(text, what)
    try:
        claimed = data.pop("checksum")
        version = data["format"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(f"{what} is damaged: it is not the JSON text that was written") from error
    try:
        halves = _halves(data)
        intact = claimed == _checksum(halves) and _sealed(halves, claimed) == text
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


def load_json(text: bytes, what: str) -> Any:
    """The JSON in an object's bytes, nothing checked but what reading it may cost. Raises CorruptDataError."""
    excess = _excess(text)
    if excess:
        raise CorruptDataError(f"{what} is damaged: it has {excess}")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptDataError(f"{what} is damaged: it is not the JSON text that was written") from error
    if _depth(data) > _MAX_DEPTH:
        raise CorruptDataError(f"{what} is damaged: it is nested more than {_MAX_DEPTH} levels deep")
    return data


def _depth(data: Any) -> int:
    """How deep objects and lists are nested, without recursion; what is deeper than is allowed is not counted."""
    depth = 0
    level = [data]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        nodes = [node for node in level if isinstance(node, (dict, list))]
        level = [value for node in nodes for value in (node.values() if isinstance(node, dict) else node)]
    return depth


def _excess(text: bytes) -> str | None:
    if len(text) > _MAX_BYTES:
        return f"{len(text):,} bytes, where at most {_MAX_BYTES:,} are read"
    values = text.count(b",") + text.count(b"{") + text.count(b"[")
    return f"{values:,} values, where at most {_MAX_VALUES:,} are read" if values > _MAX_VALUES else None


def _halves(data: dict[str, Any]) -> tuple[bytes, bytes]:
    """The canonical texts of what comes before and behind the checksum: made once, for the checksum and the object."""
    before = {name: value for name, value in data.items() if name < "checksum"}
    behind = {name: value for name, value in data.items() if name > "checksum"}
    return canonical(before)[1:-1], canonical(behind)[1:-1]


def _joined(*parts: bytes) -> bytes:
    return b"{%b}" % b",".join(filter(None, parts))


def _checksum(halves: tuple[bytes, bytes]) -> str:
    return blake3(_joined(*halves)).hexdigest(length=_CHECKSUM_BYTES)


def _sealed(halves: tuple[bytes, bytes], checksum: str) -> bytes:
    before, behind = halves
    return _joined(before, b'"checksum":' + canonical(checksum), behind) + b"\n"
