"""Branches and commits of one repository, by name, and the rules for changing them."""

from __future__ import annotations

import functools
import itertools
import re
import warnings
from datetime import datetime
from typing import Final, NamedTuple

from hangar_cloud import writer_lock
from hangar_cloud.backends.errors import DataNotLocalError, ObjectNotFoundError
from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.backends.store.durable_files import read_regular, replace_file
from hangar_cloud.catalog import history
from hangar_cloud.catalog.hint import FIRST_BRANCH, HINT_PATH
from hangar_cloud.catalog.keys import check_name, is_name
from hangar_cloud.catalog.near_names import did_you_mean
from hangar_cloud.catalog.pointers import Pointer
from hangar_cloud.catalog.tracking import TrackingRefs
from hangar_cloud.errors import (
    InvalidArgumentError,
    InvalidNameError,
    NotInitializedError,
    ProtectedBranchError,
    RefExistsError,
    RefNotFoundError,
    UnmergedBranchError,
)
from hangar_cloud.referring import collected, refer
from hangar_cloud.revisions import ReflogEntry, commit_then, parse_earlier, reflog_entry
from hangar_cloud.storage import Storage

DEFAULT_BRANCH: Final = FIRST_BRANCH
_HEX: Final = re.compile(r"[0-9a-f]{4,64}")
_DIGEST_LENGTH: Final = 64
_MAX_HEAD: Final = 1024
_COMMITS_SHOWN: Final = 10
_MORE_DIGITS: Final = 8


class BranchHead(NamedTuple):
    """A branch and the digest of its commit (empty before the first)."""

    name: str
    digest: str


