"""The remotes of a local repository: buckets that it pushes to and fetches from."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hangar_cloud import transfer
from hangar_cloud.backends.errors import redact_url
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.branches import Branches
from hangar_cloud.catalog import history
from hangar_cloud.catalog.keys import KeyType, check_name
from hangar_cloud.config import is_writable_text
from hangar_cloud.errors import (
    HeadMovedError,
    InvalidArgumentError,
    NotInitializedError,
    RefNotFoundError,
    RemoteExistsError,
    RemoteNotFoundError,
)
from hangar_cloud.storage import Storage


class RemoteInfo(NamedTuple):
    """A remote: its name and address."""

    name: str
    address: str


def check_address(address: object) -> None:
    """Raises InvalidArgumentError if it cannot be the address of a remote."""
    if not isinstance(address, str) or not address or not is_writable_text(address):
        raise InvalidArgumentError(f"a remote's address is a URL, not {address!r}")


class Remotes:
    """Add, remove and use remotes. Reached as `Repository.remote`."""

    def __init__(self, storage: Storage, branches: Branches) -> None:
        self._storage = storage
        self._branches = branches

    def add(self, name: str, address: str, *, storage_options: Mapping[str, Any] | None = None) -> RemoteInfo:
        """Record a remote. The address is not asked, or even looked at, until it is used.

        Args:
            name: 1 to 64 ASCII letters, digits, ``.``, ``_`` or ``-``.
            address: URL of a bucket. Credentials in it are kept in memory only, like those in `storage_options`.
            storage_options: credentials and settings for it, kept in memory only; by default those of the
                `Repository`.

        Raises:
            ValueError: the name is not suitable, or taken.
        """
        check_name(name, "remote")
        check_address(address)
        config = self._storage.config()
        if name in config.remotes:
            raise RemoteExistsError(
                f"there is a remote {name!r} already, at {redact_url(config.remotes[name])}; "
                "remove it first to change it"
            )
        config.remotes[name] = self._storage.set_remote(name, address, storage_options)
        config.save()
        return RemoteInfo(name, redact_url(address))

    def remove(self, name: str) -> RemoteInfo:
        """Forget a remote; what was fetched from it stays. Raises KeyError where there is none."""
        config = self._storage.config()
        self._require(name)
        address = config.remotes.pop(name)
        config.save()
        self._storage.forget_remote(name)
        return RemoteInfo(name, redact_url(address))

    def list_all(self) -> list[RemoteInfo]:
        """All remotes, by name."""
        remotes = sorted(self._storage.config().remotes.items())
        return [RemoteInfo(name, redact_url(address)) for name, address in remotes]

    def ping(self, name: str) -> float:
        """Seconds that one round trip to a remote takes.

        Raises:
            KeyError: no such remote.
            ConnectionError: it cannot be reached.
        """
        return self._store(name).ping()

    def push(self, remote: str, branch: str, *, username: str = "", password: str = "") -> str:
        """Upload a branch: what the remote lacks, then its pointer. May be repeated after any interruption.

        Args:
            remote: name of the remote; an empty bucket becomes a copy of this repository.
            branch: name of the branch, here and there.
            username: ignored; buckets take credentials as storage options.
            password: ignored.

        Returns:
            the branch.

        Warns:
            UserWarning: there is nothing to push, or the remote is ahead.

        Raises:
            ValueError: no such branch; or the remote holds another repository.
            RuntimeError: the histories diverged: fetch, merge, push again; or nothing is committed.
        """
        store = self._store(remote)
        pointer = self._branches.pointer(branch)
        if pointer.commit is None:
            raise NotInitializedError(f"nothing is committed on branch {branch!r} yet, so there is nothing to push")
        there = transfer.remote_head(self._storage, store, branch)
        if there is not None and there.commit is not None:
            if there.commit == pointer.commit:
                warnings.warn(
                    f"branch {branch!r} at {store.url} is up to date; nothing to push", UserWarning, stacklevel=2
                )
                self._branches.tracking.set(remote, branch, pointer.commit)
                return branch
            self._check_forward(store, branch, pointer.commit, there.commit)
            if not self._is_older(there.commit, pointer.commit):
                warnings.warn(
                    f"branch {branch!r} at {store.url} is ahead of this one; nothing to push. "
                    "Fetch it to go on from there",
                    UserWarning,
                    stacklevel=2,
                )
                return branch
        author = self._storage.config().user_name
        transfer.push(self._storage, store, branch, pointer.commit, there, author)
        self._branches.tracking.set(remote, branch, pointer.commit)
        return branch

    def fetch(self, remote: str, branch: str) -> str:
        """Fetch the history of a remote's branch; records and samples come later.

        Returns:
            the name of the branch that tracks it, such as ``origin/master``.

        Warns:
            UserWarning: there is nothing new.

        Raises:
            ValueError: the remote has no such branch, or nothing on it.
        """
        store = self._store(remote)
        there = transfer.remote_head(self._storage, store, branch)
        if there is None or there.commit is None:
            raise RefNotFoundError(f"{store.url} has no branch {branch!r} with a commit on it")
        if self._branches.tracking.get(remote, branch) == there.commit:
            warnings.warn(f"branch {branch!r} of {remote!r} is up to date; nothing to fetch", UserWarning, stacklevel=2)
            return f"{remote}/{branch}"
        transfer.fetch_commits(self._storage, store, there.commit)
        self._branches.tracking.set(remote, branch, there.commit)
        return f"{remote}/{branch}"

    def fetch_data(
        self,
        remote: str,
        branch: str | None = None,
        commit: str | None = None,
        *,
        column_names: Sequence[str] | None = None,
        max_num_bytes: int | None = None,
        retrieve_all_history: bool = False,
    ) -> list[str]:
        """Make the data of a commit local.

        Args:
            remote: name of the remote to fetch from.
            branch: whose head is meant; this or `commit`.
            commit: digest, or its first digits.
            column_names: the columns wanted; all by default.
            max_num_bytes: stop before more than this many bytes of sample data were fetched.
            retrieve_all_history: the data of all earlier commits too.

        Returns:
            digests of the commits whose data was fetched.

        Raises:
            ValueError: both or neither of branch and commit; no such branch, commit or column.
        """
        store = self._store(remote)
        start = self._start(branch, commit)
        if max_num_bytes is not None and (not isinstance(max_num_bytes, int) or max_num_bytes < 0):
            raise InvalidArgumentError(f"max_num_bytes must be a whole number, not negative, and is {max_num_bytes!r}")
        if isinstance(column_names, str):
            column_names = [column_names]
        commits = [start]
        if retrieve_all_history:
            commits = list(history.ancestors([start], self._storage.commit))
        return transfer.fetch_data(self._storage, store, commits, column_names, max_num_bytes)

    def fetch_data_sample(
        self,
        remote: str,
        column: str,
        samples: KeyType | Sequence[KeyType | tuple[Any, ...]],
        branch: str | None = None,
        commit: str | None = None,
    ) -> str:
        """Make some samples of one column local; returns the digest of the commit.

        Args:
            remote: name of the remote to fetch from.
            column: the column.
            samples: a key, or several. In a nested column each may be ``(sample, subsample)``; ``(sample, ...)`` or
                the key of a sample alone means all of its subsamples.
            branch: whose head is meant; this or `commit`.
            commit: digest, or its first digits.

        Raises:
            KeyError: no such column or sample.
            ValueError: as `fetch_data`.
        """
        self._store(remote)
        start = self._start(branch, commit)
        keys = list(samples) if isinstance(samples, Iterable) and not isinstance(samples, str) else [samples]
        transfer.fetch_samples(self._storage, start, column, keys)
        return start

    def _start(self, branch: str | None, commit: str | None) -> str:
        if (branch is None) == (commit is None):
            raise InvalidArgumentError("give either a branch or a commit to fetch data for")
        return self._branches.commit_of(branch) if branch is not None else self._branches.resolve(commit or "")

    def _check_forward(self, store: ObjectStore, branch: str, here: str, there: str) -> None:
        known = self._known(there)
        if known and (self._is_older(there, here) or self._is_older(here, there)):
            return
        if not known and transfer.contains(store, there, here):
            return
        raise HeadMovedError(
            f"branch {branch!r} at {store.url} has commits that this one has not, and the other way round. Nothing was "
            f"pushed: fetch it, merge it into {branch!r}, and push again"
        )

    def _known(self, digest: str) -> bool:
        from hangar_cloud.catalog.commits import commit_path

        return (self._storage.source.store / commit_path(digest)).exists()

    def _is_older(self, older: str, newer: str) -> bool:
        return self._known(older) and history.is_ancestor(older, newer, self._storage.commit)

    def _require(self, name: str) -> None:
        remotes = self._storage.config().remotes
        if name not in remotes:
            raise RemoteNotFoundError(
                f"there is no remote {name!r}; there is: {', '.join(sorted(remotes)) or 'none (see remote.add)'}"
            )

    def _store(self, name: str) -> ObjectStore:
        self._require(name)
        self._storage.refuse_offline(f"use remote {name!r}")
        return self._storage.remote_store(name)

    def __repr__(self) -> str:
        rows = "".join(f"\n      - {remote.name} : {remote.address}" for remote in self.list_all())
        return f"Hangar Remotes\n    Remotes :{rows or ' none'}"
