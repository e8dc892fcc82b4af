"""What a loader reads: columns under their field names, and keys of samples, checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.column import ColumnReader
from hangar_cloud.columns import Columns
from hangar_cloud.errors import InvalidArgumentError, NoColumnsError, SampleNotFoundError, WriterColumnError
from hangar_cloud.loaders.records import RecordsOnce, begin

FEW: Final = 8
"""Keys are looked up one by one if there are so many times as many rows."""
_SHOWN: Final = 5
SampleKey = RowKey
"""The key of a sample; of samples that are subsamples of nested columns, pairs."""


class Selection(NamedTuple):
    """Columns and samples.

    Attributes:
        columns: by field name.
        keys: of the samples, in the order asked for.
        whole: all samples of the columns are taken, in the order of their keys.
        records: what was read of the columns' records meanwhile, for who looks at them next.
    """

    columns: dict[str, ColumnReader]
    keys: list[SampleKey]
    whole: bool
    records: RecordsOnce

    @property
    def by_subsample(self) -> bool:
        """Whether the keys are pairs, so that each subsample of nested columns is a sample of its own."""
        return bool(self.keys) and isinstance(self.keys[0], tuple)


def select(
    columns: Any,
    keys: Iterable[Any] | None = None,
    index_range: slice | None = None,
    field_names: Sequence[str] | None = None,
) -> Selection:
    """Check what a loader was given.

    Args:
        columns: a column, some columns, all columns of a checkout (``co.columns``), or a mapping from field names to
            columns.
        keys: of the samples wanted, each of which every column must have; pairs (sample, subsample) make samples of
            the subsamples of nested columns. By default the samples that all columns have.
        index_range: a part of the samples that all columns have, in the order of their keys; not looked at where
            there are `keys`.
        field_names: one for each column; by default the columns' names.

    Raises:
        TypeError: no columns, or what is no column.
        PermissionError: a column of a checkout for writing, or of one that was closed.
        KeyError: a column lacks one of the keys.
        ValueError: no sample is in all columns, or field names that do not fit.
    """
    named, records = _named(columns, field_names), RecordsOnce()
    if keys is not None:
        return Selection(named, _checked_keys(named, keys, records), False, records)
    found, equal = _common_keys(named, records)
    if index_range is None:
        return Selection(named, found, equal, records)
    if not isinstance(index_range, slice):
        raise InvalidArgumentError(f"index_range must be a slice, such as slice(0, 100), not {index_range!r}")
    try:
        return Selection(named, found[index_range], False, records)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"index_range must be a slice of whole numbers, not {index_range!r}") from error


def _named(columns: Any, field_names: Sequence[str] | None) -> dict[str, ColumnReader]:
    if isinstance(columns, ColumnReader):
        columns = [columns]
    if isinstance(columns, Columns):
        columns = list(columns.values())
    if isinstance(columns, Mapping):
        if field_names is not None:
            raise InvalidArgumentError("give field names as the keys of `columns` or as `field_names`, not both")
        field_names, columns = list(columns), list(columns.values())
    if isinstance(getattr(columns, "columns", None), Columns):
        raise NoColumnsError("a loader takes columns, such as co.columns or co['images'], not the checkout co itself")
    if not isinstance(columns, Iterable) or isinstance(columns, (str, bytes)):
        columns = [columns]
    columns = list(columns)
    if not columns:
        raise NoColumnsError("a loader takes one column or more, and was given none")
    for column in columns:
        _check_column(column)
    names = [column.column for column in columns] if field_names is None else _checked_names(field_names, len(columns))
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InvalidArgumentError(f"two fields would be called {twice!r}; tell them apart by `field_names`")
    return dict(zip(names, columns, strict=True))


def _check_column(column: Any) -> None:
    if isinstance(column, str):
        raise NoColumnsError(f"a loader takes columns, such as co[{column!r}], not their names, such as {column!r}")
    if not isinstance(column, ColumnReader):
        raise NoColumnsError(f"a loader takes columns, such as co['images'], not {type(column).__name__}")
    if column.iswriteable:
        raise WriterColumnError(
            f"column {column.column!r} is of a checkout for writing, whose samples may change; commit, and give the "
            "column of a checkout for reading"
        )


def _checked_names(given: Any, count: int) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise NoColumnsError(f"field_names is a sequence of texts, not {type(given).__name__}")
    names: list[str] = list(given)
    if len(names) != count:
        raise InvalidArgumentError(f"there are {count} columns and {len(names)} field names: {names}")
    for name in names:
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError(f"a field name is a text, not {name!r}")
    return names


def _common_keys(columns: dict[str, ColumnReader], records: RecordsOnce) -> tuple[list[SampleKey], bool]:
    """The samples that all columns have, in key order, and whether none has another."""
    begin(columns.values())
    first, *others = columns.values()
    keys: list[SampleKey] = list(_keys_of(first, records))
    equal = True
    for column in others:
        if _same_keys(first, column):
            continue
        theirs = list(_keys_of(column, records))
        if theirs == keys:
            continue
        equal = False
        there = set(theirs)
        keys = [key for key in keys if key in there]
    if not keys and len(columns) > 1 and all(_count(column) for column in columns.values()):
        told = "; ".join(f"{column.column!r} has {_some(_keys_of(column, records))}" for column in columns.values())
        raise InvalidArgumentError(f"no sample is in all of the columns: {told}")
    return keys, equal


def _keys_of(column: ColumnReader, records: RecordsOnce) -> Iterable[KeyType]:
    if column.contains_subsamples:
        return column.keys()  # type: ignore[attr-defined, no-any-return]
    return records.of(column).keys


def _same_keys(one: ColumnReader, other: ColumnReader) -> bool:
    return one is other or (one._entry.root == other._entry.root and one._entry.schema == other._entry.schema)


def _count(column: ColumnReader) -> int:
    return column._entry.count


def _some(keys: Iterable[Any]) -> str:
    few = list(islice(keys, _SHOWN + 1))
    return ", ".join(map(repr, few[:_SHOWN])) + (", …" if len(few) > _SHOWN else "")


def _checked_keys(columns: dict[str, ColumnReader], keys: Any, records: RecordsOnce) -> list[SampleKey]:
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        hint = f"; for the size of batches say batch_size={keys}" if isinstance(keys, int) else ""
        raise InvalidArgumentError(f"keys is a sequence of sample keys, not {keys!r}{hint}")
    wanted = [tuple(key) if isinstance(key, list) else key for key in keys]
    pairs = sum(isinstance(key, tuple) for key in wanted)
    if pairs not in (0, len(wanted)):
        raise InvalidArgumentError("some keys are pairs (sample, subsample) and some are not; give one kind")
    begin(column for column in columns.values() if len(wanted) * FEW >= _count(column))
    for column in columns.values():
        if pairs and not column.contains_subsamples and not any(c.contains_subsamples for c in columns.values()):
            raise InvalidArgumentError(f"column {column.column!r} is flat, and its samples have no subsamples")
        wanted = _present(column, wanted, bool(pairs), records)
    return wanted


def _present(column: ColumnReader, keys: list[Any], pairs: bool, records: RecordsOnce) -> list[Any]:
    """The keys as a column spells them (numpy integers as int). Raises SampleNotFoundError for those it lacks."""
    if pairs and column.contains_subsamples:
        checked: list[Any] = [column._row_key(key) for key in keys]
        wanted = set(checked)
    else:
        checked = [(column._check(key[0]), key[1]) if pairs else column._check(key) for key in keys]
        wanted = {key[0] for key in checked} if pairs else set(checked)
    there = _those_there(column, wanted, pairs, records)
    if len(there) < len(wanted):
        lacking = [key for key in dict.fromkeys(checked) if (key if key in wanted else key[0]) not in there]
        raise SampleNotFoundError(f"column {column.column!r} lacks {len(lacking)} of the keys: {_some(lacking)}")
    return checked


def _those_there(column: ColumnReader, wanted: set[Any], pairs: bool, records: RecordsOnce) -> set[Any]:
    if len(wanted) * FEW < _count(column):
        return {key for key in wanted if key in column}  # type: ignore[operator]
    if pairs and column.contains_subsamples:
        return {key for key, _ in column._iterate()} & wanted
    return set(_keys_of(column, records)) & wanted
