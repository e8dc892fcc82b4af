"""Where the repositories of a crash test are, and what can be seen of them afterwards."""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from blake3 import blake3

from hangar_cloud import Repository
from hangar_cloud.backends.store import open_store
from hangar_cloud.catalog import condemned
from hangar_cloud.catalog.commits import METADATA
from hangar_cloud.errors import GarbageCollectionError, PurgedError
from hangar_cloud.storage import Storage

COLLECT_EVERYTHING: Final = {"grace": 0}
_WAIT_SECONDS: Final = 20
_RANDOM: Final = re.compile(r"(?<![0-9a-z])(?:[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{24}|[0-9a-f]{16})(?![0-9a-z])")
_FANOUT: Final = re.compile(r"packs/[0-9a-f]{2}/")
_COUNTED: Final = re.compile(r"gc/\d{10}\.")


class Place(NamedTuple):
    """A folder with a local repository `local`, the caches of those who use the bucket directly, and that bucket."""

    folder: str
    bucket: str
    options: dict[str, Any]

    @property
    def local(self) -> Repository:
        """The local repository; it may have the bucket as its remote."""
        return self.at("local")

    @property
    def direct(self) -> Repository:
        """The bucket, used directly from the machine that the crashes happen on."""
        return self.direct_from("cache")

    def at(self, name: str) -> Repository:
        """A local repository of another name."""
        return Repository(Path(self.folder, name), exists=False, storage_options=self.options)

    def direct_from(self, machine: str) -> Repository:
        """The bucket, as another machine sees it."""
        return Repository(self.bucket, exists=False, storage_options=self.options, cache_dir=Path(self.folder, machine))


def hurry() -> None:
    """Shorten the times that collections and writers give each other."""
    condemned.SETTLE_SECONDS = 0.05
    condemned.SWEEP_SECONDS = 0.5
    condemned.LEASE_SECONDS = 0.6


def look_at(repository: Repository) -> dict[str, Any]:
    """What a repository is, in words that are the same for two that were made alike: without times and digests.

    Opens everything for reading and, for what is staged, for writing.
    """
    if not repository.initialized:
        return {}
    storage = repository._storage
    names = repository.list_branches()
    seen: dict[str, Any] = {f"branch {name}": _name_of(storage, repository, name) for name in names}
    seen |= {f"tag {tag.name}": _history(storage, tag.digest) for tag in repository.list_tags()}
    seen["remotes"] = [] if storage.is_bucket else [remote.name for remote in repository.remote.list_all()]
    for name in names:
        if seen[f"branch {name}"] is not None:
            seen[f"samples of {name}"] = read_everything(repository, name)
    return seen


def look_at_staged(repository: Repository, branch: str = "") -> dict[str, Any]:
    """What is staged and stashed, as a writer finds it."""
    if not repository.initialized:
        return {}
    writer = repository.checkout(write=True, branch=branch)
    diff = writer.diff.staged().diff
    staged: dict[str, Any] = {}
    for kind in ("added", "mutated"):
        for record in getattr(diff, kind).samples:
            value = writer.metadata[record.sample] if record.column == METADATA else _value(writer, record)
            staged[_named(record)] = _digest(value)
    staged |= {_named(record): "deleted" for record in diff.deleted.samples}
    for kind in ("added", "mutated", "deleted"):
        staged |= {f"{kind} column {name}": repr(schema) for name, schema in getattr(diff, kind).schema.items()}
    stashes = [[info.name, list(info.columns), info.samples] for info in writer.stash.list()]
    on = writer.branch_name
    writer.close()
    return {"staged": staged, "stashes": stashes, "on": on}


def verify(repository: Repository) -> None:
    """Everything that is committed is there, bit for bit, and what is staged is whole."""
    if repository.initialized:
        assert repository.verify_repo_integrity(), [str(finding) for finding in repository.fsck()]


def read_everything(repository: Repository, branch: str) -> dict[str, str]:
    """Digests of all samples of a branch, read one by one."""
    checkout = repository.checkout(branch=branch)
    found = {f"{name} {key!r}": _read(column, key) for name, column in checkout.items() for key in column}
    checkout.close()
    return found


def collect(repository: Repository) -> None:
    """Collect all garbage, also the wishes of writers who died, and wait for a collection that died."""
    if not repository.initialized:
        return
    condemned.KEEP_SECONDS = condemned.LEASE_SECONDS = -1.0  # type: ignore[misc]
    patiently(lambda: repository.gc(**COLLECT_EVERYTHING))


def patiently(work: Any) -> Any:
    """Do it again while a collection that died may still be at work."""
    latest = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return work()
        except GarbageCollectionError:
            if time.monotonic() > latest:
                raise
            time.sleep(0.05)


def layout(place: Place) -> dict[str, int]:
    """How many files and objects there are of each kind, by their names without what is random in them."""
    folder = Path(place.folder)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]
    if not place.bucket.startswith("file:"):
        names += [f"bucket/{info.path}" for info in open_store(place.bucket, place.options).list()]
    counts: dict[str, int] = {}
    for name in names:
        plain = _COUNTED.sub("gc/<n>.", _RANDOM.sub("<random>", _FANOUT.sub("packs/", name)))
        counts[plain] = counts.get(plain, 0) + 1
    return dict(sorted(counts.items()))


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """For those who do again what may have been done: they are told that there is nothing to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _name_of(storage: Storage, repository: Repository, branch: str) -> str | None:
    remote, _, name = branch.rpartition("/")
    if remote:
        return _history(storage, repository._branches.commit_of(branch))
    head = storage.head(name)
    return None if head is None or head.commit is None else _history(storage, head.commit)


def _history(storage: Storage, digest: str) -> str:
    """A digest of a commit and all before it, of everything but their times."""
    commit = storage.commit(digest)
    trees = {
        name: (entry.schema, None if entry.root is None else entry.root.digest.hex(), entry.backend)
        for name, entry in commit.trees.items()
    }
    before = [_history(storage, parent) for parent in commit.parents]
    return f"{commit.message}:{_digest(repr((commit.message, commit.author, trees, before)))[:12]}"


def _read(column: Any, key: Any) -> str:
    try:
        return _digest(column[key])
    except PurgedError:
        return "purged"


def _value(writer: Any, record: Any) -> Any:
    column = writer[record.column]
    subsample = getattr(record, "subsample", None)
    return column[record.sample] if subsample is None else column[record.sample][subsample]


def _named(record: Any) -> str:
    return f"{record.column} {record.sample!r} {getattr(record, 'subsample', None)!r}"


def _digest(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: _digest(one) for key, one in value.items()}
    elif isinstance(value, np.ndarray):
        return blake3(repr((value.dtype, value.shape)).encode() + value.tobytes()).hexdigest(length=8)
    return blake3(repr(value).encode()).hexdigest(length=8)
