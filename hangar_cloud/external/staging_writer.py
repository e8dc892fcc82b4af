"""Writing what is imported: columns made where they are missing, samples staged some megabytes at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np

from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import (
    ColumnNotFoundError,
    HangarError,
    InvalidNameError,
    InvalidSampleError,
    InvalidSchemaError,
    PurgedError,
    ReadOnlyError,
)
from hangar_cloud.external.transfer_report import ImportReport, Refused

# Of the order of what a column keeps in memory before it stages it: less would make small packs.
_MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_SAMPLES: Final = 8192
# What is wrong with one sample, and not with the import.
_OF_ONE_SAMPLE: Final = (InvalidNameError, InvalidSampleError, PurgedError)


class StagingWriter:
    """Puts samples into the columns of a writer checkout.

    What was handed over is staged some megabytes at a time: of a process that dies, the next one finds all but the last
    of them.

    Args:
        checkout: for writing.
        overwrite: write over samples that are there; else they are left as they are.
        leader: a column whose refused samples are left out of the other columns too, such as an image's label.
    """

    def __init__(self, checkout: Any, overwrite: bool, leader: str | None = None) -> None:
        if not getattr(checkout.columns, "iswriteable", False):
            raise ReadOnlyError("an import writes: open the branch with checkout(write=True)")
        self.report = ImportReport()
        self._checkout = checkout
        self._overwrite = overwrite
        self._leader = leader
        self._waiting: dict[str, dict[RowKey, tuple[Any, str]]] = {}
        self._bytes = 0
        self._count = 0

    def prepare(self, schemas: Mapping[str, ColumnSchema]) -> None:
        """Make the columns that are missing, after all were checked.

        Raises:
            ValueError: a column is there and takes something else, or cannot be made.
        """
        for name, schema in schemas.items():
            if name in self._checkout.columns:
                check_fits(self._checkout[name], schema)
        made = [name for name in schemas if name not in self._checkout.columns]
        done: list[str] = []
        try:
            for name in made:
                make_column(self._checkout, name, schemas[name])
                done.append(name)
        except HangarError:
            for name in done:
                self._checkout.columns.delete(name)
            raise
        self.report.columns = tuple(schemas)
        self.report.made = tuple(made)

    def wants(self, column: str, key: RowKey) -> bool:
        """Whether a sample would be written: it is not there yet, or is to be overwritten."""
        return self._overwrite or key not in self._checkout[column]

    def skip(self, count: int = 1) -> None:
        """Count samples that are there already."""
        self.report.skipped += count

    def refuse(self, source: str, reason: object) -> None:
        """Record what cannot be imported."""
        self.report.refused.append(Refused(source, str(reason).removeprefix(f"{source}: ")))

    def put(self, column: str, key: RowKey, value: Any, source: str) -> None:
        """Write a sample, now or with the next ones.

        source: what the report calls it if it is refused.
        """
        self._keep(column, key, value, source)
        self._flush_much()

    def put_row(self, key: RowKey, values: Mapping[str, Any], source: str) -> None:
        """Write the samples of a key in several columns, all of them at once."""
        for column, value in values.items():
            self._keep(column, key, value, source)
        self._flush_much()

    def _keep(self, column: str, key: RowKey, value: Any, source: str) -> None:
        waiting = self._waiting.setdefault(column, {})
        if key in waiting:
            self.refuse(source, f"column {column!r}: its key {key!r} is that of {waiting[key][1]} too")
            return
        waiting[key] = (value, source)
        self._bytes += value.nbytes if isinstance(value, np.ndarray) else len(value)
        self._count += 1

    def _flush_much(self) -> None:
        if self._bytes >= _MOST_BYTES or self._count >= _MOST_SAMPLES:
            self.flush()

    def flush(self) -> None:
        """Stage all that was put."""
        columns = sorted(self._waiting, key=lambda name: name != self._leader)
        refused: set[RowKey] = set()
        for column in columns:
            rows = {key: row for key, row in self._waiting[column].items() if key not in refused}
            left_out = self._stage(column, rows)
            if column == self._leader:
                refused = left_out
        self._waiting, self._bytes, self._count = {}, 0, 0

    def _stage(self, name: str, rows: dict[RowKey, tuple[Any, str]]) -> set[RowKey]:
        """Write rows of a column; gives the keys of those that were refused."""
        column = self._checkout[name]
        try:
            column.update([_pair(key, value) for key, (value, _) in rows.items()])
            self.report.added += len(rows)
            return set()
        except _OF_ONE_SAMPLE:
            # None of them was written: one by one, so that only those that do not fit are refused.
            return {key for key, (value, source) in rows.items() if not self._stage_one(column, key, value, source)}

    def _stage_one(self, column: Any, key: RowKey, value: Any, source: str) -> bool:
        try:
            column.update([_pair(key, value)])
        except _OF_ONE_SAMPLE as error:
            self.refuse(source, error)
            return False
        self.report.added += 1
        return True


def make_column(checkout: Any, name: str, schema: ColumnSchema) -> None:
    """Add a column of a schema."""
    nested = schema.column_layout == "nested"
    if schema.column_type == "str":
        checkout.add_str_column(name, nested)
    elif schema.column_type == "bytes":
        checkout.add_bytes_column(name, nested)
    else:
        variable = schema.schema_type == "variable_shape"
        if schema.shape is not None and 0 in schema.shape:
            raise InvalidSchemaError(f"column {name!r}: samples of shape {schema.shape} have no elements")
        checkout.add_ndarray_column(
            name, schema.shape, schema.numpy_dtype, variable_shape=variable, contains_subsamples=nested
        )


def check_fits(column: Any, schema: ColumnSchema) -> None:
    """Raises InvalidSchemaError where no sample of a schema would fit into a column. Shapes are looked at later."""
    has = column._entry.schema
    rank = len(schema.shape or ()) == len(has.shape or ())
    if (has.column_type, has.column_layout, has.dtype) != (schema.column_type, schema.column_layout, schema.dtype) or (
        not rank
    ):
        raise InvalidSchemaError(
            f"column {column.column!r} is there and holds {told(has)}; what is to be imported is {told(schema)}. "
            "Import it "
            "into another column"
        )


def told(schema: ColumnSchema) -> str:
    """A schema in words, for messages."""
    nested = "nested " if schema.column_layout == "nested" else ""
    if schema.column_type != "ndarray":
        return f"{nested}{schema.column_type}"
    at_most = "at most " if schema.schema_type == "variable_shape" else ""
    return f"{nested}{schema.numpy_dtype.name} ({schema.dtype}) of shape {at_most}{schema.shape}"


def choose_columns(there: Collection[str], chosen: Collection[str] | None, where: str) -> list[str]:
    """The names out of `there` that were chosen; all of them where `chosen` is None.

    Raises:
        ColumnNotFoundError: one is not there.
    """
    if chosen is None:
        return list(there)
    missing = [name for name in chosen if name not in there]
    if missing:
        raise ColumnNotFoundError(f"{where} has no column {missing[0]!r}; it has: {', '.join(there) or 'none'}")
    return list(dict.fromkeys(chosen))


def _pair(key: RowKey, value: Any) -> tuple[KeyType, Any]:
    return (key[0], {key[1]: value}) if isinstance(key, tuple) else (key, value)
