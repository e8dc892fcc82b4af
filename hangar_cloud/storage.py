"""Where a repository is: the store that counts, and the folder on this machine that goes with it.

A local repository keeps both under `<path>/.hangar`. A repository in a bucket keeps a cache, its
staging areas and its settings in a folder of this machine's cache directory.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hangar_cloud.addresses import open_remote
from hangar_cloud.backends.cache_limit import CacheLimit
from hangar_cloud.backends.errors import (
    CorruptDataError,
    DataNotLocalError,
    redact_url,
)
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.backends.move_log import MoveLogs
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore, open_store
from hangar_cloud.backends.store.durable_files import read_regular, replace_file
from hangar_cloud.backends.store.withheld import Withheld, plain_options
from hangar_cloud.catalog.commits import Commit, commit_path, decode_commit
from hangar_cloud.catalog.commits_ahead import CommitsAhead
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.hint import HINT_PATH
from hangar_cloud.catalog.moved_packs import MovedPacks
from hangar_cloud.catalog.moves_file import decode_moves
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.catalog.purged_samples import PurgedSamples
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH, RepositoryFile, decode_repository_file
from hangar_cloud.catalog.tracking import TrackingRefs
from hangar_cloud.config import Config
from hangar_cloud.locations import cache_name, cache_root, check_folder, check_types
from hangar_cloud.reading import read_memory_bytes
from hangar_cloud.storage_refusals import Refusals
from hangar_cloud.tags import Tags

_KEPT_FILE: Final = "repository.json"
_SEEN_NAME: Final = "bucket"
_URL: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(::.*)?://")


class Storage(Refusals):
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
        check_types(storage_options, cache_size)
        self.parameters = (os.fspath(location), dict(storage_options or {}), cache_dir, cache_size, offline)
        self.storage_options = dict(storage_options or {})
        self.offline = offline
        text = os.fspath(location)
        self.is_bucket = bool(_URL.match(text))
        if self.is_bucket:
            self.store = open_store(text, self.storage_options)
            self.location = redact_url(text).rstrip("/")
            self.root = cache_root(cache_dir) / cache_name(self.store.url, self.storage_options)
        else:
            folder = check_folder(text)
            self.location = str(folder)
            self.root = folder / ".hangar"
            self.store = open_store(str(self.root / "store"))
        self._remote_options: dict[str, Mapping[str, Any]] = {}
        self._remote_addresses: dict[str, str] = {}
        self._remote_stores: dict[str, ObjectStore] = {}
        self._withheld = Withheld((self.parameters, self._remote_options, self._remote_addresses), None)
        self._commits: dict[str, Commit] = {}
        self._pointer_logs: dict[str, PointerLog] = {}
        self.moves = MoveLogs(decode_moves)
        self.source = self._make_source(cache_size)

    def __reduce__(self) -> tuple[Any, ...]:
        location, _, cache_dir, cache_size, offline = self.parameters
        options = {name: plain_options(options) for name, options in self._remote_options.items()}
        addresses = {name: redact_url(address) for name, address in self._remote_addresses.items()}
        parameters = (redact_url(location), plain_options(self.storage_options), cache_dir, cache_size, offline)
        self._withheld.shown = (parameters, options, addresses)
        return _restored, (self._withheld,)

    @property
    def reads_in_place(self) -> bool:
        """True if the store's objects are files of this machine, which need no cache."""
        return self.store.local_path(REPOSITORY_PATH) is not None

    @property
    def holds_everything(self) -> bool:
        """True if nothing can be missing on this machine: no bucket to cache, no remote to fetch from."""
        return self.reads_in_place and (self.is_bucket or not self.config().remotes)

    @lazy_property
    def nodes(self) -> NodeReader:
        """Reads record trees; shared by all readers of this repository object."""
        return NodeReader(self.source, purged=self._purged_here)

    @lazy_property
    def packs(self) -> PackReader:
        """Reads committed samples; shared by all readers of this repository object."""
        return PackReader(
            self.source,
            decoded_limit=read_memory_bytes(),
            purged=self.purged.error,
            any_purged=self.purged.any_here,
        )

    @lazy_property
    def purged(self) -> PurgedSamples:
        """Which samples were purged."""
        return PurgedSamples(self.store, self.source, lambda: self._bucket_is_out_of_reach)

    def _purged_here(self) -> Collection[bytes]:
        """Digests of purged samples; what was fetched from elsewhere may still have their values."""
        return frozenset() if self.is_bucket else self.purged.digests()

    @lazy_property
    def index(self) -> DigestIndex:
        """Where samples lie that were stored from here before."""
        return DigestIndex(self.root / "index")

    @lazy_property
    def moved_packs(self) -> MovedPacks:
        """Where samples are by now that lay in packs of the store."""
        return MovedPacks(self.store, self.moves)

    @property
    def cache(self) -> Path | None:
        """Folder of whole objects copied from the bucket; None where the store itself is local."""
        return None if self.reads_in_place else self.root / "store"

    @property
    def cache_folders(self) -> list[Path]:
        """Folders of what was copied from elsewhere and can be fetched again; none where nothing is copied."""
        if self.is_bucket:
            return [] if self.reads_in_place else [self.root / "store", self.root / "partial"]
        return [self.root / "partial"]

    def limit_cache(self, size: int) -> CacheLimit:
        """What keeps the cache of this machine under a size in bytes."""
        return CacheLimit(self.cache_folders, size, self.root / "cache.lock", sparse=self.root / "partial")

    def config(self) -> Config:
        """The user and remotes recorded on this machine."""
        return Config.load(self.root / "config.toml")

    def pointers(self, author: str = "") -> PointerLog:
        """The store's branches. Raises StoreUnavailableError for those of a bucket if it must not be asked."""
        if self._bucket_is_out_of_reach:
            self.refuse_offline("write to a bucket, or look into the log of its branches")
        if author not in self._pointer_logs:
            self._pointer_logs[author] = PointerLog(self.store, author, moved=self._remember, likely=self)
        return self._pointer_logs[author]

    def tags(self, author: str = "") -> Tags:
        """The store's tags; `author` is recorded in new ones."""
        if self._bucket_is_out_of_reach:
            raise DataNotLocalError(
                f"tags of {self.location} are not kept on this machine, and the repository was opened with "
                "offline=True; open it without, give the digest of the commit, or clone the repository to work offline"
            )
        return Tags(PointerLog(self.store, author, "tags"), self.location)

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
        """The newest pointer of a living branch, else None; when offline, what was seen of it last."""
        if self._bucket_is_out_of_reach:
            commit = self._seen.get(_SEEN_NAME, branch)
            if commit is None:
                raise DataNotLocalError(
                    f"where branch {branch!r} of {self.location} is was never seen from this machine, and the "
                    "repository was opened with offline=True; open it once without, or clone it to work offline"
                )
            return Pointer(branch, 0, commit, "commit", "", "", "")
        pointer = self.pointers().head(branch)
        if pointer is None or not pointer.alive:
            return None
        self._remember(pointer)
        return pointer

    def heads(self) -> dict[str, Pointer]:
        """The newest pointers of all living branches by name; when offline, of those seen before."""
        if self._bucket_is_out_of_reach:
            names = [name.partition("/")[2] for name in self._seen.all()]
            return {name: pointer for name in names if (pointer := self.head(name)) is not None}
        return self.pointers().heads()

    def commit(self, digest: str) -> Commit:
        """A commit by its full digest.

        Raises:
            CorruptDataError: damaged.
            FileNotFoundError: a missing one, as ObjectNotFoundError or DataNotLocalError.
        """
        commit = self._commits.get(digest)
        if not self.offline and not self._has_commit(digest):
            fetched = self._commits_ahead.fetch(digest)
            self._commits.update(fetched)
            commit = fetched.get(digest)
        if commit is None:
            commit = self.source.read_object(commit_path(digest), lambda text: decode_commit(text, digest))
            self._commits[digest] = commit
        return commit

    def begin_commit(self, digest: str) -> None:
        """Begin to fetch a commit of a bucket, if it is not here: it is likely to be wanted."""
        if not self.reads_in_place and not self._has_commit(digest):
            self._commits_ahead.begin(digest)

    def _has_commit(self, digest: str) -> bool:
        return digest in self._commits or not self.is_bucket or (self.source.store / commit_path(digest)).exists()

    def has_pack(self, pack: bytes) -> bool:
        """Whether a sealed pack can still be read from here."""
        name = pack_path(pack)
        if (self.source.store / name).exists():
            return True
        found = self.source.partial is not None and (self.source.partial / name).exists()
        if self.is_bucket:
            found = not self.offline and self.store.exists(name)
        if not found and not self._bucket_is_out_of_reach:
            self.moved_packs.refresh()
        return found

    def remote_store(self, name: str) -> ObjectStore:
        """The store of a remote of this local repository.

        Raises:
            UnsupportedStoreError: its address is not a URL that can be opened.
            KeyError: there is no such remote.
        """
        if name not in self._remote_stores:
            address = self._remote_addresses.get(name) or self.config().remotes[name]
            self._remote_stores[name] = open_remote(address, self._remote_options.get(name, self.storage_options))
        return self._remote_stores[name]

    def set_remote(self, name: str, address: str, options: Mapping[str, Any] | None) -> str:
        """Keep the address and credentials of a remote in memory; returns the address that may be written to disk."""
        self.forget_remote(name)
        if options is not None:
            self._remote_options[name] = dict(options)
        shown = redact_url(address)
        if shown != address:
            self._remote_addresses[name] = address
        return shown

    def wrap_remote(self, name: str, wrap: Callable[[ObjectStore], ObjectStore]) -> ObjectStore:
        """Put something around the store of a remote from now on, such as a `CountingStore`; returns it."""
        self._remote_stores[name] = wrap(self.remote_store(name))
        return self._remote_stores[name]

    def forget_remote(self, name: str) -> None:
        """Forget what is open or kept in memory of a remote."""
        self._remote_stores.pop(name, None)
        self._remote_options.pop(name, None)
        self._remote_addresses.pop(name, None)

    def forget(self) -> None:
        """Drop everything that is kept in memory or open."""
        self.nodes.forget()
        self.packs.forget()
        self.source.forget()
        self.moves.forget()
        self.purged.forget()
        self._commits.clear()
        self._pointer_logs.clear()

    def set_old_folder_aside(self, identity: str) -> None:
        """Make room for a bucket's repository where this machine's folder belongs to another one.

        If the bucket was emptied and holds another repository now, what the folder holds is of the old one:
        it is kept beside, since uncommitted changes may be in it.
        """
        old = self._kept_id()
        if self.is_bucket and old is not None and old != identity:
            self.forget()
            os.replace(self.root, self.root.with_name(f"{self.root.name}.was-{old[:8]}"))

    def keep_repository_file(self, text: bytes) -> None:
        """Remember which repository this machine's folder of a bucket belongs to; it is opened by that offline."""
        if not self.is_bucket or self._kept_id() is not None:
            return
        kept = self.root / _KEPT_FILE
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, text)

    def _kept_id(self) -> str | None:
        """The repository that the folder belongs to; None where that was never kept, or is damaged."""
        kept = self.root / _KEPT_FILE
        with contextlib.suppress(FileNotFoundError, CorruptDataError):
            return decode_repository_file(read_regular(kept), str(kept)).id
        return None

    @lazy_property
    def _commits_ahead(self) -> CommitsAhead:
        return CommitsAhead(self.store, self.source.store, self.source.keep_whole)

    @property
    def _bucket_is_out_of_reach(self) -> bool:
        return self.offline and self.cache is not None

    @lazy_property
    def _seen(self) -> TrackingRefs:
        """Where the bucket's branches were when they were last looked up, for offline use."""
        return TrackingRefs(self.root / "seen")

    def _remember(self, pointer: Pointer) -> None:
        """Keep where a bucket's branch is. A full disk is no reason to fail: only work offline needs it."""
        if self.cache is not None and pointer.commit is not None and pointer.alive:
            with contextlib.suppress(OSError):
                self._seen.set(_SEEN_NAME, pointer.branch, pointer.commit)

    def _repository_file(self) -> RepositoryFile | None:
        if self._bucket_is_out_of_reach:
            kept = self.root / _KEPT_FILE
            text = read_regular(kept) if kept.exists() else None
        else:
            # One round trip for both: the hint is needed as soon as a branch is looked up.
            text, hint = self.store.get_many([REPOSITORY_PATH, HINT_PATH])
            self.pointers().prime(hint)
        file = None if text is None else decode_repository_file(text, self.location)
        if file is not None and text is not None and not self.offline:
            self.set_old_folder_aside(file.id)
            self.keep_repository_file(text)
        return file

    def _make_source(self, cache_size: int | None) -> ObjectSource:
        local = self.store.local_path(REPOSITORY_PATH)
        partial = self.root / "partial"
        if local is not None and self.is_bucket:
            return ObjectSource(local.parent, moves=self.moves)
        whole = self.root / "store"
        size = self._kept_cache_size() if cache_size is None else cache_size
        limit = None if size is None else self.limit_cache(size)
        return ObjectSource(whole, partial, self._remotes_to_ask, offline=self.offline, limit=limit, moves=self.moves)

    def _kept_cache_size(self) -> int | None:
        # Settings that cannot be read are complained of where they are needed, and this is not the place.
        with contextlib.suppress(CorruptDataError):
            return self.config().cache_limit
        return None

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


def _restored(withheld: Withheld) -> Storage:
    """A storage from its pickle, with what it keeps in memory only where that is to be had."""
    parameters, remote_options, remote_addresses = withheld.value
    storage = Storage(*parameters)
    storage._remote_options.update(remote_options)
    storage._remote_addresses.update(remote_addresses)
    return storage
