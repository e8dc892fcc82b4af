"""What commits to a repository: put together, and told what to say."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hangar_cloud.backends.packs import pack_path
from hangar_cloud.catalog.committer import Committer
from hangar_cloud.config import is_writable_text
from hangar_cloud.errors import HangarError, InvalidArgumentError
from hangar_cloud.storage import Storage


def begin_upload(storage: Storage, committer: Committer, file: Path, pack: bytes) -> None:
    """Begin to upload a sealed pack to a bucket before its commit; what fails, the commit does again or tells."""
    if storage.is_bucket:
        with contextlib.suppress(HangarError):
            committer.await_uploads().begin_pack(file, pack_path(pack))


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


def check_message(message: Any) -> None:
    """Raises InvalidArgumentError for what cannot be a commit's message."""
    if not isinstance(message, str):
        raise InvalidArgumentError(f"a commit message must be str, not {type(message).__name__}")
    if not is_writable_text(message):
        raise InvalidArgumentError(f"a commit message is text without lone surrogates, not {message[:80]!r}")
