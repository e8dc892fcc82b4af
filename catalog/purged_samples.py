"""Which samples of a repository were purged: asked by readers that find nothing, and by writers before they store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.errors import InvalidSampleError, PurgedError
from hangar_cloud.catalog.keys import RowKey, encode_key
from hangar_cloud.catalog.tombstones import FOLDER, find_tombstone, listed_tombstones, tombstone_digest


class PurgedSamples:
    """The tombstones of one repository.

    Args:
        store: where it is.
        source: reads its objects.
        out_of_reach: whether the store must not be asked.
    """

    def __init__(self, store: ObjectStore, source: ObjectSource, out_of_reach: Callable[[], bool]) -> None:
        self._store = store
        self._source = source
        self._out_of_reach = out_of_reach
        self._listed: set[bytes] | None = None

    def error(self, digest: bytes, here: bool = False) -> PurgedError | None:
        """What to raise for a sample of that digest if it was purged, else None; with `here`, remotes are not asked."""
        tombstone = find_tombstone(self._source, digest, here)
        return None if tombstone is None else tombstone.error()

    def any_here(self) -> bool:
        """Whether this machine may have any tombstone of the repository: one look, for hundreds of samples."""
        return os.path.lexists(f"{self._source.store}/{FOLDER}")

    def digests(self) -> set[bytes]:
        """Digests of all purged samples; of a bucket, as it was when that was first asked."""
        if self._store.local_path(FOLDER) is not None:
            return listed_tombstones(self._store)
        if self._listed is None:
            self._listed = set() if self._out_of_reach() else listed_tombstones(self._store)
        return self._listed

    def refuse(self, column: str, samples: Iterable[tuple[RowKey, bytes]]) -> None:
        """Raises InvalidSampleError if any of these keys and identities is of a purged sample."""
        purged = self.digests()
        if not purged:
            return
        for key, identity in samples:
            digest = tombstone_digest(encode_key(key), identity)
            if digest in purged:
                raise InvalidSampleError(
                    f"{f'column {column!r}' if column else 'metadata'}, sample {key!r}: "
                    f"{self.error(digest) or 'this sample was purged'}. It is not stored again: leave it out (where it "
                    f"is staged, `del column[{key!r}]`), or set another value"
                )

    def forget(self) -> None:
        """Look again when asked next."""
        self._listed = None
