"""What a web server gives out of a repository: which objects, and which bytes of them (pure)."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime
    from email.message import Message

    Headers = Message

_NAME: Final = r"(?!\.{1,2}/)[A-Za-z0-9._-]{1,64}"
# Named one by one: locks of collections, unfinished files and whatever else lies in the folder is nobody's business.
_OBJECTS: Final = re.compile(
    r"hangar\.json|refs/hint\.json"
    rf"|refs/(heads|tags)/{_NAME}/[0-9]{{10}}\.json"
    r"|commits/[0-9a-f]{64}\.json"
    r"|records/[0-9a-f]{32}\.parquet"
    r"|packs/[0-9a-f]{2}/[0-9a-f]{32}\.pack"
    r"|arrays/[0-9a-f]{32}(/(?!\.{1,2}(/|$))(?!\.hangar-)[A-Za-z0-9._-]{1,255}){1,8}"
    r"|moves/[0-9]{10}\.parquet"
    r"|purged/[0-9a-f]{64}\.json",
    re.ASCII,
)
_TYPES: Final = {".json": "application/json", ".parquet": "application/vnd.apache.parquet"}
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Part(NamedTuple):
    """Bytes of an object: the first, and how many."""

    start: int
    length: int


class Unsatisfiable(ValueError):  # noqa: N818 - HTTP's own word for it
    """A range that begins behind the end of the object."""


def is_served(name: str) -> bool:
    """Whether an object of this name is part of the repository, and so may be read by anybody."""
    return _OBJECTS.fullmatch(name) is not None


def media_type(name: str) -> str:
    """What to call the contents of an object, by its name."""
    return _TYPES.get("." + name.rpartition(".")[2], "application/octet-stream")


def wanted_part(header: str | None, size: int) -> Part | None:
    """The bytes that a Range header asks for; None for all of them.

    Headers that are not understood, and those that ask for several ranges, get everything, as RFC 9110 allows.

    Args:
        header: the header's value.
        size: of the object, in bytes.

    Raises:
        Unsatisfiable: the range begins behind the end, or is of no bytes.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if length == 0:
            raise Unsatisfiable(header)
        return Part(size - length, length)
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        raise Unsatisfiable(header)
    return Part(first, last - first + 1)


def is_unchanged(headers: Headers, tag: str, modified: datetime) -> bool:
    """Whether the conditions of a request say that the client has this version of the object already."""
    tags = headers.get("If-None-Match")
    if tags is not None:
        return tags.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in tags.split(","))
    since = _moment(headers.get("If-Modified-Since"))
    return since is not None and modified.replace(microsecond=0) <= since


def fails_condition(headers: Headers, tag: str, modified: datetime) -> bool:
    """Whether a request is only meant for another version of the object."""
    tags = headers.get("If-Match")
    if tags is not None:
        return tags.strip() != "*" and tag not in (one.strip() for one in tags.split(","))
    before = _moment(headers.get("If-Unmodified-Since"))
    return before is not None and modified.replace(microsecond=0) > before


def range_counts(headers: Headers, tag: str, modified: datetime) -> bool:
    """Whether a Range header holds, or (If-Range) is for another version, so that everything has to be sent."""
    condition = headers.get("If-Range")
    if condition is None or condition.strip() == tag:
        return True
    moment = _moment(condition)
    return moment is not None and modified.replace(microsecond=0) == moment


def _moment(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
