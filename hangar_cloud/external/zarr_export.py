"""Exporting a dataset to a Zarr group: an array for each column, its first axis the samples.

What Zarr has no array for, values of differing shapes, is a group of three: the numbers of all values one after the
other (`data`), where each begins (`offsets`), and what shape it has (`shapes`). The keys of a column are text in
the group ``@keys``, one in a line, unless they are 0, 1, 2 …
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.values import encode_text
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.external.dataset_samples import ReadAhead, note_of, rows_of, size_of, to_native
from hangar_cloud.external.file_names import tagged
from hangar_cloud.external.placing import placed_folder
from hangar_cloud.external.transfer_report import ExportReport
from hangar_cloud.external.zarr_store import make_array, open_group

KEYS: Final = "@keys"
NOTE: Final = "hangar"
CHUNK_BYTES: Final = 4 * 1024 * 1024


def export_zarr(
    checkout: Any, columns: list[str], path: str, overwrite: bool, progress: Callable[[int], None]
) -> ExportReport:
    """Write a group; a chunk or so is in memory."""
    with placed_folder(path, overwrite, is_zarr) as temporary:
        group = open_group(str(temporary), "w")
        keys = {name: _write_keys(group, name, checkout[name]) for name in columns}
        count = 0
        for name in columns:
            count += _Column(group, name, checkout[name], progress).write()
        group.attrs[NOTE] = note_of(checkout, columns, keys=keys, chunks="all").to_json()
    return ExportReport(count, 1, path)


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr group."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup"))


def node_of(column: str) -> str:
    """What the array of a column is called: names that are Zarr's own get a mark."""
    return f"@{column}" if column.startswith(("__", ".z")) or column == "zarr.json" else column


def write_row_key(key: RowKey) -> str:
    """The key of a value in a line: ``int:7``, or for a subsample ``str:p1 int:0``."""
    return " ".join(map(tagged, key)) if isinstance(key, tuple) else tagged(key)


class Growing:
    """An array of one or more axes that is appended to, some chunks at a time."""

    def __init__(self, group: Any, name: str, row: tuple[int, ...], dtype: Any) -> None:
        size = int(np.prod(row, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._rows = max(1, CHUNK_BYTES // max(size, 1))
        self._array = make_array(group, name, (0, *row), dtype, (self._rows, *row))
        self._waiting: list[npt.NDArray[Any]] = []
        self._count = 0
        self._written = 0

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Append rows."""
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= self._rows:
            self._write(self._count // self._rows * self._rows)

    def end(self) -> None:
        """Write what is left."""
        self._write(self._count)

    def _write(self, count: int) -> None:
        if not count:
            return
        rows = np.concatenate(self._waiting)
        self._array.resize((self._written + count, *rows.shape[1:]))
        self._array[self._written : self._written + count] = rows[:count]
        self._written += count
        self._waiting = [rows[count:].copy()]
        self._count -= count


class _Column:
    def __init__(self, group: Any, name: str, column: Any, progress: Callable[[int], None]) -> None:
        self._column = column
        self._schema: ColumnSchema = column._entry.schema
        self._progress = progress
        if self._schema.schema_type == "fixed_shape":
            dtype = self._schema.numpy_dtype.newbyteorder("=")
            self._data = Growing(group, node_of(name), self._schema.shape or (), dtype)
            self._sizes: tuple[Growing, Growing] | None = None
            return
        inner = group.create_group(node_of(name))
        is_array = self._schema.column_type == "ndarray"
        dtype = self._schema.numpy_dtype.newbyteorder("=") if is_array else np.dtype(np.uint8)
        self._data = Growing(inner, "data", (), dtype)
        self._sizes = (
            Growing(inner, "offsets", (), np.dtype(np.int64)),
            Growing(inner, "shapes", (len(self._schema.shape or (0,)),), np.dtype(np.int64)),
        )

    def write(self) -> int:
        count = end = 0
        if self._sizes is not None:
            self._sizes[0].add(np.zeros(1, np.int64))
        for values in _batches(self._column):
            numbers = [self._numbers(value) for value in values]
            if self._sizes is None:
                self._data.add(np.stack(numbers))
            else:
                self._data.add(np.concatenate([one.reshape(-1) for one in numbers]))
                ends = end + np.cumsum([one.size for one in numbers])
                end = int(ends[-1])
                self._sizes[0].add(ends.astype(np.int64))
                self._sizes[1].add(np.array([one.shape for one in numbers], np.int64))
            count += len(values)
            self._progress(len(values))
        for one in (self._data, *(self._sizes or ())):
            one.end()
        return count

    def _numbers(self, value: Any) -> npt.NDArray[Any]:
        if isinstance(value, np.ndarray):
            return to_native(value)
        return np.frombuffer(encode_text(value) if isinstance(value, str) else value, np.uint8)


def _batches(column: Any) -> Iterator[list[Any]]:
    """The values of a column, some megabytes at a time."""
    ahead = ReadAhead()
    rows = rows_of(column)
    while keys := list(islice(rows, ahead.rows)):
        values = column._read_all(keys)
        ahead.learn(len(keys), sum(map(size_of, values)))
        yield values


def _write_keys(group: Any, name: str, column: Any) -> str:
    """Write the keys of a column, and say how: "range" where they are 0, 1, 2 … and nothing was written."""
    if all(key == i for i, key in enumerate(rows_of(column))):
        return "range"
    lines = Growing(group.require_group(KEYS), node_of(name), (), np.dtype(np.uint8))
    for key in rows_of(column):
        lines.add(np.frombuffer(f"{write_row_key(key)}\n".encode("ascii"), np.uint8))
    lines.end()
    return "lines"
