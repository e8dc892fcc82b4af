"""Putting finished objects where the repository is, and keeping what was uploaded readable here."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.durable_files import (
    disk_errors_told,
    flush_folder,
    make_folder,
    publish_over,
    replace_file,
    temporary_sibling,
)
from hangar_cloud.catalog.early_uploads import EarlyUploads

Progress = Callable[[int], None]


class Publisher:
    """Writes immutable objects to a store and, where that is a bucket, into its cache.

    Args:
        store: where the repository is: a local store, or the bucket itself.
        cache: folder of whole objects copied from the bucket; None where `store` is local.
    """

    def __init__(self, store: ObjectStore, cache: Path | None) -> None:
        self._store = store
        self._cache = cache
        self._published: set[str] = set()
        self._early = EarlyUploads(store)
        self.names: set[str] = set()
        """All that was published, or found to be there, since `begin`."""

    def pack(self, file: Path, name: str, progress: Progress | None = None) -> None:
        """Publish a sealed pack file under its name. Raises StoreError; may be repeated, and sends it once."""
        self.names.add(name)
        if name in self._published:
            return
        if self._early.finish(name):
            self.sent(file, name)
            return
        local = self._store.local_path(name)
        if local is None:
            self._store.upload(name, file, progress=progress)
            self._keep(file, name)
        else:
            self._store.ensure_writable()
            with disk_errors_told(local):
                _link(file, local)
            if progress is not None:
                progress(file.stat().st_size)
        self._published.add(name)

    def begin_pack(self, file: Path, name: str) -> None:
        """Begin to send a sealed pack file to a bucket. If that fails, `pack` does it again, and says why it cannot."""
        self._early.begin(name, file)

    def stop(self) -> None:
        """Send no more of what was begun; returns when nothing of it is on its way."""
        self._early.stop()

    def sent(self, file: Path, name: str) -> None:
        """Take note that another process of this machine has uploaded a pack file."""
        self._keep(file, name)
        self._published.add(name)

    def begin(self, *, again: bool = False) -> None:
        """Start to publish one commit; `again` if objects vanished meanwhile, so that nothing counts as sent."""
        self.names.clear()
        if again:
            self._published.clear()

    def start_over(self) -> None:
        """Forget what was sent, once it is part of history: from then on it may be removed again."""
        self._early.stop()
        self._published.clear()
        self.names.clear()

    def put(self, path: str, data: bytes) -> None:
        """Publish a small object, named after its contents. Raises StoreError; may be repeated, and sends it once."""
        self.names.add(path)
        if path in self._published:
            # Of a race that was lost, the leaves that nobody else changed are the same again.
            return
        if not self._store.put_if_absent(path, data):
            # Names are made from the contents, so other bytes under this name are damaged ones.
            raise CorruptDataError(
                f"{path} at {self._store.url} is damaged: it is not what its name says. Nothing was committed and what "
                "is staged is kept. Delete that object, or fetch it again from a remote, and commit again"
            )
        if self._cache is not None:
            # It is in the bucket: a full disk here is no reason to fail.
            with contextlib.suppress(OSError):
                replace_file(self._cache / path, data)
        self._published.add(path)

    def _keep(self, file: Path, name: str) -> None:
        if self._cache is not None:
            with contextlib.suppress(OSError):
                _link(file, self._cache / name)


def _link(file: Path, target: Path) -> None:
    """Give a finished file its final name beside its staging name; copies across file systems."""
    make_folder(target.parent)
    if target.exists():
        if target.stat().st_size != file.stat().st_size:
            raise CorruptDataError(
                f"{target} is damaged: it has {target.stat().st_size} bytes and should have {file.stat().st_size}. "
                "Delete it and commit again; what is staged is kept"
            )
        return
    try:
        os.link(file, target)
        flush_folder(target.parent)
    except FileExistsError:
        pass
    except OSError:
        with temporary_sibling(target) as incoming:
            shutil.copyfile(file, incoming)
            with incoming.open("rb") as copied:
                os.fsync(copied.fileno())
            publish_over(incoming, target)
