"""Putting together what commits to a repository."""

from __future__ import annotations

from hangar_cloud.catalog.committer import Committer
from hangar_cloud.storage import Storage


def make_committer(storage: Storage, author: str = "") -> Committer:
    """The committer of a repository; `author` is recorded in the log of its branches."""
    return Committer(
        storage.store,
        storage.cache,
        storage.pointers(author),
        storage.nodes,
        storage.index,
        storage.commit,
        shared=storage.is_bucket,
        moved=storage.moved_packs,
        purged=storage.purged,
    )
