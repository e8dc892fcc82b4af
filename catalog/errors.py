"""The errors of the catalog: records, commits, refs and staging.

::

    HangarError
    ├── InvalidNameError        (ValueError)        a branch, column or sample key that may not be one
    ├── InvalidSampleError      (ValueError)        a value that does not fit its column
    ├── InvalidSchemaError      (ValueError)        a column that cannot be made like that
    ├── RefNotFoundError        (ValueError)        no such branch or commit, or an ambiguous short digest
    ├── RefExistsError          (ValueError)        the branch exists already
    ├── NothingToCommitError    (RuntimeError)      the staged contents equal the last commit's
    ├── MergeUnderWayError      (RuntimeError)      a checkout that is merging was written to
    ├── HeadMovedError          (RuntimeError)      another writer moved the branch first; nothing is lost
    │   └── CommitConflictError (ValueError)        … and changed the same samples in another way
    ├── StashExistsError        (ValueError)        there is a stash of that name already
    ├── StashNotFoundError      (ValueError)        no such stash
    ├── ObjectTooLargeError     (ValueError)        a commit that no reader would take
    ├── StagingError            (RuntimeError)      the staging area cannot be used as it is
    ├── PurgedError             (LookupError)       a sample that was erased for good; carries when, by whom and why
    └── GarbageCollectionError  (RuntimeError)      another collection is in the way; nothing is lost
"""

from __future__ import annotations

from typing import Any

from hangar_cloud.backends.errors import HangarError, PurgedBytesError


class InvalidNameError(HangarError, ValueError):
    """A name or key that may not be one; the message says which characters may be used."""


class InvalidSampleError(HangarError, ValueError):
    """A value that does not fit its column; the message shows both sides and what would fix it."""


class InvalidSchemaError(HangarError, ValueError):
    """A column that cannot be made as asked."""


class RefNotFoundError(HangarError, ValueError):
    """No branch or commit of that name, or a short digest that several commits share."""


class RefExistsError(HangarError, ValueError):
    """A branch of that name exists already."""


class NothingToCommitError(HangarError, RuntimeError):
    """There is nothing to commit, or nothing to reset."""


class MergeUnderWayError(HangarError, RuntimeError):
    """A checkout was written to while it merged, as by the function that decides about conflicts."""


class HeadMovedError(HangarError, RuntimeError):
    """Another writer moved the branch since the checkout was made. The staged changes are kept."""


class CommitConflictError(HeadMovedError, ValueError):
    """Another writer changed the same samples or columns in another way. The staged changes are kept."""


class StashExistsError(HangarError, ValueError):
    """A stash of that name exists already."""


class StashNotFoundError(HangarError, ValueError):
    """No stash of that name, or none at all."""


class ObjectTooLargeError(HangarError, ValueError):
    """An object would be larger than readers accept. Nothing refers to it, and the staged changes are kept."""


class StagingError(HangarError, RuntimeError):
    """The staging area cannot be used as it is."""


class GarbageCollectionError(HangarError, RuntimeError):
    """Another garbage collection of the same repository is in the way. Nothing was lost; run it again later."""


class PurgedError(PurgedBytesError):
    """A sample that `Repository.purge` erased from all history. Its key is still there; its value never comes back.

    It is no KeyError: what skips keys that are missing must not take this for one.

    Attributes:
        digest: of the sample, 64 hex digits.
        time: when it was purged; UTC, ISO 8601.
        author: who did it.
        reason: why.
        column: that it was read from; None where that is not known.
        key: of the sample there; a pair in a nested column.
    """

    def __init__(
        self,
        message: str,
        digest: str = "",
        time: str = "",
        author: str = "",
        reason: str = "",
        column: str | None = None,
        key: Any = None,
    ) -> None:
        super().__init__(message, digest, time, author, reason, column, key)
        self.digest, self.time, self.author, self.reason = digest, time, author, reason
        self.column, self.key = column, key

    def at(self, where: str, column: str, key: Any) -> PurgedError:
        """The same, for a sample of a column; `where` says which in words."""
        return PurgedError(f"{where}: {self}", self.digest, self.time, self.author, self.reason, column, key)
