"""Names that people type: branches and commits, sizes, addresses."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_DIGITS: Final = re.compile(r"[0-9a-f]{4,64}")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def start_at(repository: Repository, startpoint: str | None, remote: str | None = None) -> dict[str, str]:
    """A branch, or a commit by any name, as the ``branch=`` or ``commit=`` of a method.

    remote: whose branches are meant where this repository has none of that name.
    """
    if not startpoint:
        return {}
    branches = repository.list_branches()
    tracked = f"{remote}/{startpoint}"
    if startpoint not in branches and tracked in branches:
        return {"branch": tracked}
    is_commit = startpoint not in branches and _names_commit(repository, startpoint)
    return {"commit": startpoint} if is_commit else {"branch": startpoint}


def _names_commit(repository: Repository, text: str) -> bool:
    from hangar_cloud.revisions import parse_earlier

    if _DIGITS.fullmatch(text) or parse_earlier(text):
        return True
    return repository._storage.tags().find(text) is not None


def full_address(address: str) -> str:
    """An address with a relative path made whole: it is kept, and used from other folders later."""
    is_path = address in {".", ".."} or address.startswith(("./", "../", "~")) or os.path.isdir(address)
    return os.path.abspath(os.path.expanduser(address)) if is_path else address


def parse_size(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """An option's number of bytes, given as 500MB, 1.5GB, 2GiB or 1024."""
    return None if text is None else parse_bytes(text)


def parse_bytes(text: str) -> int:
    """A number of bytes from 500MB, 1.5GB, 2GiB or 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size; give one such as 500MB, 1.5GB or 1024")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS[match[2].lower()])
