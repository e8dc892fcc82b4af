"""Every error that hangar-cloud raises, in one tree.

::

    HangarError                         root of all
    ├── StoreError                      (OSError)            a bucket or folder failed; see hangar_cloud.backends.errors
    │   ├── ObjectNotFoundError         (FileNotFoundError)
    │   ├── BucketNotFoundError         (FileNotFoundError)
    │   ├── AccessDeniedError           (PermissionError)
    │   ├── StoreUnavailableError       (ConnectionError)
    │   ├── ReadOnlyStoreError          (PermissionError)
    │   └── TruncatedObjectError        (EOFError)
    ├── InvalidPathError                (ValueError)
    ├── UnsupportedStoreError           (ValueError)         unknown kind of URL, or a missing driver
    ├── DataNotLocalError               (FileNotFoundError)  not on this machine, and not to be fetched
    ├── CorruptDataError                (ValueError)         damaged bytes
    ├── UnsupportedFormatError          (RuntimeError)       of a newer version, or not ours
    ├── InvalidNameError                (ValueError)         branch, column, remote name or sample key
    ├── InvalidSampleError              (ValueError)         a value that does not fit its column
    ├── InvalidSchemaError              (ValueError)         a column that cannot be made like that
    ├── InvalidArgumentError            (ValueError)         any other argument that cannot be meant
    │   ├── InvalidSliceError           (IndexError)         an index that is no box of an array
    │   └── SampleNumberError           (IndexError)         no such sample of a dataset for training
    ├── RefNotFoundError                (ValueError)         no such branch or commit
    ├── RefExistsError                  (ValueError)         the branch exists already
    ├── HeadMovedError                  (RuntimeError)       another writer was first; nothing is lost
    │   └── CommitConflictError         (ValueError)         … and changed the same samples in another way
    ├── NothingToCommitError            (RuntimeError)       nothing to commit, or to reset
    ├── ObjectTooLargeError             (ValueError)         a commit that no reader would take
    ├── MergeUnderWayError              (RuntimeError)       a checkout that is merging was written to
    ├── StagingError                    (RuntimeError)       the staging area cannot be used as it is
    ├── GarbageCollectionError          (RuntimeError)       another collection is in the way
    ├── PurgedError                     (LookupError)        a sample that was erased for good; says when and why
    ├── UdfError                        (TypeError)          a function that a bulk import cannot use
    ├── BulkImportError                 (RuntimeError)       a bulk import failed; nothing of it was kept
    ├── DirtyStagingError               (ValueError)         staged changes are in the way
    ├── MergeConflictError              (ValueError)         a merge with conflicts; carries them as `conflicts`
    ├── StashExistsError                (ValueError)         there is a stash of that name already
    ├── StashNotFoundError              (ValueError)         no such stash
    ├── StashConflictError              (ValueError)         a stash does not fit here; carries what as `conflicts`
    ├── UncommittedChangesError         (RuntimeError)       staged changes are in the way of a merge
    ├── NotInitializedError             (RuntimeError)       no repository there yet, or no commit in it
    ├── RepositoryExistsError           (FileExistsError)    there is one already
    ├── UnmergedBranchError             (RuntimeError)       removing the branch would orphan commits
    ├── ProtectedBranchError            (PermissionError)    the branch is in use, or the last one
    ├── WriterLockError                 (PermissionError)    another writer is open, or this one lost its lock
    ├── ClosedError                     (PermissionError)    used after close()
    ├── WriterColumnError               (PermissionError)    a loader was given a column of a checkout for writing
    ├── NoColumnsError                  (TypeError)          a loader was given no columns, or what is none
    ├── TransformError                  (RuntimeError)       a transform failed; names the samples
    ├── ReadOnlyError                   (PermissionError)    writing in a checkout for reading
    ├── ColumnBusyError                 (PermissionError)    not while a ``with`` block is open
    ├── ColumnExistsError               (LookupError)
    ├── ColumnNotFoundError             (KeyError)
    ├── SampleNotFoundError             (KeyError)
    ├── RemoteNotFoundError             (KeyError)
    ├── RemoteExistsError               (ValueError)
    ├── PluginError                     (ValueError)         no plugin for a kind of file, or one that cannot do this
    ├── MissingPackageError             (ImportError)        an optional package that a format needs
    ├── UnreadableFileError             (ValueError)         a file that is not what it should be
    ├── UnexportableError               (ValueError)         a format cannot hold what is to be exported
    ├── ExportExistsError               (FileExistsError)    an export would overwrite something
    └── MissingFolderError              (NotADirectoryError) no such folder to read from or to write to
"""

from __future__ import annotations

from typing import Any

from hangar_cloud.backends.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CorruptDataError,
    DataNotLocalError,
    HangarError,
    InvalidPathError,
    ObjectNotFoundError,
    ReadOnlyStoreError,
    StoreError,
    StoreUnavailableError,
    TruncatedObjectError,
    UnsupportedFormatError,
    UnsupportedStoreError,
)
from hangar_cloud.catalog.errors import (
    CommitConflictError,
    GarbageCollectionError,
    HeadMovedError,
    InvalidNameError,
    InvalidSampleError,
    InvalidSchemaError,
    MergeUnderWayError,
    NothingToCommitError,
    ObjectTooLargeError,
    PurgedError,
    RefExistsError,
    RefNotFoundError,
    StagingError,
    StashExistsError,
    StashNotFoundError,
)


class InvalidArgumentError(HangarError, ValueError):
    """An argument, or two together, that cannot be meant."""


class InvalidSliceError(InvalidArgumentError, IndexError):
    """An index that is no box of an array: out of bounds, too many dimensions, or anything but integers and slices."""


