"""Exporting a dataset to WebDataset tars."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud.backends.values import encode_text
from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.external.dataset_samples import ReadAhead, by_sample, keys_of, note_of, subkeys_of
from hangar_cloud.external.file_export import DEFAULT_EXTENSIONS
from hangar_cloud.external.file_names import KeyForm, form_of, quote_field, quote_stem, write_key
from hangar_cloud.external.image_plugin import ENDINGS, encode_image
from hangar_cloud.external.placing import placed_file, placed_folder
from hangar_cloud.external.tar_members import NOTE
from hangar_cloud.external.transfer_report import ExportReport


def export_webdataset(
    checkout: Any,
    columns: list[str],
    path: str,
    overwrite: bool,
    progress: Callable[[int], None],
    extension: str | None,
    shard_bytes: int,
) -> ExportReport:
    """Write one tar (where `path` ends in .tar), or a folder of tars of about `shard_bytes` each.

    Arrays are .npy files, or images of the format `extension` where they are such; str is .txt, bytes are .bin.
    """
    if extension is not None and extension.lower().lstrip(".") not in ENDINGS:
        raise InvalidArgumentError(f"extension {extension!r} is none of pictures; use one of {', '.join(ENDINGS)}")
    if shard_bytes < 1:
        raise InvalidArgumentError(f"shard_bytes is the size of a tar in bytes, at least 1; not {shard_bytes}")
    export = _Export(checkout, columns, extension, progress)
    if path.endswith(".tar"):
        with placed_file(path, overwrite, sync=True) as temporary:
            export.write(lambda _: temporary, None)
    else:
        with placed_folder(path, overwrite, _is_tars) as folder:
            export.write(lambda number: folder / f"{number:06d}.tar", shard_bytes)
    return ExportReport(export.count, export.tars, path)


class _Export:
    def __init__(
        self, checkout: Any, columns: list[str], extension: str | None, progress: Callable[[int], None]
    ) -> None:
        self._columns = {name: checkout[name] for name in columns}
        self._progress = progress
        schemas = {name: column._entry.schema for name, column in self._columns.items()}
        self._endings = {name: _ending_of(schema, extension) for name, schema in schemas.items()}
        self._form: KeyForm = form_of(keys_of(self._columns))
        nested = {name: column for name, column in self._columns.items() if column.contains_subsamples}
        self._sub_forms = {name: form_of(subkeys_of(column)) for name, column in nested.items()}
        counts = {
            name: int(column.num_subsamples if name in nested else len(column))
            for name, column in self._columns.items()
        }
        self._note = note_of(
            checkout, columns, keys=self._form, subkeys=self._sub_forms, endings=self._endings, counts=counts
        ).to_json()
        self.count = 0
        self.tars = 0

    def write(self, tar_path: Callable[[int], Path], shard_bytes: int | None) -> None:
        rows = self._rows()
        row = next(rows, None)
        while row is not None or not self.tars:
            with self._tar(tar_path(self.tars)) as tar:
                while row is not None:
                    for name, data in row:
                        _add(tar, name, data)
                    row = next(rows, None)
                    if shard_bytes is not None and tar.offset >= shard_bytes:
                        break

    @contextmanager
    def _tar(self, path: Path) -> Iterator[tarfile.TarFile]:
        self.tars += 1
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, NOTE, json.dumps(self._note).encode("utf-8"))
            yield tar

    def _rows(self) -> Iterator[list[tuple[str, bytes]]]:
        """The members of each sample."""
        waiting: list[tuple[KeyType, dict[str, list[RowKey]]]] = []
        ahead = ReadAhead()
        for row in by_sample(self._columns):
            waiting.append(row)
            if len(waiting) < ahead.rows:
                continue
            size = 0
            for members in self._members(waiting):
                size += sum(len(data) for _, data in members)
                yield members
            ahead.learn(len(waiting), size)
            waiting = []
        yield from self._members(waiting)

    def _members(self, rows: list[tuple[KeyType, dict[str, list[RowKey]]]]) -> Iterator[list[tuple[str, bytes]]]:
        values: dict[str, dict[RowKey, Any]] = {}
        for name, column in self._columns.items():
            wanted = [row for _, there in rows for row in there.get(name, ())]
            values[name] = dict(zip(wanted, column._read_all(wanted), strict=True))
        for key, there in rows:
            members = [
                (self._name(name, key, row), self._data(name, row, values[name][row]))
                for name in self._columns
                for row in there.get(name, ())
            ]
            self.count += len(members)
            self._progress(len(members))
            yield members

    def _name(self, column: str, key: KeyType, row: RowKey) -> str:
        stem = quote_stem(write_key(key, self._form))
        sub = f"@{quote_field(write_key(row[1], self._sub_forms[column]))}" if isinstance(row, tuple) else ""
        return f"{stem}.{column}{sub}.{self._endings[column]}"

    def _data(self, column: str, key: RowKey, value: Any) -> bytes:
        if isinstance(value, str):
            return encode_text(value)
        if isinstance(value, bytes):
            return value
        if self._endings[column] != "npy":
            return encode_image(value, self._endings[column], f"column {column!r}, sample {key!r}", None)
        into = io.BytesIO()
        np.save(into, value, allow_pickle=False)
        return into.getvalue()


def _ending_of(schema: ColumnSchema, extension: str | None) -> str:
    if extension is None or schema.column_type != "ndarray" or schema.dtype != "|u1":
        return DEFAULT_EXTENSIONS[schema.column_type]
    shape = schema.shape or ()
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    return extension.lower().lstrip(".") if is_image else "npy"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _is_tars(folder: Path) -> bool:
    return all(path.suffix == ".tar" and path.is_file() for path in folder.iterdir())
