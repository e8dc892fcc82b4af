"""Importing a Zarr group: each of its arrays becomes a column, its first axis the samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.errors import redact_url
from hangar_cloud.backends.values import decode_text
from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import HangarError, InvalidSchemaError, UnreadableFileError
from hangar_cloud.external.dataset_samples import DatasetNote, DatasetReader, Sample, Wants, from_native
from hangar_cloud.external.file_names import parse_tagged
from hangar_cloud.external.zarr_export import KEYS, NOTE, node_of
from hangar_cloud.external.zarr_store import open_group, refuse_missing_chunks, refuse_unsafe

MAX_CHUNK_BYTES: Final = 2**32
_READ_BYTES: Final = 16 * 1024 * 1024


class ZarrReader:
    """A group that another tool wrote. Keys are places along the first axis; attributes become metadata, as JSON.

    Arrays in groups below become columns called ``<group>.<array>``.
    """

    def __init__(self, group: Any, where: str) -> None:
        self._where = where
        try:
            self._arrays = dict(_arrays(group, ""))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UnreadableFileError(f"{where}: Zarr cannot read the notes of an array in it: {error}") from error
        self.metadata: dict[KeyType, str] = {
            str(key): value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            for key, value in dict(group.attrs).items()
        }
        self.unreadable: dict[str, str] = {}
        if not self._arrays:
            raise UnreadableFileError(f"{where}: there are no arrays in the group")

    def schemas(self) -> dict[str, ColumnSchema]:
        """Its columns, from the arrays' own notes."""
        return {name: self._schema(name, array) for name, array in self._arrays.items()}

    def samples(self, columns: list[str], wants: Wants) -> Iterator[Sample]:
        """Array by array, chunk by chunk."""
        for name in columns:
            for start, rows, wanted in _chunks(self._arrays[name], name, wants):
                for i, is_wanted in enumerate(wanted):
                    if is_wanted:
                        yield Sample(name, start + i, _value(rows, i), f"{self._where}, array {name}, row {start + i}")

    def _schema(self, name: str, array: Any) -> ColumnSchema:
        where = f"{self._where}, array {name!r}"
        refuse_unsafe(array, where)
        if not array.shape:
            raise InvalidSchemaError(
                f"{where}: it has no axis that could be the samples; name other arrays in columns="
            )
        kind = array.dtype.kind
        if kind in "TUO" and len(array.shape) == 1:
            return ColumnSchema("str")
        if kind == "S" and len(array.shape) == 1:
            return ColumnSchema("bytes")
        if kind not in "biufc":
            raise InvalidSchemaError(f"{where}: columns do not hold {array.dtype}; name other arrays in columns=")
        refuse_large(array, where)
        return ColumnSchema("ndarray", "flat", "fixed_shape", np.dtype(array.dtype).str, tuple(array.shape[1:]))


