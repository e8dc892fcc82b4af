"""Names that people type: branches or short digests, sizes, addresses."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_DIGITS: Final = re.compile(r"[0-9a-f]{4,64}")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def start_at(repository: Repository, startpoint: str | None, remote: str | None = None) -> dict[str, str]:
    """A branch name or short digest, as the ``branch=`` or ``commit=`` of a method.

    remote: whose branches are meant where this repository has none of that name.
    """
    if not startpoint:
        return {}
    branches = repository.list_branches()
    tracked = f"{remote}/{startpoint}"
    if startpoint not in branches and tracked in branches:
        return {"branch": tracked}
    is_digest = startpoint not in branches and _DIGITS.fullmatch(startpoint)
    return {"commit": startpoint} if is_digest else {"branch": startpoint}


def full_address(address: str) -> str:
    """An address with a relative path made whole: it is kept, and used from other folders later."""
    is_path = address in {".", ".."} or address.startswith(("./", "../", "~")) or os.path.isdir(address)
    return os.path.abspath(os.path.expanduser(address)) if is_path else address


class Size(click.ParamType):
    """A number of bytes, such as 500MB, 1.5GB or 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; give one such as 500MB, 1.5GB or 1024", param, ctx)
        base = 1024 if match[3] else 1000
        return int(float(match[1]) * base ** _POWERS[match[2].lower()])
