"""What a repository's place cannot do, said before anything is tried."""

from __future__ import annotations

from pathlib import Path

from hangar_cloud.backends.errors import ReadOnlyStoreError, StoreUnavailableError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH
from hangar_cloud.errors import NotInitializedError


class Refusals:
    """The part of `Storage` that raises where something cannot be done there."""

    store: ObjectStore
    location: str
    root: Path
    offline: bool
    is_bucket: bool

    def refuse_offline(self, what: str) -> None:
        """Raises StoreUnavailableError if the repository was opened with ``offline=True``."""
        if self.offline:
            raise StoreUnavailableError(
                f"cannot {what}: {self.location} was opened with offline=True; open it again without"
            )

    def refuse_read_only(self, what: str) -> None:
        """Raises ReadOnlyStoreError if the store is known to take no writes, before anything is made for one."""
        if self.store.read_only:
            raise ReadOnlyStoreError(
                f"cannot {what}: {self.location} is read-only. Clone it into a folder and write there, or use the "
                "bucket's own URL"
            )

    def refuse_lost_file(self) -> None:
        """Raises NotInitializedError if a local store has branches, but nothing that marks it as a repository."""
        store = self.root / "store"
        if not self.is_bucket and (store / "refs" / "heads").is_dir() and not (store / REPOSITORY_PATH).exists():
            raise NotInitializedError(
                f"{REPOSITORY_PATH} is gone from {store}, though there are branches: copy it from a clone or a remote "
                "of this repository, where it is the same"
            )
