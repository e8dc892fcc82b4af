"""The remotes of a local repository: buckets that it pushes to and fetches from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hangar_cloud import transfer, upload
from hangar_cloud.backends.errors import redact_url
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.branches import Branches
from hangar_cloud.catalog import history
from hangar_cloud.catalog.backoff import back_off
from hangar_cloud.catalog.keys import KeyType, check_name
from hangar_cloud.catalog.near_names import did_you_mean
from hangar_cloud.catalog.pointers import PointerLog
from hangar_cloud.config import is_writable_text
from hangar_cloud.errors import (
    HeadMovedError,
    InvalidArgumentError,
    NotInitializedError,
    RefExistsError,
    RefNotFoundError,
    RemoteExistsError,
    RemoteNotFoundError,
)
from hangar_cloud.merging import Strategy
from hangar_cloud.purged_remotes import take_over_purges
from hangar_cloud.referring import alone_with_refs
from hangar_cloud.storage import Storage
from hangar_cloud.tags import Tags


class RemoteInfo(NamedTuple):
    """A remote: its name and address."""

    name: str
    address: str


def check_address(address: object) -> None:
    """Raises InvalidArgumentError if it cannot be the address of a remote."""
    if not isinstance(address, str) or not address or not is_writable_text(address):
        raise InvalidArgumentError(f"a remote's address is a URL, not {address!r}")


class Remotes:
    """Add, remove and use remotes. Reached as `Repository.remote`.

    Args:
        storage: of the repository.
        branches: of the repository.
        merge: `Repository.merge`.
    """

    def __init__(self, storage: Storage, branches: Branches, merge: Callable[..., str]) -> None:
        self._storage = storage
        self._branches = branches
        self._merge = merge

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

    def push(
        self,
        remote: str,
        branch: str,
        *,
        username: str = "",
        password: str = "",
        force: bool = False,
        on_conflict: Strategy = "fail",
        attempts: int = 20,
    ) -> str:
        """Upload a branch: what the remote lacks, then its pointer. May be repeated after any interruption.

        Args:
            remote: name of the remote; an empty bucket becomes a copy of this repository.
            branch: name of the branch, here and there.
            username: ignored; buckets take credentials as storage options.
            password: ignored.
            force: move the remote's branch even where that takes commits off it. What it was stays in its log.
            on_conflict: what to do if the remote has commits that this branch has not. "fail" raises. "merge" fetches
                them, merges them into the branch here, and pushes again; "ours", "theirs" or a function also settle
                samples in conflict, as in `Repository.merge`.
            attempts: how often that is tried while other writers are first, with growing random waits between.

        Returns:
            the branch.

        Warns:
            UserWarning: there is nothing to push, or the remote is ahead.

        Raises:
            ValueError: no such branch; the remote holds another repository; or a merge has conflicts.
            RuntimeError: the histories diverged: fetch, merge, push again; or nothing is committed.
        """
        _check_push(force, on_conflict, attempts)
        for attempt in range(attempts):
            try:
                return self._push_once(remote, branch, force)
            except HeadMovedError:
                if on_conflict == "fail" or attempt == attempts - 1:
                    raise
                if attempt:
                    back_off(attempt)
            self._take_in(remote, branch, None if on_conflict == "merge" else on_conflict)
        raise AssertionError("unreachable")

    def push_tag(self, remote: str, name: str) -> str:
        """Upload a tag, with the history and data behind it; returns its name.

        Raises:
            ValueError: no such tag here; or the remote has another tag of that name.
        """
        store = self._store(remote)
        tag = self._storage.tags().find(name)
        if tag is None:
            raise RefNotFoundError(f"there is no tag {name!r} in {self._storage.location}")
        transfer.remote_head(self._storage, store, self._branches.current())  # is it the same repository?
        theirs = Tags(PointerLog(store, self._author(), "tags"), store.url)
        there = theirs.find(name)
        if there is not None and there.digest != tag.digest:
            raise RefExistsError(
                f"{store.url} has a tag {name!r} at {there.digest[:12]}, and here it is at {tag.digest[:12]}; delete "
                "one of them, or choose another name"
            )
        if there is None:
            upload.push_history(self._storage, store, tag.digest, lambda: theirs.take(tag))
        return name

    def _push_once(self, remote: str, branch: str, force: bool) -> str:
        store = self._store(remote)
        pointer = self._branches.pointer(branch)
        if pointer.commit is None:
            raise NotInitializedError(f"nothing is committed on branch {branch!r} yet, so there is nothing to push")
        there = transfer.remote_head(self._storage, store, branch)
        action = "push"
        if there is not None and there.commit is not None:
            if there.commit == pointer.commit:
                warnings.warn(
                    f"branch {branch!r} at {store.url} is up to date; nothing to push", UserWarning, stacklevel=3
                )
                self._branches.tracking.set(remote, branch, pointer.commit)
                return branch
            if force:
                action = "force-push"
            else:
                self._check_forward(store, branch, pointer.commit, there.commit)
                if not self._is_older(there.commit, pointer.commit):
                    warnings.warn(
                        f"branch {branch!r} at {store.url} is ahead of this one; nothing to push. "
                        "Fetch it to go on from there",
                        UserWarning,
                        stacklevel=3,
                    )
                    return branch
        upload.push(self._storage, store, branch, pointer.commit, there, self._author(), action)
        self._branches.tracking.set(remote, branch, pointer.commit)
        return branch

    def _take_in(self, remote: str, branch: str, strategy: Strategy) -> None:
        """Fetch a remote's branch and merge it into the one here."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            tracking = self.fetch(remote, branch)
        self._merge(f"merge {tracking}", branch, tracking, strategy=strategy)

    def _author(self) -> str:
        return self._storage.config().user_name

    def fetch(self, remote: str, branch: str) -> str:
        """Fetch the history of a remote's branch, and its new tags; records and samples come later.

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
        take_over_purges(self._storage, store)
        if self._branches.tracking.get(remote, branch) == there.commit:
            with alone_with_refs(self._storage):
                new_tags = transfer.fetch_tags(self._storage, store)
            if not new_tags:
                message = f"branch {branch!r} of {remote!r} is up to date; nothing to fetch"
                warnings.warn(message, UserWarning, stacklevel=2)
            return f"{remote}/{branch}"
        with alone_with_refs(self._storage):
            transfer.fetch_commits(self._storage, store, there.commit)
            self._branches.tracking.set(remote, branch, there.commit)
            transfer.fetch_tags(self._storage, store)
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
                f"{did_you_mean(name, remotes)}"
            )

    def _store(self, name: str) -> ObjectStore:
        self._require(name)
        self._storage.refuse_offline(f"use remote {name!r}")
        return self._storage.remote_store(name)

    def __repr__(self) -> str:
        rows = "".join(f"\n      - {remote.name} : {remote.address}" for remote in self.list_all())
        return f"Hangar Remotes\n    Remotes :{rows or ' none'}"


def _check_push(force: object, on_conflict: object, attempts: object) -> None:
    if not isinstance(force, bool):
        raise InvalidArgumentError(f"force must be True or False, not {force!r}")
    if on_conflict not in ("fail", "merge", "ours", "theirs") and not callable(on_conflict):
        raise InvalidArgumentError(
            f"on_conflict must be 'fail', 'merge', 'ours', 'theirs' or a function, not {on_conflict!r}"
        )
    if force and on_conflict != "fail":
        raise InvalidArgumentError(
            "force=True pushes whatever the remote has, so on_conflict cannot be meant beside it"
        )
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise InvalidArgumentError(f"attempts must be a whole number of at least 1, and is {attempts!r}")
