"""What a repository's commits are called: its branches."""

from __future__ import annotations

import getpass
import socket
from functools import cached_property

from hangar_cloud.branches import Branches, BranchHead
from hangar_cloud.errors import NotInitializedError
from hangar_cloud.storage import Storage


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
        """Make a branch at a commit: by default the head of the branch written to last.

        Raises:
            ValueError: the name is not suitable or taken, or there is no such commit.
            RuntimeError: nothing is committed yet.
        """
        self._require()
        return self._branches.create(name, base_commit, self._author)

    def remove_branch(self, name: str, *, force_delete: bool = False) -> BranchHead:
        """Remove a branch; its commits stay.

        Raises:
            ValueError: no such branch, or a remote-tracking one.
            RuntimeError: no other branch holds its commits (unless `force_delete`).
            PermissionError: a writer is open, it is the only branch, or the one written to last.
        """
        self._require()
        return self._branches.remove(name, force_delete, self._author)

    def list_branches(self) -> list[str]:
        """Names of the branches, then of the remote-tracking ones (``origin/master``)."""
        self._require()
        return self._branches.names()

    @cached_property
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
            self._storage.refuse_lost_file()
            if self._storage.offline and self._storage.is_bucket:
                raise NotInitializedError(
                    f"nothing is known on this machine of a repository at {self._storage.location}, and it was opened "
                    "with offline=True; open it once without, or clone it"
                )
            raise NotInitializedError(
                f"there is no Hangar repository at {self._storage.location}; make one with Repository.init() "
                "(or `hangar init`)"
            )
