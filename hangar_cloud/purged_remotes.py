"""Purges between repositories: a fetch takes over those of a remote, and a push brings nothing purged back."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator

from hangar_cloud.backends.moves import Moves
from hangar_cloud.backends.packs import NO_PACK, pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.keys import decode_key
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.node_reader import node_extent
from hangar_cloud.catalog.records import NodeRef, records_path
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.tombstones import listed_tombstones, read_tombstones, tombstone_digest, tombstone_path
from hangar_cloud.errors import HangarError, PurgedError
from hangar_cloud.purging import take_over
from hangar_cloud.storage import Storage


def purged_in(leaf: Leaf, ref: NodeRef, schema: ColumnSchema, purged: Collection[bytes]) -> Iterator[tuple[bytes, str]]:
    """Digests of those samples of a leaf that were purged, and the names of the objects that they would be in."""
    for key, row in leaf.entries():
        digest = tombstone_digest(key, row.identity)
        if digest in purged:
            packed = row.place is not None and row.place.pack != NO_PACK
            yield digest, pack_path(row.place.pack) if row.place and packed else records_path(ref.place.object)


def refuse_purged(store: ObjectStore, moves: Moves, found: Iterable[tuple[bytes, str]]) -> None:
    """Raises PurgedError if a sample that was purged in a store would be brought there in another object.

    Args:
        store: where to.
        moves: of that store; it had what is in there, and knows what became of it.
        found: see `purged_in`.
    """
    for digest, path in found:
        if path in moves or store.exists(path):
            continue
        tombstone = read_tombstones(store, {digest}).get(digest)
        if tombstone is not None:
            error = tombstone.error()
            raise PurgedError(
                f"sample {digest.hex()[:12]} cannot be pushed to {store.url}: {error}. The branch was not moved there. "
                "`fetch` takes the purge over into this repository; then push again",
                *error.args[1:],
            )


def refuse_alive(storage: Storage, ref: NodeRef, schema: ColumnSchema) -> None:
    """Raises PurgedError if a leaf, as it would be pushed, has the value of a sample that was purged here.

    It came from a remote that knows nothing of the purge; whoever reads it here does not see it.
    """
    leaf, purged = storage.source.read(node_extent(ref, schema)), storage.purged.digests()
    for key, row in leaf.entries():
        digest = tombstone_digest(key, row.identity)
        if row.value is not None and digest in purged and (error := storage.purged.error(digest)) is not None:
            raise PurgedError(
                f"sample {decode_key(key)!r} is in what was fetched from a remote that knows nothing of its purge: "
                f"{error}. Nothing was pushed. Purge it in that remote, opened by its URL, and fetch; or purge it "
                "here once more. Then push again",
                *error.args[1:],
            )


def carry_tombstones(storage: Storage, store: ObjectStore, digests: Collection[bytes]) -> None:
    """Let a store that gets commits without the bytes of some samples know why they are not there."""
    for digest, tombstone in read_tombstones(storage.store, set(digests)).items():
        store.put_if_absent(tombstone_path(digest), tombstone.encode())


def take_over_purges(storage: Storage, store: ObjectStore) -> None:
    """Purge here what was purged in a remote.

    Warns:
        UserWarning: that was not possible now; the next fetch tries again.
    """
    new = listed_tombstones(store) - listed_tombstones(storage.store)
    if not new:
        return
    found = read_tombstones(store, new)
    try:
        take_over(storage, frozenset(found))
    except HangarError as error:
        warnings.warn(
            f"{store.url} purged {len(found)} samples, and they could not be purged here: {error}. Fetch again later",
            UserWarning,
            stacklevel=3,
        )
        return
    for digest, tombstone in found.items():
        storage.store.put_if_absent(tombstone_path(digest), tombstone.encode())
