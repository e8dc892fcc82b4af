"""A checkout for reading: one commit, and its columns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from hangar_cloud.alive import Alive
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.column import ColumnReader
from hangar_cloud.column_reader import FlatSampleReader
from hangar_cloud.columns import Columns
from hangar_cloud.errors import ColumnNotFoundError, InvalidArgumentError, SampleNotFoundError
from hangar_cloud.metadata import MetadataReader
from hangar_cloud.nested_reader import NestedSampleReader
from hangar_cloud.notebook import columns_table, facts_table
from hangar_cloud.storage import Storage
from hangar_cloud.user_diff import DiffContext, ReaderUserDiff

_LEAVES_LOOKED_AT: Final = 16
_RAISE: Final = object()
Logger = Callable[..., Any]


class Checkout:
    """What reading and writing checkouts have in common: access to columns and samples by index."""

    _alive: Alive
    _columns: Columns
    _storage: Storage
    _log: Logger
    _blocks: list[ExitStack]

    @property
    def columns(self) -> Columns:
        """The columns of this checkout."""
        self._alive()
        return self._columns

    def __getitem__(self, index: Any) -> Any:
        """A column, a sample, a subsample, or a list of such.

        ``co['images']`` is the column, ``co['images', 3]`` one sample. In a nested column, ``co['scans', 'p7']`` is the
        accessor of a sample, ``co['scans', 'p7', 0]`` one subsample, and ``co['scans', 'p7', ...]`` (or a slice) a
        dict of them. A list in the last place gives a list: ``co['images', [3, 5]]``. So do several indices at once,
        of any columns: ``co[('images', 3), ('scans', 'p7', 0)]``, or a list of them.

        Raises:
            KeyError: no such column, sample or subsample.
            ValueError: not an index of these forms, or a subsample of a flat column.
        """
        self._alive()
        return self._select(index, _RAISE)

    def get(self, keys: Any, default: Any = None, except_missing: bool = False) -> Any:
        """As indexing, with `default` for what does not exist unless `except_missing`."""
        self._alive()
        return self._select(keys, _RAISE if except_missing else default)

    def __contains__(self, key: object) -> bool:
        """True if there is a column of that name."""
        self._alive()
        return key in self._columns

    def __len__(self) -> int:
        """Number of columns."""
        self._alive()
        return len(self._columns)

    def __iter__(self) -> Iterator[str]:
        self._alive()
        return iter(self._columns)

    def keys(self) -> Iterator[str]:
        """Names of the columns."""
        self._alive()
        return iter(self._columns.keys())

    def values(self) -> Iterator[Any]:
        """The columns."""
        self._alive()
        return self._columns.values()

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and columns."""
        self._alive()
        return self._columns.items()

    def log(
        self,
        branch: str | None = None,
        commit: str | None = None,
        *,
        return_contents: bool = False,
        show_time: bool = False,
        show_user: bool = False,
    ) -> dict[str, Any] | None:
        """Print the commit graph, from this checkout's commit if neither branch nor commit is given.

        See `Repository.log`.
        """
        self._alive()
        if branch is None and commit is None:
            branch, commit = self._log_start()
        contents: dict[str, Any] | None = self._log(
            branch=branch, commit=commit, return_contents=return_contents, show_time=show_time, show_user=show_user
        )
        return contents

    def _log_start(self) -> tuple[str | None, str | None]:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self._alive()
        stack = ExitStack()
        for column in self._columns.values():
            stack.enter_context(column)
        self._blocks.append(stack)
        return self

    def __exit__(self, *_: object) -> None:
        if self._blocks:
            self._blocks.pop().close()

    def _ipython_key_completions_(self) -> list[str]:
        return self._columns.keys()

    def __repr__(self) -> str:
        kind, facts = self._facts()
        return f"Hangar {kind}" + "".join(f"\n    {name:<12} : {value}" for name, value in facts)

    def _repr_html_(self) -> str:
        """The table that notebooks show; nothing is fetched for it."""
        kind, facts = self._facts()
        return facts_table(f"Hangar {kind}", facts) + columns_table(self._columns.values())

    def _facts(self) -> tuple[str, list[tuple[str, object]]]:
        """The name of this kind of checkout, and what it says of itself."""
        raise NotImplementedError

    def _select(self, index: Any, default: Any) -> Any:
        if isinstance(index, str):
            return self._column(index, default)
        if not isinstance(index, (list, tuple)) or not index:
            raise InvalidArgumentError(
                f"a checkout is indexed by a column name, (column, key), (column, sample, subsample), or several of "
                f"those; not by {index!r}"
            )
        if isinstance(index[0], str):
            return self._sample(index, default)
        return [self._one(item, default) for item in index]

    def _one(self, item: Any, default: Any) -> Any:
        if not isinstance(item, (list, tuple)) or not item or not isinstance(item[0], str):
            raise InvalidArgumentError(
                f"each of several indices must be (column, key) or (column, sample, subsample); this is not: {item!r}"
            )
        return self._sample(item, default)

    def _column(self, name: str, default: Any) -> Any:
        try:
            return self._columns[name]
        except ColumnNotFoundError:
            if default is _RAISE:
                raise
            return default

    def _sample(self, index: Sequence[Any], default: Any) -> Any:
        if len(index) == 1:
            return self._column(index[0], default)
        try:
            column = self._columns[index[0]]
            key = key_below(column, index)
            many = key[-1] if isinstance(key, tuple) else key
            if not isinstance(many, list):
                return column[key]
            keys = [(key[0], last) for last in many] if isinstance(key, tuple) else many
            if default is _RAISE and (isinstance(key, tuple) or not column.contains_subsamples):
                return column._read_all([column._row_key(one) for one in keys])
            return [column[one] if default is _RAISE else column.get(one, default) for one in keys]
        except (ColumnNotFoundError, SampleNotFoundError):
            if default is _RAISE:
                raise
            return default


