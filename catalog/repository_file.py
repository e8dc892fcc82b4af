"""`hangar.json`: what marks a store as a repository, and in which format (pure)."""

from __future__ import annotations

import json
import uuid
from typing import Final, NamedTuple

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.catalog.sealed_json import FORMAT_VERSION, seal, unseal

REPOSITORY_PATH: Final = "hangar.json"
_DIGEST_ALGORITHM: Final = "blake3-256"


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
        data = json.loads(text)
        version = data["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
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
    return RepositoryFile(str(body["id"]), str(body.get("software", "")))