class Branches:
    """Finds and changes the branches of a repository."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.chosen: str | None = None
        """The branch of a bucket that is meant where none is named; a bucket has none that is checked out."""

    @lazy_property
    def tracking(self) -> TrackingRefs:
        """What the remotes' branches were when last seen."""
        return TrackingRefs(self._storage.root / "remotes")

    def names(self) -> list[str]:
        """Living branches, then remote-tracking ones, each sorted."""
        return [*self._storage.heads(), *self.tracking.all()]

    def warn_if_unlisted(self) -> None:
        """Warn where nothing says which branches there are: the store cannot list, and its hint is missing."""
        store = self._storage.store
        if not store.can_list and not self._storage.offline and not store.exists(HINT_PATH):
            warnings.warn(
                f"{store.url} has no listings and its {HINT_PATH} is missing, so only branch {DEFAULT_BRANCH!r} was "
                "looked for; others can be opened by their names. Copy that file too where you publish a repository",
                UserWarning,
                stacklevel=4,
            )

    def heads(self) -> dict[str, str]:
        """Commit digests of all branches, remote-tracking ones included, that have one."""
        local = {name: head.commit for name, head in self._storage.heads().items() if head.commit is not None}
        return {**local, **self.tracking.all()}

    def current(self) -> str:
        """The branch that a writer of this machine used last, or that was chosen; "master" at first."""
        if self.chosen is not None:
            return self.chosen
        if not self._storage.is_bucket:
            try:
                text = read_regular(self._storage.root / "HEAD", _MAX_HEAD)
                return check_name(text.decode("utf-8").strip(), "branch")
            except (OSError, UnicodeDecodeError, InvalidNameError):
                pass
        return DEFAULT_BRANCH

    def set_current(self, branch: str) -> None:
        """Remember the branch that a writer uses."""
        file = self._storage.root / "HEAD"
        if self.current() != branch or not file.exists():
            replace_file(file, f"{branch}\n".encode())

    def pointer(self, branch: str) -> Pointer:
        """The head of a branch. Raises RefNotFoundError where there is none; names those there are."""
        pointer = self._storage.head(branch) if is_name(branch) else None
        if pointer is None:
            names = self.names()
            raise RefNotFoundError(
                f"there is no branch {branch!r}; there is: {', '.join(names) or 'none'}{did_you_mean(branch, names)}"
            )
        return pointer

    def commit_of(self, branch: str) -> str:
        """The commit that a branch, remote-tracking or not, is at.

        Raises:
            RefNotFoundError: no such branch, or nothing is committed on it.
        """
        if isinstance(branch, str) and "/" in branch:
            tracked = self.tracking.all().get(branch)
            if tracked is not None:
                return tracked
        commit = self.pointer(branch).commit
        if commit is None:
            raise RefNotFoundError(
                f"nothing is committed on branch {branch!r} yet; open it with checkout(write=True) and commit first"
            )
        return commit

    def resolve(self, digest: str) -> str:
        """The full digest of a commit from its beginning (at least 4 hex digits), a tag, or ``branch@{n}``.

        Raises:
            RefNotFoundError: no such commit, or several.
        """
        if not isinstance(digest, str) or not _HEX.fullmatch(digest):
            named = self._named(digest) if isinstance(digest, str) else None
            if named is not None:
                return named
            raise RefNotFoundError(
                f"{digest!r} is no tag and not a commit digest: give a tag, 4 to {_DIGEST_LENGTH} hexadecimal digits, "
                "or branch@{n} for what a branch was n moves ago"
            )
        if len(digest) == _DIGEST_LENGTH:
            found = [digest] if self._exists(digest) else []
        else:
            found = [name for name in self._known() if name.startswith(digest)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(name[: len(digest) + _MORE_DIGITS] for name in sorted(found)[:_COMMITS_SHOWN])
            more = f" and {len(found) - _COMMITS_SHOWN} more" if len(found) > _COMMITS_SHOWN else ""
            raise RefNotFoundError(
                f"{digest!r} is the beginning of {len(found)} commits: {shown}{more}; give more digits"
            )
        raise RefNotFoundError(f"there is no commit {digest!r} in {self._storage.location}")

    def find(self, name: str) -> str:
        """The commit that a branch name or a digest names."""
        try:
            return self.commit_of(name)
        except RefNotFoundError:
            if isinstance(name, str):
                if _HEX.fullmatch(name):
                    return self.resolve(name)
                named = self._named(name)
                if named is not None:
                    return named
            raise

    def log_head(self, branch: str) -> Pointer:
        """The newest entry of a branch's log, be the branch deleted or not.

        Raises:
            RefNotFoundError: there never was such a branch.
        """
        pointer = self._storage.pointers().head(branch) if is_name(branch) else None
        if pointer is None:
            known = ", ".join(self._storage.pointers().all_names()) or "none"
            raise RefNotFoundError(f"there never was a branch {branch!r}; there is or was: {known}")
        return pointer

    def reflog(self, branch: str, limit: int | None) -> list[ReflogEntry]:
        """See `Repository.reflog`."""
        head = self.log_head(branch)
        entries = self._storage.pointers().entries(branch, head.seq)
        return [reflog_entry(pointer, head.seq) for pointer in itertools.islice(entries, limit)]

    def as_of(self, branch: str, time: datetime) -> str:
        """The commit that a branch was at, at some time. Raises RefNotFoundError where there was none."""
        head = self.log_head(branch)
        pointer = self._storage.pointers().as_of(branch, time)
        return self._still_there(commit_then(pointer, branch, time), head)

    def reset(self, name: str, commit: str, author: str) -> BranchHead:
        """See `Repository.reset_branch`."""
        head = self.pointer(name)
        digest = self.find(commit)
        self._refuse_open_writer(f"branch {name!r} cannot be moved")
        if digest != head.commit:
            refer(self._storage, digest, lambda: self._storage.pointers(author).move(name, head, digest, "reset"))
        return BranchHead(name, digest)

    def restore(self, name: str, author: str) -> BranchHead:
        """See `Repository.restore_branch`."""
        head = self.log_head(name)
        if head.alive:
            raise RefExistsError(
                f"branch {name!r} was not deleted; it is at {(head.commit or 'no commit')[:12]}. To move it back, give "
                "reset_branch one of the commits that reflog shows"
            )
        for pointer in self._storage.pointers().entries(name, head.seq):
            commit = pointer.commit
            if commit is not None:
                move = functools.partial(self._storage.pointers(author).move, name, head, commit, "restore")
                refer(self._storage, commit, move)
                return BranchHead(name, commit)
        raise RefNotFoundError(f"branch {name!r} never had a commit, so there is nothing to restore")

    def _named(self, name: str) -> str | None:
        """The commit that a tag or ``branch@{n}`` names."""
        earlier = parse_earlier(name)
        if earlier is None:
            tag = self._storage.tags().find(name)
            return None if tag is None else tag.digest
        head = self.log_head(earlier.branch)
        pointer = (
            self._storage.pointers().entry(earlier.branch, head.seq - earlier.back)
            if earlier.back <= head.seq
            else None
        )
        if pointer is None or pointer.commit is None:
            raise RefNotFoundError(f"{name!r} names no commit; reflog({earlier.branch!r}) shows what the branch was")
        return self._still_there(pointer.commit, head)

    def _still_there(self, digest: str, head: Pointer) -> str:
        """A commit that a log names. Raises RefNotFoundError where it was collected; what the head is at never is."""
        if digest != head.commit:
            try:
                self._storage.commit(digest)
            except (DataNotLocalError, ObjectNotFoundError):
                if self._storage.is_bucket and self._storage.offline:
                    raise
                raise collected(self._storage, digest) from None
        return digest

    def create(self, name: str, base_commit: str | None, author: str) -> BranchHead:
        """See `Repository.create_branch`."""
        check_name(name, "branch")
        pointers = self._storage.pointers(author)
        old = pointers.head(name)
        if old is not None and old.alive:
            raise RefExistsError(f"there is a branch {name!r} already, at {(old.commit or 'no commit')[:12]}")
        base = self.resolve(base_commit) if base_commit is not None else self._storage_head()
        if base is None:
            raise NotInitializedError(
                "a branch needs a commit to start from, and nothing is committed yet; commit once on "
                f"{DEFAULT_BRANCH!r} first"
            )
        refer(self._storage, base, lambda: pointers.move(name, old, base, "create"))
        return BranchHead(name, base)

    def remove(self, name: str, force: bool, author: str) -> BranchHead:
        """See `Repository.remove_branch`."""
        if not isinstance(name, str) or "/" in name:
            raise InvalidArgumentError(f"{name!r} is not a branch of this repository; remote-tracking branches stay")
        head = self.pointer(name)
        pointers = self._storage.pointers(author)
        living = pointers.heads()
        self._refuse_open_writer(f"branch {name!r} cannot be removed")
        if len(living) == 1:
            raise ProtectedBranchError(f"branch {name!r} is the only one; a repository keeps at least one branch")
        if not self._storage.is_bucket and name == self.current():
            raise ProtectedBranchError(
                f"branch {name!r} was the last one opened for writing; open another branch for writing first"
            )
        if not force and head.commit is not None and not self._merged(name, head.commit, living):
            raise UnmergedBranchError(
                f"branch {name!r} is not fully merged into any other branch; remove it with force_delete=True if its "
                "commits may go"
            )
        pointers.move(name, head, None, "delete")
        return BranchHead(name, head.commit or "")

    def _refuse_open_writer(self, what: str) -> None:
        if writer_lock.is_held(self._storage.root):
            raise ProtectedBranchError(f"{what} while a writer checkout is open; close it first")

    def _merged(self, name: str, commit: str, living: dict[str, Pointer]) -> bool:
        others = [head.commit for other, head in living.items() if other != name and head.commit is not None]
        return any(history.is_ancestor(commit, other, self._storage.commit) for other in others)

    def _storage_head(self) -> str | None:
        head = self._storage.head(self.current())
        return None if head is None else head.commit

    def _exists(self, digest: str) -> bool:
        try:
            self._storage.commit(digest)
        except FileNotFoundError:
            return False
        return True

    def _known(self) -> list[str]:
        store = self._storage.store
        if store.can_list and not (self._storage.offline and self._storage.is_bucket):
            names = store.list_children("commits")
        else:
            names = [f"{digest}.json" for digest in history.ancestors(self.heads().values(), self._storage.commit)]
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]
