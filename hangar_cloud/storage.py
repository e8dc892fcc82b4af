"""Where a repository is: the store that counts, and the folder on this machine that goes with it.

A local repository keeps both under `<path>/.hangar`. A repository in a bucket keeps a cache, its
staging areas and its settings in a folder of this machine's cache directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from hangar_cloud.backends.cache_limit import CacheLimit
from hangar_cloud.backends.errors import DataNotLocalError, redact_url
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore, open_store
from hangar_cloud.catalog.commits import Commit, commit_path, decode_commit
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH, RepositoryFile, decode_repository_file
from hangar_cloud.config import Config
from hangar_cloud.errors import InvalidArgumentError, NotInitializedError

_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


class Storage:
    """The parts that read one repository, put together.

    Args:
        location: folder of a local repository, or URL of one in a bucket.
        storage_options: for the bucket, and for remotes that have none of their own.
        cache_dir: where caches of buckets are kept; the user's cache directory by default.
        cache_size: limit of the cache in bytes; None for no limit.
        offline: never ask a store over the network.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_size: int | None = None,
        offline: bool = False,
    ) -> None:
        self.parameters = (os.fspath(location), dict(storage_options or {}), cache_dir, cache_size, offline)
        self.storage_options = dict(storage_options or {})
        self.offline = offline
        text = os.fspath(location)
        self.is_bucket = bool(_SCHEME.match(text))
        if self.is_bucket:
            self.store = open_store(text, self.storage_options)
            self.location = redact_url(text).rstrip("/")
            self.root = _cache_root(cache_dir) / blake3(self.store.url.encode()).hexdigest(length=12)
        else:
            folder = _check_folder(text)
            self.location = str(folder)
            self.root = folder / ".hangar"
            self.store = open_store(str(self.root / "store"))
        self.remote_options: dict[str, Mapping[str, Any]] = {}
        self._remote_stores: dict[str, ObjectStore] = {}
        self._commits: dict[str, Commit] = {}
        self.source = self._make_source(cache_size)

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, self.parameters

    @property
    def reads_in_place(self) -> bool:
        """True if the store's objects are files of this machine, which need no cache."""
        return self.store.local_path(REPOSITORY_PATH) is not None

    @property
    def holds_everything(self) -> bool:
        """True if nothing can be missing on this machine: no bucket to cache, no remote to fetch from."""
        return self.reads_in_place and (self.is_bucket or not self.config().remotes)

    @cached_property
    def nodes(self) -> NodeReader:
        """Reads record trees; shared by all readers of this repository object."""
        return NodeReader(self.source)

    @cached_property
    def packs(self) -> PackReader:
        """Reads committed samples; shared by all readers of this repository object."""
        return PackReader(self.source)

    @cached_property
    def index(self) -> DigestIndex:
        """Where samples lie that were stored from here before."""
        return DigestIndex(self.root / "index")

    @property
    def cache(self) -> Path | None:
        """Folder of whole objects copied from the bucket; None where the store itself is local."""
        return None if self.reads_in_place else self.root / "store"

    def config(self) -> Config:
        """The user and remotes recorded on this machine."""
        return Config.load(self.root / "config.toml")

    def pointers(self, author: str = "") -> PointerLog:
        """The store's branches."""
        return PointerLog(self.store, author)

    def repository_id(self) -> str | None:
        """The repository's id, None where there is no repository.

        Raises:
            UnsupportedFormatError: it was made by a later version.
        """
        file = self._repository_file()
        return None if file is None else file.id

    def software_version(self) -> str:
        """The version of hangar-cloud that made the repository."""
        file = self._repository_file()
        return "" if file is None else file.software

    def head(self, branch: str) -> Pointer | None:
        """The newest pointer of a branch; when offline, the one that was last seen."""
        if self.offline and self.is_bucket and not self.reads_in_place:
            raise DataNotLocalError(
                f"the head of branch {branch!r} is only known at {self.location}, and the repository was opened with "
                "offline=True; give a commit digest, or clone the repository to work offline"
            )
        pointer = self.pointers().head(branch)
        return pointer if pointer is not None and pointer.alive else None

    def commit(self, digest: str) -> Commit:
        """A commit by its full digest.

        Raises:
            CorruptDataError: damaged.
            FileNotFoundError: a missing one, as ObjectNotFoundError or DataNotLocalError.
        """
        commit = self._commits.get(digest)
        if commit is None:
            commit = self.source.read_object(commit_path(digest), lambda text: decode_commit(text, digest))
            self._commits[digest] = commit
        return commit

    def has_pack(self, pack: bytes) -> bool:
        """Whether a sealed pack can still be read from here."""
        name = pack_path(pack)
        if (self.source.store / name).exists():
            return True
        if self.is_bucket:
            return not self.offline and self.store.exists(name)
        return self.source.partial is not None and (self.source.partial / name).exists()

    def remote_store(self, name: str) -> ObjectStore:
        """The store of a remote of this local repository.

        Raises:
            UnsupportedStoreError: its address is not a URL that can be opened.
            KeyError: there is no such remote.
        """
        if name not in self._remote_stores:
            address = self.config().remotes[name]
            self._remote_stores[name] = open_store(address, self.remote_options.get(name, self.storage_options))
        return self._remote_stores[name]

    def forget_remote(self, name: str) -> None:
        """Close what is open of a remote that was removed."""
        self._remote_stores.pop(name, None)
        self.remote_options.pop(name, None)

    def forget(self) -> None:
        """Drop everything that is kept in memory or open."""
        self.nodes.forget()
        self.packs.forget()
        self.source.forget()
        self._commits.clear()

    def require(self) -> None:
        """Raises NotInitializedError where there is no repository."""
        if self.repository_id() is None:
            raise NotInitializedError(
                f"there is no Hangar repository at {self.location}; make one with Repository.init() (or `hangar init`)"
            )

    def _repository_file(self) -> RepositoryFile | None:
        kept = self.root / "store" / REPOSITORY_PATH
        if self.offline and self.is_bucket and not self.reads_in_place:
            text = kept.read_bytes() if kept.exists() else None
        else:
            text = self.store.get_many([REPOSITORY_PATH])[0]
        return None if text is None else decode_repository_file(text, self.location)

    def _make_source(self, cache_size: int | None) -> ObjectSource:
        local = self.store.local_path(REPOSITORY_PATH)
        partial = self.root / "partial"
        if local is not None and self.is_bucket:
            return ObjectSource(local.parent)
        whole = self.root / "store"
        folders = [whole, partial] if self.is_bucket else [partial]
        limit = None
        if cache_size is not None:
            if cache_size <= 0:
                raise InvalidArgumentError(f"cache_size must be a positive number of bytes, not {cache_size}")
            limit = CacheLimit(folders, cache_size, self.root / "cache.lock")
        return ObjectSource(whole, partial, self._remotes_to_ask, offline=self.offline, limit=limit)

    def _remotes_to_ask(self) -> Sequence[ObjectStore]:
        if self.is_bucket:
            return [self.store]
        found = []
        for name in self.config().remotes:
            try:
                found.append(self.remote_store(name))
            except ValueError:
                # An address that cannot be opened is reported where that remote is used by name.
                continue
        return found


def _cache_root(cache_dir: str | os.PathLike[str] | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("hangar-cloud", appauthor=False))


def _check_folder(text: str) -> Path:
    if not text or "\0" in text:
        raise InvalidArgumentError(f"{text!r} is not a path")
    folder = Path(text).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise InvalidArgumentError(f"{folder} is a file; a repository needs a folder")
    return folder