class SampleNumberError(InvalidArgumentError, IndexError):
    """A dataset for training has no sample of this number, or what was given is no number."""


class UdfError(HangarError, TypeError):
    """The function given to a bulk import, or its arguments, are not what it takes; nothing of it was kept."""


class BulkImportError(HangarError, RuntimeError):
    """A process of a bulk import ended, or the function given to it raised; nothing of it was kept.

    Attributes:
        item: number of the item in ``udf_kwargs`` that it was about; None where that is not known.
        trace: what Python printed of the exception, in the process where it was raised; empty if there was none.
    """

    def __init__(self, message: str, item: int | None = None, trace: str = "") -> None:
        super().__init__(message, item, trace)
        self.item, self.trace = item, trace

    def __str__(self) -> str:
        return str(self.args[0])


class DirtyStagingError(HangarError, ValueError):
    """Staged changes are in the way: commit them or reset the staging area."""


class MergeConflictError(HangarError, ValueError):
    """A merge met conflicts; nothing was changed.

    Attributes:
        conflicts: all of them, as `hangar_cloud.diff.Conflicts`.
    """

    def __init__(self, message: str, conflicts: Any = None) -> None:
        super().__init__(message, conflicts)
        self.conflicts = conflicts


class StashConflictError(HangarError, ValueError):
    """Stashed changes do not fit on a commit; the stash is kept.

    Attributes:
        conflicts: the columns and samples that were changed in two ways, as (column, key or None).
    """

    def __init__(self, message: str, conflicts: Any = ()) -> None:
        super().__init__(message, conflicts)
        self.conflicts = conflicts

    def __str__(self) -> str:
        return str(self.args[0])


class UncommittedChangesError(HangarError, RuntimeError):
    """Staged changes are in the way: commit them or reset the staging area."""


class NotInitializedError(HangarError, RuntimeError):
    """There is no repository yet, or no commit in it."""


class RepositoryExistsError(HangarError, FileExistsError):
    """There is a repository already."""


class UnmergedBranchError(HangarError, RuntimeError):
    """Removing the branch would leave commits that no other branch reaches."""


class ProtectedBranchError(HangarError, PermissionError):
    """The branch is the last one, or a writer stands on it."""


class WriterLockError(HangarError, PermissionError):
    """Another writer is open, or this writer's lock was released by force."""


class ClosedError(HangarError, PermissionError):
    """Used after `close()`."""


class WriterColumnError(HangarError, PermissionError):
    """A loader reads committed samples: it takes columns of checkouts for reading."""


class NoColumnsError(HangarError, TypeError):
    """A loader was given no columns, or something that is no column."""


class TransformError(HangarError, RuntimeError):
    """A function that a loader was given to change samples or batches with failed; the message names the samples."""


class ReadOnlyError(HangarError, PermissionError):
    """A checkout for reading cannot be written to."""


class ColumnBusyError(HangarError, PermissionError):
    """Columns cannot be added or removed while a ``with`` block is open."""


class ColumnExistsError(HangarError, LookupError):
    """A column of that name exists already."""


class ColumnNotFoundError(HangarError, KeyError):
    """No column of that name."""


class SampleNotFoundError(HangarError, KeyError):
    """No sample of that key."""


class RemoteNotFoundError(HangarError, KeyError):
    """No remote of that name."""


class RemoteExistsError(HangarError, ValueError):
    """A remote of that name exists already."""


class PluginError(HangarError, ValueError):
    """There is no plugin for a kind of file, or it cannot do what it is asked to."""


class MissingPackageError(HangarError, ImportError):
    """A format needs a package that is not installed; the message has the line that installs it."""


class UnreadableFileError(HangarError, ValueError):
    """A file is not what its name or its reader says, or holds more than is allowed."""


class UnexportableError(HangarError, ValueError):
    """A format cannot hold what is to be exported; nothing was written."""


class ExportExistsError(HangarError, FileExistsError):
    """An export would overwrite something that is there."""


class MissingFolderError(HangarError, NotADirectoryError):
    """There is no such folder to read from or to write to."""


__all__ = [
    "AccessDeniedError",
    "BucketNotFoundError",
    "BulkImportError",
    "ClosedError",
    "ColumnBusyError",
    "ColumnExistsError",
    "ColumnNotFoundError",
    "CommitConflictError",
    "CorruptDataError",
    "DataNotLocalError",
    "DirtyStagingError",
    "ExportExistsError",
    "GarbageCollectionError",
    "HangarError",
    "HeadMovedError",
    "InvalidArgumentError",
    "InvalidNameError",
    "InvalidPathError",
    "InvalidSampleError",
    "InvalidSchemaError",
    "InvalidSliceError",
    "MergeConflictError",
    "MergeUnderWayError",
    "MissingFolderError",
    "MissingPackageError",
    "NoColumnsError",
    "NotInitializedError",
    "NothingToCommitError",
    "ObjectNotFoundError",
    "ObjectTooLargeError",
    "PluginError",
    "ProtectedBranchError",
    "PurgedError",
    "ReadOnlyError",
    "ReadOnlyStoreError",
    "RefExistsError",
    "RefNotFoundError",
    "RemoteExistsError",
    "RemoteNotFoundError",
    "RepositoryExistsError",
    "SampleNotFoundError",
    "SampleNumberError",
    "StagingError",
    "StashConflictError",
    "StashExistsError",
    "StashNotFoundError",
    "StoreError",
    "StoreUnavailableError",
    "TransformError",
    "TruncatedObjectError",
    "UdfError",
    "UncommittedChangesError",
    "UnexportableError",
    "UnmergedBranchError",
    "UnreadableFileError",
    "UnsupportedFormatError",
    "UnsupportedStoreError",
    "WriterColumnError",
    "WriterLockError",
]