def key_below(column: ColumnReader, index: Sequence[Any]) -> Any:
    """The key within a column of an index (column, key) or (column, sample, subsample).

    Raises:
        InvalidArgumentError: the index has too many parts for a column of this layout.
    """
    if len(index) == 2:
        return index[1]
    if not column.contains_subsamples:
        raise InvalidArgumentError(
            f"column {column.column!r} is flat, without subsamples: index it by (column, key), not by {tuple(index)!r}"
        )
    if len(index) != 3:
        raise InvalidArgumentError(
            f"column {column.column!r} is nested: index it by (column, sample) or (column, sample, subsample), not by "
            f"{tuple(index)!r}"
        )
    return index[1], index[2]


class ReaderCheckout(Checkout):
    """One commit, open for reading. Any number of them may be open, here and elsewhere."""

    def __init__(self, storage: Storage, digest: str, log: Logger) -> None:
        self._storage = storage
        self._digest = digest
        self._log = log
        self._alive = Alive()
        self._blocks = []
        self._entries: dict[str, ColumnEntry] = storage.commit(digest).columns
        self._open: dict[str, ColumnReader] = {}
        self._columns = Columns(lambda: self._entries, self._open_column, self._alive, checkout=lambda: self)

    @property
    def commit_hash(self) -> str:
        """Digest of the commit (64 hex digits)."""
        self._alive()
        return self._digest

    def warn_if_incomplete(self) -> None:
        """Warn of data that is not on this machine and, as the repository is offline, cannot be read.

        Looks at the first leaves of every column only, so that opening stays cheap.
        """
        if not self._storage.offline:
            return
        missing = [name for name, column in self.items() if column.misses_data(_LEAVES_LOOKED_AT)]
        if missing:
            warnings.warn(
                f"not all data of commit {self._digest[:12]} is on this machine (columns: {', '.join(missing)}), "
                "and the repository is offline: reading what is missing raises FileNotFoundError. "
                "Run fetch_data while there is a network",
                UserWarning,
                stacklevel=3,
            )

    @property
    def metadata(self) -> MetadataReader:
        """A versioned mapping from text to text, about the dataset as a whole."""
        self._alive()
        return MetadataReader(self._metadata_column, self._alive)

    @property
    def diff(self) -> ReaderUserDiff:
        """Compares this checkout's commit with others."""
        self._alive()
        return ReaderUserDiff(DiffContext(self._storage, lambda: self._digest, self._alive))

    def _metadata_column(self) -> FlatSampleReader | None:
        entry = self._storage.commit(self._digest).metadata
        if entry is None:
            return None
        return FlatSampleReader("metadata", self._storage, self._digest, entry, self._alive)

    def close(self) -> None:
        """Close the checkout; it and its columns refuse every use from then on."""
        self._alive()
        self._alive.end()

    def _log_start(self) -> tuple[str | None, str | None]:
        return None, self._digest

    def _open_column(self, name: str) -> ColumnReader:
        if name not in self._open:
            entry = self._entries[name]
            kind = NestedSampleReader if entry.schema.column_layout == "nested" else FlatSampleReader
            self._open[name] = kind(name, self._storage, self._digest, entry, self._alive)
        return self._open[name]

    def __reduce__(self) -> tuple[Any, ...]:
        self._alive()
        return _reopen_checkout, (self._storage, self._digest)

    def _facts(self) -> tuple[str, list[tuple[str, object]]]:
        self._alive()
        facts = [("Writer", False), ("Commit Hash", self._digest), ("Num Columns", len(self._columns))]
        return "ReaderCheckout", facts


def _reopen_checkout(storage: Storage, digest: str) -> ReaderCheckout:
    from hangar_cloud.repository import Repository

    return ReaderCheckout(storage, digest, Repository._of(storage).log)
