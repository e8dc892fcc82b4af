"""What a repository's commits are called: branches, tags, and where branches were before."""

from __future__ import annotations

import getpass
import socket

from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.branches import Branches, BranchHead
from hangar_cloud.catalog.receipts import check_idempotency_key, find_commit
from hangar_cloud.errors import InvalidArgumentError, NotInitializedError
from hangar_cloud.referring import refer
from hangar_cloud.revisions import ReflogEntry
from hangar_cloud.storage import Storage
from hangar_cloud.tags import Tag, check_tag_name


class RepositoryRefs:
    """The part of `Repository` that names commits."""

    _storage: Storage
    _id: str | None

    @property
    def initialized(self) -> bool:
        """True if there is a repository here."""
        if self._id is None:
            self._id = self._storage.repository_id()
        return self._id is not None

    def create_branch(self, name: str, base_commit: str | None = None) -> BranchHead:
        """Make a branch at a commit (a digest, its first digits, a tag, or ``branch@{n}``).

        By default that is the head of the branch written to last.

        Raises:
            ValueError: the name is not suitable or taken, or there is no such commit.
            RuntimeError: nothing is committed yet.
        """
        self._require()
        return self._branches.create(name, base_commit, self._author)

    def remove_branch(self, name: str, *, force_delete: bool = False) -> BranchHead:
        """Remove a branch; its commits stay, and `restore_branch` brings it back.

        Raises:
            ValueError: no such branch, or a remote-tracking one.
            RuntimeError: no other branch holds its commits (unless `force_delete`).
            PermissionError: a writer is open, it is the only branch, or the one written to last.
        """
        self._require()
        return self._branches.remove(name, force_delete, self._author)

    def list_branches(self) -> list[str]:
        """Names of the branches, then of the remote-tracking ones (``origin/master``).

        Warns:
            UserWarning: nothing says which branches there are, since the store can neither list nor has the hint
                object that names them (a web server with an incomplete copy).
        """
        self._require()
        self._branches.warn_if_unlisted()
        return self._branches.names()

    def restore_branch(self, name: str) -> BranchHead:
        """Bring a deleted branch back, at the commit where it was.

        Raises:
            ValueError: there never was such a branch, it was not deleted, or it never had a commit.
        """
        self._require()
        return self._branches.restore(name, self._author)

    def reset_branch(self, name: str, commit: str) -> BranchHead:
        """Move a branch to any commit. What it was is kept in its log: ``name@{1}``.

        Staged changes stay as they are, and go on top of `commit` when they are committed.

        Args:
            name: the branch.
            commit: digest, its first digits, a branch, a tag, or ``branch@{n}`` for what a branch was n moves ago.

        Raises:
            ValueError: no such branch or commit.
            PermissionError: a writer is open.
            RuntimeError: another writer moved the branch meanwhile.
        """
        self._require()
        return self._branches.reset(name, commit, self._author)

    def reflog(self, branch: str = "", limit: int | None = None) -> list[ReflogEntry]:
        """Every move of a branch, newest first, of deleted branches too.

        Args:
            branch: its name; by default the branch written to last.
            limit: how many entries at most; all by default.

        Raises:
            ValueError: there never was such a branch.
        """
        self._require()
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise InvalidArgumentError(f"limit must be a whole number, not negative, and is {limit!r}")
        return self._branches.reflog(branch or self._branches.current(), limit)

    def create_tag(self, name: str, commit: str | None = None, message: str = "") -> Tag:
        """Name a commit for good. A tag can be given wherever a commit can.

        Args:
            name: as branches are named; not 4 to 64 hexadecimal digits, which read as a digest.
            commit: digest, its first digits, a branch, or another tag; by default the head of the branch written to
                last.
            message: what the tag stands for.

        Raises:
            ValueError: the name is not suitable or taken, or there is no such commit.
        """
        self._require()
        check_tag_name(name)
        digest = (
            self._branches.find(commit) if commit is not None else self._branches.commit_of(self._branches.current())
        )
        tags = self._storage.tags(self._author)
        return refer(self._storage, digest, lambda: tags.create(name, digest, message))

    def delete_tag(self, name: str) -> Tag:
        """Remove a tag; its commit stays. Raises ValueError where there is none."""
        self._require()
        return self._storage.tags(self._author).delete(name)

    def list_tags(self) -> list[Tag]:
        """All tags, by name."""
        self._require()
        return self._storage.tags().all()

    def find_commit(self, idempotency_key: str, branch: str = "") -> str | None:
        """The commit on a branch that was made with an idempotency key; None if there is none.

        A job can ask before it prepares anything. See `WriterCheckout.commit`.

        Args:
            idempotency_key: as it was given to `commit`.
            branch: its name; by default the one written to last.

        Raises:
            ValueError: no such branch, or the key cannot be one.
        """
        self._require()
        check_idempotency_key(idempotency_key)
        head = self._branches.pointer(branch or self._branches.current()).commit
        return find_commit(self._storage.nodes, self._storage.commit, head, idempotency_key)

    @lazy_property
    def _branches(self) -> Branches:
        return Branches(self._storage)

    @property
    def _author(self) -> str:
        name, email = self._user()
        return f"{name} <{email}>"

    def _user(self) -> tuple[str, str]:
        config = self._storage.config()
        if config.user_name:
            return config.user_name, config.user_email
        try:
            name = getpass.getuser()
        except (OSError, KeyError, ImportError):
            name = "unknown"
        return name, f"{name}@{socket.gethostname()}"

    def _require(self) -> None:
        if not self.initialized:
            if self._storage.offline and self._storage.is_bucket:
                raise NotInitializedError(
                    f"nothing is known on this machine of a repository at {self._storage.location}, and it was opened "
                    "with offline=True; open it once without, or clone it"
                )
            self._storage.refuse_lost_file()
            raise NotInitializedError(
                f"there is no Hangar repository at {self._storage.location}; make one with Repository.init() "
                "(or `hangar init`)"
            )
