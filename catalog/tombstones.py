"""Tombstones: what is left of a sample that was purged. When, by whom and why (pure format, and where they lie).

    purged/<digest>.json    sealed JSON

`docs/format.md` section "Purged samples" is the normative text.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from typing import Final, NamedTuple

from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError, ObjectNotFoundError
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.errors import PurgedError
from hangar_cloud.catalog.sealed_json import seal, unseal

FOLDER: Final = "purged"
MAX_REASON: Final = 4096
_NAME: Final = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)
# A repository may come from anybody, and what it says is printed on terminals.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MAX_TEXT: Final = 16 * 1024


class Tombstone(NamedTuple):
    """What is known of a purged sample.

    Attributes:
        digest: see `tombstone_digest`, 32 bytes.
        time: when it was purged; UTC, ISO 8601 with microseconds.
        reason: why, in the words of who did it.
        author: who did it, as ``Name <address>``.
        software: version of the program.
    """

    digest: bytes
    time: str
    reason: str
    author: str
    software: str

    def encode(self) -> bytes:
        """The bytes of its object."""
        return seal({**self._asdict(), "digest": self.digest.hex()})

    def error(self) -> PurgedError:
        """What to say to who wants to read the sample."""
        author, reason = (_CONTROL.sub("?", text) for text in (self.author, self.reason))
        return PurgedError(
            f"the sample was purged at {self.time} by {author}: {reason.rstrip('.')}. Its bytes are gone from all of "
            "history for good; that it was there is all that is left",
            self.digest.hex(),
            self.time,
            self.author,
            self.reason,
        )


def tombstone_digest(key: bytes, identity: bytes) -> bytes:
    """The digest that a sample's tombstone is named after: 32 bytes.

    It is the sample's own. Values of up to 32 bytes, which history hashes themselves, are equal by chance, as labels
    are. So the key goes into the digest of such a one, and its purge leaves those of other keys alone.

    Args:
        key: the encoded key.
        identity: what history hashes, see `values.sample_identity`.
    """
    if identity[:1] == b"\1":
        return identity[1:]
    return blake3(b"literal\0" + len(key).to_bytes(2, "little") + key + identity[1:]).digest()


def new_tombstone(digest: bytes, reason: str, author: str, software: str) -> Tombstone:
    """A tombstone of this moment."""
    time = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    return Tombstone(digest, time, reason, author, software)


def tombstone_path(digest: bytes) -> str:
    """The object name of a sample's tombstone."""
    return f"{FOLDER}/{digest.hex()}.json"


def decode_tombstone(text: bytes, digest: bytes) -> Tombstone:
    """The tombstone in an object's bytes. Raises CorruptDataError if it is not that of the digest."""
    path = tombstone_path(digest)
    data = unseal(text, path)
    fields = [data.get(name) for name in Tombstone._fields]
    if not all(isinstance(value, str) and len(value) <= _MAX_TEXT for value in fields):
        raise CorruptDataError(f"{path} is damaged: it lacks some of what a tombstone says")
    if fields[0] != digest.hex():
        raise CorruptDataError(f"{path} is damaged: it is the tombstone of another sample")
    _, time, reason, author, software = map(str, fields)
    return Tombstone(digest, time, reason, author, software)


def find_tombstone(source: ObjectSource, digest: bytes, here: bool) -> Tombstone | None:
    """The tombstone of a sample, None if there is none, or none that can be read.

    Args:
        source: reads objects.
        digest: of the sample.
        here: look on this machine only.
    """
    path = tombstone_path(digest)
    # Asked of every sample that is read from a file: joined as text, that takes a fifth of the time.
    if here and not os.path.exists(f"{source.store}/{path}"):
        return None
    try:
        return source.read_object(path, lambda text: decode_tombstone(text, digest))
    except (CorruptDataError, DataNotLocalError, ObjectNotFoundError):
        return None


def listed_tombstones(store: ObjectStore) -> set[bytes]:
    """Digests of all samples that a store has tombstones of; one listing, and nothing is read."""
    if not store.can_list:
        return set()
    return {bytes.fromhex(match[1]) for match in map(_NAME.fullmatch, store.list_children(FOLDER)) if match}


def read_tombstones(store: ObjectStore, digests: set[bytes]) -> dict[bytes, Tombstone]:
    """Those of the tombstones that a store has. Raises CorruptDataError."""
    ordered = sorted(digests)
    texts = store.get_many([tombstone_path(digest) for digest in ordered])
    found = {digest: text for digest, text in zip(ordered, texts, strict=True) if text is not None}
    return {digest: decode_tombstone(text, digest) for digest, text in found.items()}
