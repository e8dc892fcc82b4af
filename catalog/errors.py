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
    └── StagingError            (RuntimeError)      the staging area cannot be used as it is
"""

from __future__ import annotations

from hangar_cloud.backends.errors import HangarError


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


class StagingError(HangarError, RuntimeError):
    """The staging area cannot be used as it is."""
