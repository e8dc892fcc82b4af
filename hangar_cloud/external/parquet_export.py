"""Exporting a dataset to one Parquet file: a row for each key, a column for each column."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.errors import UnexportableError
from hangar_cloud.external.arrow_encoding import arrow_type, encode_column, encode_keys, key_type
from hangar_cloud.external.dataset_samples import ReadAhead, by_sample, keys_of, note_of, size_of, subkeys_of
from hangar_cloud.external.file_names import KeyForm, form_of
from hangar_cloud.external.placing import placed_file
from hangar_cloud.external.table_dataset import NOTE
from hangar_cloud.external.transfer_report import ExportReport

_GROUP_BYTES: Final = 64 * 1024 * 1024
_GROUP_ROWS: Final = 65_536


def export_parquet(
    checkout: Any, columns: list[str], path: str, overwrite: bool, progress: Callable[[int], None]
) -> ExportReport:
    """Write a file whose rows are the keys of all columns, in order; a column is null where it has no such key.

    Arrays are lists of numbers (tensors of Arrow where they have several dimensions), those of variable shape lists
    with a shape, nested samples lists of pairs (key, value). A row group or so is in memory.
    """
    with placed_file(path, overwrite, sync=True) as temporary:
        count = _Export(checkout, columns, progress).write(temporary)
    return ExportReport(count, 1, path)


class _Export:
    def __init__(self, checkout: Any, columns: list[str], progress: Callable[[int], None]) -> None:
        self._columns = {name: checkout[name] for name in columns}
        self._progress = progress
        self._form: KeyForm = form_of(keys_of(self._columns))
        nested = {name: column for name, column in self._columns.items() if column.contains_subsamples}
        self._sub_forms = {name: form_of(subkeys_of(column)) for name, column in nested.items()}
        self._key = "key"
        while self._key in self._columns:
            self._key += "_"
        note = note_of(checkout, columns, key=self._key, keys=self._form, subkeys=self._sub_forms)
        self._schemas = note.columns
        fields = [pa.field(self._key, key_type(self._form), nullable=False)]
        fields += [pa.field(name, arrow_type(self._schemas[name], self._sub_forms.get(name))) for name in columns]
        self._schema = pa.schema(fields, {NOTE: json.dumps(note.to_json()).encode("utf-8")})
        self._count = 0

    def write(self, path: Path) -> int:
        # A dictionary would take all NaNs for one, and 0.0 and -0.0.
        with pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=False) as writer:
            for keys, values in self._groups():
                arrays = [encode_keys(keys, self._form)]
                arrays += [self._encode(name, keys, values[name]) for name in self._columns]
                writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        return self._count

    def _encode(self, name: str, keys: list[KeyType], values: list[Any]) -> Any:
        try:
            return encode_column(self._schemas[name], self._sub_forms.get(name), values)
        except (UnicodeEncodeError, pa.ArrowInvalid) as error:
            raise UnexportableError(
                f"column {name!r}, some sample from {keys[0]!r} to {keys[-1]!r}: Parquet cannot hold it: {error}"
            ) from error

    def _groups(self) -> Iterator[tuple[list[KeyType], dict[str, list[Any]]]]:
        """Keys and values of the row groups: of each column one value, or None, for each key."""
        keys: list[KeyType] = []
        values: dict[str, list[Any]] = {name: [] for name in self._columns}
        waiting: list[tuple[KeyType, dict[str, list[RowKey]]]] = []
        size = 0
        ahead = ReadAhead()
        for row in by_sample(self._columns):
            waiting.append(row)
            if len(waiting) < ahead.rows:
                continue
            some = self._read(waiting, keys, values)
            ahead.learn(len(waiting), some)
            size += some
            waiting = []
            if size >= _GROUP_BYTES or len(keys) >= _GROUP_ROWS:
                yield keys, values
                keys, values, size = [], {name: [] for name in self._columns}, 0
        self._read(waiting, keys, values)
        if keys:
            yield keys, values

    def _read(
        self, rows: list[tuple[KeyType, dict[str, list[RowKey]]]], keys: list[KeyType], values: dict[str, list[Any]]
    ) -> int:
        size = 0
        keys += [key for key, _ in rows]
        for name, column in self._columns.items():
            wanted = [row for _, there in rows for row in there.get(name, ())]
            found = dict(zip(wanted, column._read_all(wanted), strict=True))
            size += sum(map(size_of, found.values()))
            self._count += len(found)
            self._progress(len(found))
            for _, there in rows:
                here = there.get(name)
                if here is None:
                    values[name].append(None)
                elif column.contains_subsamples:
                    values[name].append({row[1]: found[row] for row in here if isinstance(row, tuple)})
                else:
                    values[name].append(found[here[0]])
        return size
