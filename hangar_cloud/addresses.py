"""From the address of a remote, as people write it, to the store behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hangar_cloud.backends.store import ObjectStore, open_store
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH


def open_remote(address: str, options: Mapping[str, Any]) -> ObjectStore:
    """The store of a remote: a bucket, a folder used as one, or another local repository's own store.

    Raises:
        UnsupportedStoreError: the address is not one that can be opened.
    """
    store = open_store(address, options)
    mark = store.local_path(REPOSITORY_PATH)
    if mark is not None and not mark.exists():
        inner = mark.parent / ".hangar" / "store"
        if (inner / REPOSITORY_PATH).exists():
            return open_store(str(inner))
    return store
