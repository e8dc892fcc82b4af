"""A checkout for writing: a branch, and the staging area over its head."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from pathlib import Path
from typing import Any, cast

from hangar_cloud.alive import Alive
from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.branches import Branches
from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.committer import Committer
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.checkout import Checkout, Logger, key_below
from hangar_cloud.column_writer import ColumnWriter, FlatSampleWriter, OpenBlocks, check_backend
from hangar_cloud.columns import Columns
from hangar_cloud.config import is_writable_text
from hangar_cloud.errors import (
    ClosedError,
    ColumnExistsError,
    ColumnNotFoundError,
    HangarError,
    InvalidArgumentError,
    NothingToCommitError,
    StagingError,
    UncommittedChangesError,
)
from hangar_cloud.merging import Merger, Strategy, announce
from hangar_cloud.metadata import MetadataWriter
from hangar_cloud.nested_writer import NestedSampleWriter
from hangar_cloud.no_changes import changes_nothing
from hangar_cloud.progress import byte_progress
from hangar_cloud.schema_change import ColumnChanges
from hangar_cloud.stash import Stash
from hangar_cloud.storage import Storage
from hangar_cloud.user_diff import DiffContext, WriterUserDiff
from hangar_cloud.writer_lock import WriterLock


class WriterCheckout(Checkout):
    """The head of a branch, open for writing. Close it to let the next writer in.

    What is staged survives `close()`, the end of the process, and its death.
    """

    def __init__(
        self,
        storage: Storage,
        branch: str,
        base: str | None,
        lock: WriterLock,
        staging: StagingArea,
        user: tuple[str, str],
        log: Logger,
    ) -> None:
        self._storage = storage
        self._branch = branch
        self._base = base
        self._lock = lock
        self._staging = staging
        self._user = user
        self._log = log
        self._blocks = []
        self._open_blocks = OpenBlocks()
        self._alive = Alive(lock.check)
        author = f"{user[0]} <{user[1]}>"
        self._committer = Committer(
            storage.store, storage.cache, storage.pointers(author), storage.nodes, storage.index, storage.commit
        )
        self._samples = SampleWriter(staging, storage.index, storage.has_pack, self._committer.cover)
        base_columns = {} if base is None else storage.commit(base).trees
        self._working = WorkingSet(base_columns, staging, self._samples, storage.nodes)
        self._packs = PackReader(storage.source, Path(staging.folder))
        self._open: dict[str, ColumnWriter] = {}
        self._closed_by_reset = False
        self._columns = Columns(
            self._column_names, self._open_column, self._alive, self._remove_column, self._changes()
        )
        self._at_exit = _close_at_exit(self)

    @property
    def branch_name(self) -> str:
        """The branch that a commit will extend."""
        self._alive()
        return self._branch

    @property
    def commit_hash(self) -> str:
        """Digest of the commit that staged changes are on top of; empty before the first commit."""
        self._alive()
        return self._base or ""

    def add_ndarray_column(
        self,
        name: str,
        shape: int | tuple[int, ...] | None = None,
        dtype: Any = None,
        prototype: Any = None,
        variable_shape: bool = False,
        contains_subsamples: bool = False,
        *,
        backend: str | None = None,
        backend_options: dict[str, Any] | None = None,
    ) -> Any:
        """Add a column of numpy arrays.

        Args:
            name: 1 to 64 ASCII letters, digits, ``.``, ``_`` or ``-``.
            shape: of every sample, or the maximum of each dimension with `variable_shape`.
            dtype: bool, integer, float or complex, of either byte order.
            prototype: an array whose shape and dtype are taken instead.
            variable_shape: samples may be smaller than `shape`, of the same rank.
            contains_subsamples: each sample is a set of arrays with keys of their own (see `NestedSampleWriter`).
            backend: "p0" (packs) or "i0" (inline); by default "i0" for samples of at most 64 bytes.
            backend_options: for packs ``{"codec": "auto" | "raw" | "lz4" | "zstd", "shuffle": bool, "level": int}``.

        Raises:
            LookupError: there is a column of that name.
            ValueError: an argument cannot be meant.
            PermissionError: inside a ``with`` block.
        """
        where = self._check_new(name)
        schema = array_schema(shape, dtype, prototype, bool(variable_shape), bool(contains_subsamples), where)
        return self._add(name, schema, backend, backend_options)

    def add_str_column(
        self,
        name: str,
        contains_subsamples: bool = False,
        *,
        backend: str | None = None,
        backend_options: dict[str, Any] | None = None,
    ) -> Any:
        """Add a column of text. Arguments and errors as in `add_ndarray_column`."""
        self._check_new(name)
        return self._add(name, ColumnSchema("str", _layout(contains_subsamples)), backend, backend_options)

    def add_bytes_column(
        self,
        name: str,
        contains_subsamples: bool = False,
        *,
        backend: str | None = None,
        backend_options: dict[str, Any] | None = None,
    ) -> Any:
        """Add a column of bytes. Arguments and errors as in `add_ndarray_column`."""
        self._check_new(name)
        return self._add(name, ColumnSchema("bytes", _layout(contains_subsamples)), backend, backend_options)

    def __setitem__(self, index: tuple[Any, ...], value: Any) -> None:
        """Store a sample: ``co['images', 3] = array``.

        In a nested column, ``co['scans', 'p7', 0] = array`` stores a subsample, and ``co['scans', 'p7'] = {0: array}``
        merges several into a sample.
        """
        self._alive()
        if not isinstance(index, (list, tuple)) or len(index) < 2 or not isinstance(index[0], str):
            raise InvalidArgumentError(
                "a checkout is written to as co[column, key] = value or co[column, sample, subsample] = value; "
                f"not by {index!r}"
            )
        column = self._columns[index[0]]
        column[key_below(column, index)] = value

    def commit(self, commit_message: str) -> str:
        """Record everything staged as a commit on the branch, and return its digest.

        On a bucket the data is uploaded first, then the branch is moved.

        Raises:
            RuntimeError: nothing changed; or another writer moved the branch (what is staged is kept).
            OSError: the store failed; what is staged is kept, and commit can be called again.
        """
        self._alive()
        _check_message(commit_message)
        self._drop_no_changes("commit")
        if not self._working.dirty:
            what = "nothing is staged, or the staged contents equal those of its last commit"
            raise NothingToCommitError(f"nothing to commit on branch {self._branch!r}: {what}")
        try:
            with byte_progress("uploading", enabled=self._storage.is_bucket) as progress:
                landed = self._committer.commit(
                    self._working,
                    self._staging,
                    self._samples,
                    branch=self._branch,
                    base=self._base,
                    author=self._user[0],
                    email=self._user[1],
                    message=commit_message,
                    progress=progress,
                )
        except HangarError:
            # What is staged may be on top of another writer's commit by now.
            with contextlib.suppress(StagingError):
                self._base = self._staging.setting("base")
                self._drop_no_changes("commit")
            raise
        self._base = landed.digest
        self._packs.forget()
        return landed.digest

    @property
    def stash(self) -> Stash:
        """Puts staged changes away (``co.stash("name")``) and brings them back (``co.stash.pop("name")``)."""
        self._alive()
        return Stash(
            self._storage,
            self._staging,
            self._working,
            self._samples,
            self._packs,
            self._alive,
            self._open_blocks,
            lambda: (self._branch, self._base),
            self._drop_no_changes,
        )

    @property
    def metadata(self) -> MetadataWriter:
        """A versioned mapping from text to text, about the dataset as a whole."""
        self._alive()
        return MetadataWriter(self._metadata_column, self._alive, self._make_metadata)

    @property
    def diff(self) -> WriterUserDiff:
        """Compares this checkout's commit with others, and with what is staged."""
        self._alive()
        return WriterUserDiff(DiffContext(self._storage, lambda: self._base, self._alive), self._working)

    def merge(self, message: str, dev_branch: str, *, strategy: Strategy = None) -> str:
        """Merge a branch into this one, and return the digest of its new head; see `Repository.merge`.

        The checkout goes on from the merged contents.

        Raises:
            ValueError: there are conflicts, or no such branch.
            RuntimeError: there are staged changes; or `strategy` wrote to this checkout, which changes nothing.
        """
        self._alive()
        _check_message(message)
        dev = Branches(self._storage).commit_of(dev_branch)
        self._drop_no_changes("merge")
        if self._working.dirty:
            raise UncommittedChangesError(
                f"there are uncommitted changes on branch {self._branch!r}; commit them or call reset_staging_area() "
                "before a merge"
            )
        merger = Merger(self._storage, self._staging, self._samples, self._user)
        try:
            with self._working.guard.held():
                merged = merger.merge(message, self._branch, dev, dev_branch, strategy)
        except BaseException:
            self._samples.start_over()
            self._staging.clear(self._branch, self._base)
            raise
        self._samples.start_over()
        self._staging.clear(self._branch, merged.digest)
        self._working.rebase(self._storage.commit(merged.digest).trees)
        self._base = merged.digest
        self._packs.forget()
        announce(merged)
        return merged.digest

    def reset_staging_area(self, *, force: bool = False) -> str:
        """Give up everything staged, return the digest of the branch's commit, and close the checkout.

        Raises:
            RuntimeError: nothing is staged (unless `force`).
        """
        self._alive()
        self._drop_no_changes("reset the staging area")
        if not self._working.dirty and not force:
            raise NothingToCommitError("nothing to reset: nothing is staged")
        self._samples.start_over()
        head = self._storage.head(self._branch)
        self._staging.clear(self._branch, head.commit if head is not None else self._base)
        self._working.rebase(self._working.base)
        digest = self._base or ""
        self._shut()
        self._closed_by_reset = True
        return digest

    def close(self) -> None:
        """Release the writer lock. What is staged is kept for the next writer.

        `reset_staging_area` closes the checkout too; one call of `close` after it is accepted and does nothing.
        """
        if self._closed_by_reset:
            self._closed_by_reset = False
            return
        self._alive()
        self._drop_no_changes("close the checkout")
        self._shut()

    def _drop_no_changes(self, before: str) -> None:
        """Clear the staging area if a commit of it would change nothing, so that nobody is asked to commit that."""
        self._working.guard.refuse(before)
        self._working.flush()
        if changes_nothing(self._storage, self._working, self._staging, self._committer):
            self._samples.start_over()
            self._staging.clear(self._branch, self._base)
            self._working.rebase(self._working.base)
            self._packs.forget()

    def _log_start(self) -> tuple[str | None, str | None]:
        return self._branch, None

    def _shut(self) -> None:
        atexit.unregister(self._at_exit)
        self._samples.close()
        self._staging.close()
        self._alive.end()
        self._lock.release()

    def _check_new(self, name: Any) -> str:
        self._alive()
        check_name(name, "column")
        self._open_blocks.refuse(f"add column {name!r}")
        if name in self._working.columns:
            raise ColumnExistsError(f"there is a column {name!r} already; remove it first, or choose another name")
        return f"column {name!r}"

    def _add(self, name: str, schema: ColumnSchema, backend: Any, options: Any) -> ColumnWriter:
        code, checked = check_backend(backend, options, schema)
        self._working.add_column(name, ColumnEntry(schema, None, code, checked))
        return self._open_column(name)

    def _remove_column(self, name: str) -> str:
        self._open_blocks.refuse(f"remove column {name!r}")
        if name not in self._working.columns:
            raise ColumnNotFoundError(f"Cannot remove: {name}. Key does not exist")
        self._working.remove_column(name)
        self._open.pop(name, None)
        return name

    def _changes(self) -> ColumnChanges:
        return ColumnChanges(self._working, self._packs, self._open_blocks)

    def _metadata_column(self) -> FlatSampleWriter | None:
        return cast("FlatSampleWriter", self._open_column(METADATA)) if METADATA in self._working.columns else None

    def _make_metadata(self) -> FlatSampleWriter:
        self._working.add_column(METADATA, ColumnEntry(ColumnSchema("str"), None, "i0"))
        return cast("FlatSampleWriter", self._open_column(METADATA))

    def _column_names(self) -> list[str]:
        return sorted(name for name in self._working.columns if name != METADATA)

    def _open_column(self, name: str) -> ColumnWriter:
        column = self._working.columns[name]
        handle = self._open.get(name)
        if handle is None or handle._column is not column:
            kind = NestedSampleWriter if column.entry.schema.column_layout == "nested" else FlatSampleWriter
            handle = kind(self._storage, self._working, column, self._packs, self._alive, self._open_blocks)
            self._open[name] = handle
        return handle

    def __reduce__(self) -> tuple[Any, ...]:
        raise ClosedError("a checkout for writing cannot be pickled; pickle a reader, Repository.checkout()")

    def _facts(self) -> tuple[str, list[tuple[str, object]]]:
        self._alive()
        facts = [("Writer", True), ("Base Branch", self._branch), ("Num Columns", len(self._columns))]
        return "WriterCheckout", facts


def _check_message(message: Any) -> None:
    if not isinstance(message, str):
        raise InvalidArgumentError(f"a commit message must be str, not {type(message).__name__}")
    if not is_writable_text(message):
        raise InvalidArgumentError(f"a commit message is text without lone surrogates, not {message[:80]!r}")


def _layout(contains_subsamples: bool) -> str:
    return "nested" if contains_subsamples else "flat"


def _close_at_exit(checkout: WriterCheckout) -> Any:
    """Close a forgotten checkout when the interpreter ends, so that nothing waits unflushed in memory."""
    weak = weakref.ref(checkout)

    def close() -> None:
        living = weak()
        if living is not None and living._alive.open:
            with contextlib.suppress(Exception):
                living.close()

    atexit.register(close)
    return close
