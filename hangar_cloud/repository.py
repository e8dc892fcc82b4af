"""The entry point: a repository in a folder or in a bucket."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from hangar_cloud import writer_lock
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH
from hangar_cloud.catalog.segment_file import import_decoders
from hangar_cloud.checkout import ReaderCheckout
from hangar_cloud.config import is_writable_text
from hangar_cloud.diff import DiffAndConflicts, diff_commits
from hangar_cloud.errors import (
    DirtyStagingError,
    InvalidArgumentError,
    RepositoryExistsError,
    UncommittedChangesError,
)
from hangar_cloud.initializing import initialize
from hangar_cloud.merging import Strategy
from hangar_cloud.notebook import facts_table
from hangar_cloud.opening import open_writer
from hangar_cloud.reports import log_contents, log_lines, summary_lines
from hangar_cloud.repository_care import RepositoryCare
from hangar_cloud.repository_upkeep import RepositoryUpkeep
from hangar_cloud.revisions import check_time
from hangar_cloud.storage import Storage
from hangar_cloud.writer_checkout import WriterCheckout


class Repository(RepositoryUpkeep, RepositoryCare):
    """A versioned dataset, in a local folder or directly in a bucket.

    Args:
        path: a folder, or a URL: ``s3://``, ``gs://``, ``file://``, ``memory://``, or any other filesystem
            that fsspec knows (those are read-only unless they prove that a create never overwrites).
        exists: warn if there is no repository at `path`.
        storage_options: for the bucket, as its fsspec filesystem takes them (``key``, ``secret``,
            ``endpoint_url``, ``token`` …); never written to disk. A local repository uses them for its
            remotes. Pickles do not carry them, except to workers of `multiprocessing`; where a pickle is loaded by
            another process, credentials come from the environment.
        cache_dir: where buckets are cached; the user's cache directory by default.
        cache_size: limit of that cache in bytes, for all processes together; none by default. In a local
            repository it is that of the parts fetched from remotes. What is only here is never evicted.
        offline: never ask a store over the network; what is not here raises `FileNotFoundError`.

    Warns:
        UserWarning: there is no repository there yet.

    Raises:
        ValueError: the URL is of a kind that cannot be opened.
        OSError: the bucket cannot be reached, does not exist, or refuses the credentials.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        exists: bool = True,
        *,
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_size: int | None = None,
        offline: bool = False,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise InvalidArgumentError(f"a repository path is a str or path, not {type(path).__name__}")
        self._storage = Storage(path, storage_options, cache_dir, cache_size, offline)
        self._id = self._storage.repository_id()
        if self._id is None and exists:
            warnings.warn(
                f"No repository exists at {self._storage.location}, please use `repo.init()` method",
                UserWarning,
                stacklevel=2,
            )

    @classmethod
    def _of(cls, storage: Storage) -> Repository:
        repository = cls.__new__(cls)
        repository._storage = storage
        repository._id = storage.repository_id()
        return repository

    def __reduce__(self) -> tuple[Any, ...]:
        return Repository._of, (self._storage,)

    def init(self, user_name: str, user_email: str, *, remove_old: bool = False) -> str:
        """Make an empty repository here, with a branch "master".

        Args:
            user_name: who commits from this machine; recorded in every commit.
            user_email: likewise.
            remove_old: remove a repository that is here already, with all its data.

        Returns:
            the folder that holds it (``<path>/.hangar``), or the URL.

        Raises:
            FileExistsError: there is a repository already.
            ValueError: name or email is empty or not text.
        """
        _check_user(user_name, user_email)
        self._storage.refuse_read_only("make a repository")
        if self._storage.repository_id() is not None:
            if not remove_old:
                raise RepositoryExistsError(
                    f"there is a Hangar repository at {self._storage.location} already; open it as it is, or give "
                    "remove_old=True to delete it and all its data"
                )
            self._remove()
        self._id = initialize(self._storage, user_name, user_email)
        print(f"Hangar Repo initialized at: {self._where}")
        return self._where

    def clone(
        self,
        user_name: str,
        user_email: str,
        remote_address: str,
        *,
        remove_old: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> str:
        """Make this local folder a repository whose remote "origin" is at `remote_address`.

        History comes at once; records and samples come when they are read, or with `remote.fetch_data`.

        Returns:
            the branch that was checked out: "master", or the first one where there is none.

        Raises:
            FileExistsError: there is a repository already (unless `remove_old`).
            RuntimeError: there is no repository at `remote_address`, or no commit in it.
        """
        from hangar_cloud.cloning import clone

        _check_user(user_name, user_email)
        self._refuse_bucket("clone into")
        if self._storage.repository_id() is not None:
            if not remove_old:
                raise RepositoryExistsError(
                    f"there is a Hangar repository at {self._storage.location} already; clone into another folder, or "
                    "give remove_old=True to delete it and all its data"
                )
            self._remove()
        branch = clone(self._storage, remote_address, storage_options, user_name, user_email)
        self._id = self._storage.repository_id()
        print(f"Hangar Repo initialized at: {self._where}")
        return branch

    def checkout(
        self, write: bool = False, *, branch: str = "", commit: str = "", as_of: datetime | str | None = None
    ) -> Any:
        """Open a commit for reading, or the head of a branch for writing.

        Args:
            write: True for a `WriterCheckout`.
            branch: its name (``origin/name`` too, for reading); by default the one written to last.
            commit: digest of a commit, its first digits, a tag, or ``branch@{n}`` for what a branch was n moves
                ago; for reading only. Goes before `branch`.
            as_of: open what the branch was at that time (a datetime, or ISO 8601 text; without a time zone it is
                local time); for reading only. A deleted branch is found too.

        Warns:
            UserWarning: `offline`, and some of the commit's data is not on this machine.

        Raises:
            ValueError: `write` is no bool; `commit` with `write`; no such branch or commit; nothing committed
                yet (reading); another branch has staged changes (writing).
            PermissionError: another writer is open.
        """
        self._require()
        if not isinstance(write, bool):
            raise InvalidArgumentError(f"write must be True or False, not {write!r}")
        if write and commit:
            raise InvalidArgumentError("a commit cannot be written to; give branch=, or make a branch from it")
        if as_of is not None and (write or commit):
            raise InvalidArgumentError("as_of opens what a branch was, for reading; give it without write and commit")
        import_decoders()
        if write:
            return self._open_writer(branch)
        find = self._branches
        if as_of is not None:
            digest = find.as_of(branch or find.current(), check_time(as_of))
        else:
            digest = find.resolve(commit) if commit else find.commit_of(branch or find.current())
        checkout = ReaderCheckout(self._storage, digest, self.log)
        checkout.warn_if_incomplete()
        return checkout

    def diff(self, master: str, dev: str) -> DiffAndConflicts:
        """What merging `dev` into `master` would change, and the conflicts that it would meet.

        Reads no sample bytes, and only the records that differ.

        Args:
            master: branch name, or digest of a commit.
            dev: likewise.

        Returns:
            ``(diff, conflict)``: ``diff.added``, ``.deleted`` and ``.mutated`` (samples in dev and not in master, and
            so on), and ``conflict.t1``, ``.t21``, ``.t22``, ``.t3`` and ``.conflict``; see `hangar_cloud.diff`.

        Raises:
            ValueError: no such branch or commit.
        """
        self._require()
        return diff_commits(self._storage, self._branches.find(master), self._branches.find(dev))

    def merge(self, message: str, master_branch: str, dev_branch: str, *, strategy: Strategy = None) -> str:
        """Merge one branch into another, and return the digest of its new head.

        If the branch has no commits of its own, it just moves forward (and `message` is not used). Else a commit
        with two parents is made. The merged branch is left as it is. No sample bytes are needed.

        Args:
            message: of the commit.
            master_branch: merged into.
            dev_branch: merged; may be a remote-tracking branch such as ``origin/master``, a tag, or a commit.
            strategy: what to do about conflicts. None refuses them. "ours" keeps what `master_branch` has, "theirs"
                takes what `dev_branch` has. A function is called with ``(column, key, ancestor, ours, theirs)`` for
                each sample in conflict; the last three are lazy (``.exists``, ``.get()``). It returns one of them to
                keep that side, a new value, or None to refuse.

        Raises:
            ValueError: there are conflicts (`MergeConflictError` carries them as ``.conflicts``), or no such branch.
            RuntimeError: there are staged changes, or another writer moved the branch.
            PermissionError: a writer is open, or the store is read-only.
        """
        self._require()
        self._storage.refuse_read_only("merge")
        self._branches.find(dev_branch)
        self._branches.pointer(master_branch)
        current = self._branches.current()
        try:
            checkout = self._open_writer(master_branch)
        except DirtyStagingError as error:
            raise UncommittedChangesError(str(error)) from None
        try:
            return str(checkout.merge(message, dev_branch, strategy=strategy))
        finally:
            checkout.close()
            if not self._storage.is_bucket:
                self._branches.set_current(current)

    def log(
        self,
        branch: str | None = None,
        commit: str | None = None,
        *,
        return_contents: bool = False,
        show_time: bool = False,
        show_user: bool = False,
    ) -> dict[str, Any] | None:
        """Print the commit graph from a branch or commit back; by default from the branch written to last.

        Args:
            branch: where to start.
            commit: where to start, as a digest or its first digits.
            return_contents: return the history as data instead; see `hangar_cloud.reports.log_contents`.
            show_time: print the time of each commit.
            show_user: print the author of each commit.
        """
        self._require()
        if commit:
            head: str | None = self._branches.resolve(commit)
        elif branch:
            head = self._branches.commit_of(branch)
        else:
            pointer = self._storage.head(self._branches.current())
            head = None if pointer is None else pointer.commit
        if head is None:
            return None
        contents = log_contents(self._storage, head, self._branches.heads())
        if return_contents:
            return contents
        for line in log_lines(contents, show_time, show_user):
            print(line)
        return None

    def summary(self, *, branch: str = "", commit: str = "") -> None:
        """Print where the repository is, its size, and the columns of a commit."""
        self._require()
        for line in self._summary_lines(branch, commit):
            print(line)

    def _summary_lines(self, branch: str = "", commit: str = "") -> Iterator[str]:
        if commit:
            digest: str | None = self._branches.resolve(commit)
        elif branch:
            digest = self._branches.commit_of(branch)
        else:
            pointer = self._storage.head(self._branches.current())
            digest = None if pointer is None else pointer.commit
        size = self.size_human if self._storage.store.can_list else "not known: the store has no listings"
        return summary_lines(self._storage, size, digest)

    @lazy_property
    def remote(self) -> Any:
        """The remotes of a local repository; see `hangar_cloud.remotes.Remotes`."""
        from hangar_cloud.remotes import Remotes

        self._require()
        self._refuse_bucket("have remotes for")
        return Remotes(self._storage, self._branches, self.merge)

    @property
    def path(self) -> str:
        """The folder or URL that was given, without credentials."""
        self._require()
        return self._storage.location

    @property
    def version(self) -> str:
        """Version of hangar-cloud that made the repository."""
        self._require()
        return self._storage.software_version()

    @property
    def _where(self) -> str:
        return self._storage.location if self._storage.is_bucket else str(self._storage.root)

    def _open_writer(self, branch: str) -> WriterCheckout:
        self._storage.refuse_read_only("open a writer")
        name = branch or self._branches.current()
        self._branches.pointer(name)
        checkout = open_writer(self._storage, name, self._user(), self.log)
        if not self._storage.is_bucket:
            self._branches.set_current(name)
        return checkout

    def _remove(self) -> None:
        if writer_lock.is_held(self._storage.root):
            raise RepositoryExistsError(
                f"the repository at {self._storage.location} has an open writer and cannot be removed; close it first"
            )
        self._storage.forget()
        if self._storage.is_bucket:
            ours = ("commits/", "records/", "packs/", "arrays/", "moves/", "purged/", "gc/", "refs/", REPOSITORY_PATH)
            for prefix in ours:
                self._storage.store.delete([info.path for info in self._storage.store.list(prefix)])
        shutil.rmtree(self._storage.root, ignore_errors=True)

    def _refuse_bucket(self, what: str) -> None:
        if self._storage.is_bucket:
            raise InvalidArgumentError(
                f"cannot {what} {self._storage.location}: it is the bucket itself. Open a local folder, "
                "Repository('./data'), and clone the bucket into it; or read and write the bucket directly"
            )

    def _facts(self) -> list[tuple[str, object]]:
        self._require()
        return [("Repository Path", self._storage.location), ("Writer-Lock Free", not self.writer_lock_held)]

    def __repr__(self) -> str:
        return "Hangar Repository" + "".join(f"\n    {name:<16} : {value}" for name, value in self._facts())

    def _repr_html_(self) -> str:
        return facts_table("Hangar Repository", self._facts())


def _check_user(name: object, email: object) -> None:
    for what, text in (("user_name", name), ("user_email", email)):
        if not isinstance(text, str) or not text.strip() or not is_writable_text(text):
            raise InvalidArgumentError(f"{what} must be text that is not empty (without lone surrogates), not {text!r}")
