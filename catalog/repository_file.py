"""`hangar.json`: what marks a store as a repository, and in which format (pure)."""

from __future__ import annotations

import re
import uuid
from typing import Final, NamedTuple

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.catalog.sealed_json import FORMAT_VERSION, load_json, seal, unseal

REPOSITORY_PATH: Final = "hangar.json"
_DIGEST_ALGORITHM: Final = "blake3-256"
# It becomes a part of file names on the reader's machine.
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class RepositoryFile(NamedTuple):
    """What `hangar.json` says: the repository's id, and the version of hangar-cloud that made it."""

    id: str
    software: str


def new_repository_file(software: str) -> tuple[str, bytes]:
    """A fresh repository id, and the bytes of its `hangar.json`."""
    name = uuid.uuid4().hex
    return name, seal({"digest": _DIGEST_ALGORITHM, "id": name, "software": software})


def decode_repository_file(text: bytes, where: str) -> RepositoryFile:
    """What `hangar.json` says.

    Raises:
        UnsupportedFormatError: of a later format version, which is said even if all else changed.
        CorruptDataError: damaged.
    """
    what = f"{REPOSITORY_PATH} of {where}"
    try:
        version = load_json(text, what)["format"]
    except (KeyError, TypeError) as error:
        raise CorruptDataError(f"{what} is damaged: it is not the JSON text that was written") from error
    if isinstance(version, int) and FORMAT_VERSION < version < 1_000:
        raise UnsupportedFormatError(
            f"the repository at {where} has format version {version}; this hangar-cloud reads version "
            f"{FORMAT_VERSION}. Upgrade hangar-cloud to open it"
        )
    body = unseal(text, what)
    if body.get("digest") != _DIGEST_ALGORITHM or "id" not in body:
        raise UnsupportedFormatError(
            f"{what} names a digest algorithm that this hangar-cloud does not know; upgrade it"
        )
    if not isinstance(body["id"], str) or not _ID.fullmatch(body["id"]):
        raise CorruptDataError(f"{what} is damaged: its id is not 32 hexadecimal digits")
    return RepositoryFile(body["id"], str(body.get("software", "")))
