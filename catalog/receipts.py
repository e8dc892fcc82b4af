"""Receipts: idempotency keys of commits, kept with the history that holds the work they name.

A job that gives its commit a key can be run again after an unknown end: where the branch holds the key, the work is
done. A receipt is a row of the metadata tree under a reserved key, so it is merged, pushed and fetched with
everything else, and finding out costs one look-up however long the history is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from blake3 import blake3

from hangar_cloud.backends.values import sample_identity
from hangar_cloud.catalog.commits import METADATA, ColumnEntry, Commit
from hangar_cloud.catalog.errors import InvalidNameError
from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema

RESERVED_PREFIX: Final = ".hangar/"
_PREFIX: Final = f"{RESERVED_PREFIX}idempotency/"
_MAX_BYTES: Final = 120
_SCHEMA: Final = ColumnSchema("str")
NEW_METADATA: Final = ColumnEntry(_SCHEMA, None, "i0")


def check_idempotency_key(text: object) -> str:
    """The key itself if it may be one.

    Raises:
        InvalidNameError: it is not text of 1 to 120 UTF-8 bytes.
    """
    if isinstance(text, str) and text.strip():
        try:
            if len(text.encode()) <= _MAX_BYTES:
                return text
        except UnicodeEncodeError:
            pass
    raise InvalidNameError(
        f"idempotency_key {str(text)[:80]!r} is not suitable: give text of 1 to {_MAX_BYTES} UTF-8 bytes that names "
        "this piece of work and no other, such as 'ingest-2026-11-21-batch-7'"
    )


def is_reserved(key: object) -> bool:
    """True for keys of the metadata tree that are not the user's."""
    return isinstance(key, str) and key.startswith(RESERVED_PREFIX)


def receipt_change(text: str) -> tuple[bytes, Row]:
    """The row that records an idempotency key, with its encoded key."""
    payload = _SCHEMA.encode(text, "idempotency_key")
    identity = sample_identity(payload.prefix, payload.data, payload.shape)
    return encode_key(_row_key(text)), Row(identity, None, payload.data, payload.shape)


def has_receipt(nodes: NodeReader, trees: Mapping[str, ColumnEntry], text: str) -> bool:
    """Whether a commit's history holds the work of an idempotency key."""
    metadata = trees.get(METADATA)
    return metadata is not None and nodes.find(metadata.root, metadata.schema, _row_key(text)) is not None


def find_commit(nodes: NodeReader, look_up: Callable[[str], Commit], head: str | None, text: str) -> str | None:
    """The commit behind `head` that recorded an idempotency key; None if there is none."""
    if head is None or not has_receipt(nodes, look_up(head).trees, text):
        return None
    digest = head
    while True:
        parents = look_up(digest).parents
        earlier = next((parent for parent in parents if has_receipt(nodes, look_up(parent).trees, text)), None)
        if earlier is None:
            return digest
        digest = earlier


def _row_key(text: str) -> str:
    return _PREFIX + blake3(text.encode()).hexdigest(length=16)