class ExportedZarrReader:
    """A group that `export_dataset` wrote: everything comes back as it was."""

    def __init__(self, group: Any, note: DatasetNote, where: str) -> None:
        self._group = group
        self._note = note
        self._where = where
        self.metadata = note.metadata
        self.unreadable: dict[str, str] = {}

    def schemas(self) -> dict[str, ColumnSchema]:
        """Its columns, as they were; those without samples too."""
        return dict(self._note.columns)

    def samples(self, columns: list[str], wants: Wants) -> Iterator[Sample]:
        """Column by column."""
        for name in columns:
            schema = self._note.columns[name]
            try:
                read = self._fixed if schema.schema_type == "fixed_shape" else self._variable
                rows = read(name, schema)
                for key, value in zip(self._keys(name), rows, strict=self._note.details["keys"][name] == "lines"):
                    if wants(name, key):
                        yield Sample(name, key, value(), f"{self._where}, column {name}, sample {key!r}")
            except HangarError:
                raise
            except (KeyError, ValueError, TypeError, IndexError, UnicodeDecodeError) as error:
                raise UnreadableFileError(f"{self._where}, column {name!r}: it is damaged: {error!r}") from error

    def _keys(self, name: str) -> Iterator[RowKey]:
        if self._note.details["keys"][name] == "range":
            yield from range(2**62)
            return
        rest = b""
        for part in _parts(self._array(f"{KEYS}/{node_of(name)}")):
            *lines, rest = (rest + part.tobytes()).split(b"\n")
            yield from map(_parse_row_key, lines)

    def _fixed(self, name: str, schema: ColumnSchema) -> Iterator[Any]:
        array = self._array(node_of(name))
        for rows in _parts(array):
            for row in rows:
                yield lambda row=row: from_native(np.array(row), schema.numpy_dtype)

    def _variable(self, name: str, schema: ColumnSchema) -> Iterator[Any]:
        data = self._array(f"{node_of(name)}/data")
        offsets = self._array(f"{node_of(name)}/offsets")
        shapes = self._array(f"{node_of(name)}/shapes")
        numbers, first = np.empty(0, data.dtype), 0
        for start in range(0, shapes.shape[0], 4096):
            ends = _read(offsets, start, start + 4097)
            for low, high, shape in zip(ends[:-1], ends[1:], _read(shapes, start, start + 4096), strict=True):
                if not 0 <= low <= high <= data.shape[0]:
                    raise UnreadableFileError(f"{self._where}, column {name!r}: its offsets are damaged")
                if not first <= low <= high <= first + len(numbers):
                    ahead = min(data.shape[0], low + _READ_BYTES // data.dtype.itemsize)
                    numbers = _read(data, low, max(high, ahead))
                    first = int(low)
                part = numbers[low - first : high - first]
                yield lambda part=part, shape=shape: _decoded(schema, part, shape)

    def _array(self, name: str) -> Any:
        array = self._group[name]
        where = f"{self._where}, array {name!r}"
        refuse_unsafe(array, where)
        refuse_large(array, where)
        if self._note.details.get("chunks") == "all":
            refuse_missing_chunks(array, where)
        return array


def open_zarr(path: str, storage_options: Mapping[str, Any] | None) -> DatasetReader:
    """The reader of a group: whether it was exported from here, its own notes say."""
    group = open_group(path, "r", storage_options)
    where = redact_url(path)
    note = group.attrs.get(NOTE)
    if isinstance(note, dict) and "columns" in note:
        return ExportedZarrReader(group, DatasetNote.from_json(note, where), where)
    return ZarrReader(group, where)


def refuse_large(array: Any, where: str) -> None:
    """Raises UnreadableFileError for an array whose notes claim chunks, or rows, that no memory holds."""
    row = int(np.prod(array.shape[1:], dtype=object)) * array.dtype.itemsize
    chunk = int(np.prod(array.chunks, dtype=object)) * array.dtype.itemsize
    if max(row, chunk) > MAX_CHUNK_BYTES:
        raise UnreadableFileError(
            f"{where}: one of its chunks or rows would take {max(row, chunk):,} bytes of memory, the most is "
            f"{MAX_CHUNK_BYTES:,}; rechunk it"
        )


def _arrays(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, array in sorted(group.arrays()):
        yield f"{before}{name}", array
    for name, inner in sorted(group.groups()):
        yield from _arrays(inner, f"{before}{name}.")


def _rows_at_once(array: Any) -> int:
    """Whole chunks along the first axis, of some megabytes."""
    row = max(int(np.prod(array.shape[1:], dtype=np.int64)) * max(array.dtype.itemsize, 1), 1)
    chunk = max(int(array.chunks[0]), 1)
    return int(max(_READ_BYTES // row // chunk, 1) * chunk)


def _parts(array: Any) -> Iterator[npt.NDArray[Any]]:
    step = _rows_at_once(array)
    for start in range(0, array.shape[0], step):
        yield _read(array, start, start + step)


def _read(array: Any, start: int, end: int) -> npt.NDArray[Any]:
    """Some rows. Raises UnreadableFileError where their chunks are damaged."""
    try:
        return np.asarray(array[start:end])
    # Each codec has errors of its own.
    except Exception as error:
        raise UnreadableFileError(f"array {array.name!r}, rows from {start}: a chunk is damaged: {error}") from error


def _chunks(array: Any, name: str, wants: Wants) -> Iterator[tuple[int, npt.NDArray[Any], list[bool]]]:
    step = _rows_at_once(array)
    for start in range(0, array.shape[0], step):
        wanted = [wants(name, key) for key in range(start, min(start + step, array.shape[0]))]
        if any(wanted):
            yield start, _read(array, start, start + step), wanted


def _value(rows: npt.NDArray[Any], i: int) -> Any:
    if rows.dtype.kind in "TUO":
        return str(rows[i])
    if rows.dtype.kind == "S":
        return bytes(rows[i])
    return np.ascontiguousarray(rows[i]).reshape(rows.shape[1:]).astype(rows.dtype)


def _decoded(schema: ColumnSchema, part: npt.NDArray[Any], shape: npt.NDArray[Any]) -> Any:
    if schema.column_type == "str":
        return decode_text(part.tobytes())
    if schema.column_type == "bytes":
        return part.tobytes()
    return from_native(np.ascontiguousarray(part).reshape(shape.tolist()), schema.numpy_dtype)


def _parse_row_key(line: bytes) -> RowKey:
    keys = [parse_tagged(part) for part in line.decode("ascii").split(" ")]
    return keys[0] if len(keys) == 1 else (keys[0], keys[1])
