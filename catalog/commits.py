"""Commits: who recorded what, on top of what; and the objects that hold them (pure format).

A commit's digest is BLAKE3-256 over its canonical text, which names parents and the logical root of
every column. Where the roots lie is kept beside it in the same object, unhashed: data can be moved
without touching history. `docs/format.md` section "Commits" is the normative text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from blake3 import blake3

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.catalog.keys import MAX_ENCODED_KEY_LENGTH, MAX_ROWS, check_name
from hangar_cloud.catalog.records import MAX_LEVEL, NODE_DIGEST_LENGTH, NodeRef, SegmentPlace
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.sealed_json import canonical, seal, unseal

DIGEST_HEX_LENGTH: Final = 64
METADATA: Final = ""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_PARENTS: Final = 2
_MAX_TIME_LENGTH: Final = 64


@dataclass(frozen=True)
class ColumnEntry:
    """One column at one commit: its schema, where new values go, and the root of its records."""

    schema: ColumnSchema
    root: NodeRef | None = None
    backend: str = "p0"
    backend_options: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of rows."""
        return 0 if self.root is None else self.root.count


@dataclass(frozen=True)
class Commit:
    """One commit. `time` is UTC in ISO 8601 with microseconds; `columns` is sorted by name."""

    parents: tuple[str, ...]
    columns: dict[str, ColumnEntry]
    author: str
    email: str
    time: str
    message: str
    metadata: ColumnEntry | None = None

    @property
    def trees(self) -> dict[str, ColumnEntry]:
        """All record trees by column name, the metadata's too, under the name that no column can have."""
        return self.columns if self.metadata is None else {METADATA: self.metadata, **self.columns}

    def hashed_text(self) -> bytes:
        """The canonical text whose BLAKE3-256 is the commit's digest."""
        return canonical(self._hashed())

    def _hashed(self) -> dict[str, Any]:
        return {
            "author": self.author,
            "columns": {name: _entry_json(entry) for name, entry in self.columns.items()},
            "email": self.email,
            "message": self.message,
            "metadata": None if self.metadata is None else _entry_json(self.metadata),
            "parents": list(self.parents),
            "time": self.time,
        }

    def digest(self) -> str:
        """64 hex digits."""
        return self._digest

    @lazy_property
    def _digest(self) -> str:
        # Kept, since the text of a commit of a thousand columns takes some 5 ms to make.
        return blake3(self.hashed_text()).hexdigest()

    def encode(self) -> bytes:
        """The bytes of the commit's object."""
        places = {name: _place_json(entry.root) for name, entry in self.columns.items() if entry.root is not None}
        data: dict[str, Any] = {"commit": self._hashed(), "places": places}
        if self.metadata is not None and self.metadata.root is not None:
            data["metadata_place"] = _place_json(self.metadata.root)
        return seal(data)


def make_commit(
    parents: tuple[str, ...],
    trees: dict[str, ColumnEntry],
    author: str,
    email: str,
    message: str,
    time: str | None = None,
) -> Commit:
    """A commit of now, or of `time`. `trees` is as in `Commit.trees`."""
    columns = {name: entry for name, entry in sorted(trees.items()) if name != METADATA}
    now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    return Commit(parents, columns, author, email, time or now, message, trees.get(METADATA))


def commit_path(digest: str) -> str:
    """The object name of a commit.

    Raises:
        CorruptDataError: it is not the digest of one. Digests come from stores that anybody may have written.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise CorruptDataError(f"{str(digest)[:80]!r} is not the digest of a commit, though something refers to it so")
    return f"commits/{digest}.json"


def decode_commit(text: bytes, digest: str) -> Commit:
    """The commit in an object's bytes.

    Raises:
        CorruptDataError: damaged, or not the commit of that digest.
        UnsupportedFormatError: of a later format.
    """
    what = f"commit {digest[:12]}"
    data = unseal(text, what)
    try:
        body, places = data["commit"], data["places"]
        columns = {
            check_name(name, "column"): _entry(entry, places.get(name))
            for name, entry in sorted(body["columns"].items())
        }
        metadata = None if body["metadata"] is None else _entry(body["metadata"], data.get("metadata_place"))
        commit = Commit(
            tuple(str(parent) for parent in body["parents"]),
            columns,
            str(body["author"]),
            str(body["email"]),
            str(body["time"]),
            str(body["message"]),
            metadata,
        )
        if len(commit.parents) > _MAX_PARENTS:
            raise CorruptDataError(f"it has {len(commit.parents)} parents")
        for parent in commit.parents:
            if not _DIGEST.fullmatch(parent):
                raise CorruptDataError(f"its parent {parent[:80]!r} is not the digest of a commit")
        if len(commit.time) > _MAX_TIME_LENGTH:
            raise CorruptDataError("its time is not one")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CorruptDataError(f"{what} is damaged: {error}") from error
    if commit.digest() != digest:
        raise CorruptDataError(f"{what} is damaged: its contents have the digest {commit.digest()[:12]}")
    return commit


def _entry_json(entry: ColumnEntry) -> dict[str, Any]:
    root = entry.root
    return {
        "backend": entry.backend,
        "backend_options": entry.backend_options,
        "count": entry.count,
        "level": 0 if root is None else root.level,
        "root": None if root is None else root.digest.hex(),
        "schema": entry.schema.to_json(),
    }


def _place_json(root: NodeRef) -> dict[str, Any]:
    place = root.place
    return {
        "checksum": f"{place.checksum:016x}",
        "first": root.first.hex(),
        "length": place.length,
        "object": place.object.hex(),
        "offset": place.offset,
    }


def _entry(data: Any, place: Any) -> ColumnEntry:
    schema = ColumnSchema.from_json(data["schema"])
    root = None
    if data["root"] is not None:
        where = SegmentPlace(
            bytes.fromhex(place["object"]), int(place["offset"]), int(place["length"]), int(place["checksum"], 16)
        )
        numbers = (where.offset, where.length)
        if len(where.object) != 16 or not all(0 <= n < 2**63 for n in numbers) or not 0 <= where.checksum < 2**64:
            raise CorruptDataError("a column's root lies nowhere")
        root = NodeRef(
            int(data["level"]), bytes.fromhex(place["first"]), int(data["count"]), bytes.fromhex(data["root"]), where
        )
        sound = 0 <= root.level <= MAX_LEVEL and 1 <= root.count <= MAX_ROWS
        if not sound or len(root.digest) != NODE_DIGEST_LENGTH or len(root.first) > MAX_ENCODED_KEY_LENGTH:
            raise CorruptDataError("a column's root is not one")
    return ColumnEntry(schema, root, str(data["backend"]), dict(data["backend_options"]))
