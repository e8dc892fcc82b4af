"""Keys as file names, and file names as keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote

from hangar_cloud.catalog.keys import KeyType, check_key
from hangar_cloud.errors import InvalidNameError, UnexportableError, UnreadableFileError

KeyForm = Literal["int", "str", "tagged"]
"""How keys are written where there is only text: all of them numbers, all text, or each with its type before it."""

_UNSUITABLE: Final = re.compile(r"[^A-Za-z0-9._\-/]+", re.ASCII)


def form_of(keys: Iterable[KeyType]) -> KeyForm:
    """The plainest form that tells these keys apart."""
    kinds: set[type] = set()
    for key in keys:
        kinds.add(type(key))
        if len(kinds) > 1:
            return "tagged"
    return "int" if int in kinds else "str"


def write_key(key: KeyType, form: KeyForm) -> str:
    """A key as text: ``7``, ``cat/001``, or tagged ``int:7`` and ``str:cat/001``."""
    return tagged(key) if form == "tagged" else str(key)


def read_key(text: str, form: KeyForm) -> KeyType:
    """The inverse of `write_key`. Raises UnreadableFileError where it is none."""
    try:
        if form == "tagged":
            return parse_tagged(text)
        return check_key(int(text) if form == "int" else text)
    except ValueError as error:
        raise UnreadableFileError(f"{text[:80]!r} is not a sample key: {error}") from None


def tagged(key: KeyType) -> str:
    """A key with its type: ``int:7``, ``str:7``."""
    return f"{'int' if isinstance(key, int) else 'str'}:{key}"


def parse_tagged(text: str) -> KeyType:
    """The key of ``int:7`` or ``str:7``; text without a type is a str key.

    Raises:
        InvalidNameError: it cannot be a key.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "int":
        if not (rest.isascii() and rest.isdigit()):
            raise InvalidNameError(f"sample key {text[:80]!r} is not suitable: after int: there must be a whole number")
        return check_key(int(rest))
    return check_key(rest if colon and kind == "str" else text)


def clean_name(text: str) -> str:
    """A relative path in which what a key cannot hold is ``_``."""
    return _UNSUITABLE.sub("_", text)


def file_of(folder: str | os.PathLike[str], name: str, extension: str) -> Path:
    """The path of the file that a sample called `name` (a key as text) goes to.

    A key may be a path itself; parts of it that would mean another folder are refused.

    Raises:
        UnexportableError: the file would lie elsewhere.
    """
    parts = name.split("/")
    ending = extension.lstrip(".")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts) or set("/\\\0") & set(ending):
        raise UnexportableError(f"sample {name!r} cannot be a file .{ending}: its path would lead elsewhere")
    return Path(folder, *parts[:-1], f"{parts[-1]}.{ending}")


def quote_stem(name: str) -> str:
    """A key as the name of a member of a WebDataset tar: a dot in its last part would begin the ending."""
    folders, slash, last = name.rpartition("/")
    # A part that is "." would vanish when the path is made a short one.
    head = "/".join("%2E" if part == "." else part for part in folders.split("/"))
    return head + slash + _without_dots(last)


def quote_field(name: str) -> str:
    """A key as a part of an ending: without dots and slashes."""
    return _without_dots(quote(name, safe="-_.:"))


def unquote_name(text: str) -> str:
    """The inverse of `quote_stem` and `quote_field`."""
    return unquote(text)


def _without_dots(part: str) -> str:
    return part.replace(".", "%2E")
