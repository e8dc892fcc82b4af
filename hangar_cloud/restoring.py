"""Taking staged changes back in part: columns and samples as some commit has them. No sample bytes move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.keys import KeyType, RowKey, check_key, key_range
from hangar_cloud.catalog.near_names import did_you_mean
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.working_set import WorkingColumn, WorkingSet
from hangar_cloud.errors import ColumnNotFoundError, InvalidArgumentError, SampleNotFoundError
from hangar_cloud.storage import Storage

_AT_ONCE: Final = 10_000
_METADATA_NAME: Final = "metadata"


class Restoring:
    """Restores columns and samples of one writer checkout; see `hangar restore`.

    Args:
        storage: of the repository.
        working: the columns of the writer, with what is staged.
        commit: digest of the commit whose contents come back; None for an empty repository's.
    """

    def __init__(self, storage: Storage, working: WorkingSet, commit: str | None) -> None:
        self._nodes: NodeReader = storage.nodes
        self._working = working
        self._trees = {} if commit is None else storage.commit(commit).trees
        self._at = "before the first commit" if commit is None else f"at commit {commit[:12]}"

    def column(self, name: str) -> None:
        """Make a column, or the metadata, what it is at the commit; where it is not there, it goes.

        Raises:
            KeyError: neither the commit nor what is staged has such a column.
        """
        name = self._known(name)
        self._working.flush()
        entry, there = self._trees.get(name), self._working.columns.get(name)
        if entry is None:
            self._working.remove_column(name)
        elif there is not None and _is_over(there, entry):
            keys = list(there.staged)
            self._stage(name, ((key, self._find(entry, key)) for key in keys))
        else:
            if there is not None:
                self._working.remove_column(name)
            self._working.add_column(name, ColumnEntry(entry.schema, None, entry.backend, entry.backend_options))
            self._stage(name, self._rows(entry))

    def has(self, name: str, key: KeyType | tuple[KeyType, KeyType]) -> bool:
        """Whether a sample is here or at the commit; False also where `samples` would refuse the whole column.

        Raises:
            KeyError: there is no such column.
        """
        name = self._known(name)
        self._working.flush()
        entry, there = self._trees.get(name), self._working.columns.get(name)
        if entry is None or there is None or not there.entry.schema.has_same_rows(entry.schema):
            return False
        return any(self._named(there, entry, key))

    def samples(self, name: str, keys: Sequence[KeyType | tuple[KeyType, KeyType]]) -> int:
        """Make samples what they are at the commit; those that it does not have go. Returns how many rows that is.

        Of a nested column, the key of a sample means all of its subsamples.

        Raises:
            KeyError: no such column here or at the commit, or a key is in neither.
            ValueError: the column has another schema here than at the commit.
        """
        name = self._known(name)
        self._working.flush()
        entry, there = self._trees.get(name), self._working.columns.get(name)
        shown = name or _METADATA_NAME
        if entry is None or there is None:
            where = self._at if entry is None else "in what is staged"
            raise ColumnNotFoundError(
                f"there is no column {shown!r} {where}; its samples cannot be restored one by one. Restore the column "
                "as a whole"
            )
        if not there.entry.schema.has_same_rows(entry.schema):
            raise InvalidArgumentError(
                f"column {shown!r} has another schema {self._at}; restore the column as a whole, or alter it first"
            )
        rows: dict[RowKey, Row | None] = {}
        for key in keys:
            found = dict(self._named(there, entry, key))
            if not found:
                raise SampleNotFoundError(f"column {shown!r} has no sample {key!r}, neither staged nor {self._at}")
            rows |= found
        self._stage(name, rows.items())
        return len(rows)

    def _known(self, name: str) -> str:
        names = {**self._trees, **self._working.columns}
        if name in names and name != METADATA:
            return name
        if name == _METADATA_NAME and METADATA in names:
            return METADATA
        known = sorted(column for column in names if column != METADATA)
        raise ColumnNotFoundError(
            f"there is no column {name!r}, neither staged nor {self._at}; there is: {', '.join(known) or 'none'}"
            f"{did_you_mean(name, known)}"
        )

    def _named(self, there: WorkingColumn, entry: ColumnEntry, key: Any) -> Iterator[tuple[RowKey, Row | None]]:
        """The rows that a key names, here or at the commit, each as it is at the commit."""
        if entry.schema.column_layout != "nested" or isinstance(key, tuple):
            row_key: RowKey = (check_key(key[0]), check_key(key[1])) if isinstance(key, tuple) else check_key(key)
            row = self._find(entry, row_key)
            if row is not None or row_key in there:
                yield row_key, row
            return
        sample = check_key(key)
        yield from ((row_key, None) for row_key, _ in there.below(sample))
        yield from self._nodes.range(entry.root, entry.schema, *key_range(sample))

    def _find(self, entry: ColumnEntry, key: RowKey) -> Row | None:
        return self._nodes.find(entry.root, entry.schema, key)

    def _rows(self, entry: ColumnEntry) -> Iterator[tuple[RowKey, Row | None]]:
        for ref in self._nodes.leaves(entry.root):
            leaf = self._nodes.leaf(ref, entry.schema)
            yield from ((key, leaf.row(i)) for i, key in enumerate(leaf.keys))

    def _stage(self, name: str, rows: Iterable[tuple[RowKey, Row | None]]) -> None:
        waiting = iter(rows)
        while batch := list(islice(waiting, _AT_ONCE)):
            self._working.stage_rows(name, batch)


def _is_over(column: WorkingColumn, entry: ColumnEntry) -> bool:
    """Whether a column is the commit's, with some rows staged over it and nothing else changed."""
    here = column.entry
    same = (here.schema, here.backend, here.backend_options) == (entry.schema, entry.backend, entry.backend_options)
    return same and here.root == entry.root and column.origin == column.name
