"""Importing a table, Parquet or Arrow, from here or from other tools: each of its columns becomes one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hangar_cloud.backends.errors import redact_url
from hangar_cloud.catalog.keys import KeyType, check_key
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import ColumnNotFoundError, HangarError, InvalidSchemaError, UnreadableFileError
from hangar_cloud.external.arrow_decoding import decode_known, decode_rows, is_arrays, is_bytes, is_text
from hangar_cloud.external.dataset_samples import DatasetNote, Sample, SeenKeys, Wants
from hangar_cloud.external.file_names import KeyForm, clean_name, read_key
from hangar_cloud.external.hub_features import class_names, decode_classes, decode_media, features_of, is_media
from hangar_cloud.external.survey import Survey
from hangar_cloud.external.table_files import TableFile, TableFiles

NOTE = b"hangar"


class _Source(NamedTuple):
    """A column that can be imported.

    Attributes:
        path: the names that lead to it: more than one where it lies in a struct.
        decode: its values.
        describe: values, or what can be told of them without decoding.
    """

    path: tuple[str, ...]
    decode: Callable[[Any], Iterator[Any]]
    describe: Callable[[Any], Iterator[Any]]

    def array(self, batch: Any) -> Any:
        """Its values in some rows."""
        array = batch.column(self.path[0])
        for name in self.path[1:]:
            # flatten() keeps what is null in the struct null in its fields.
            array = array.flatten()[array.type.get_field_index(name)]
        return array


class TableReader:
    """A table that another tool wrote.

    Numbers, text, bytes, and lists of numbers become samples, and so do the pictures, sounds and classes of Hugging
    Face datasets; a struct becomes one column for each of its fields, called ``<struct>.<field>``. Keys are the numbers
    of rows, or ``<split>/<number>`` where the files are of several splits; or the values of a column `key`.
    """

    def __init__(self, files: TableFiles, key: str | None, chosen: list[str] | None, clean_names: bool) -> None:
        self._files = files
        self._clean_names = clean_names
        self._key = key
        self._seen = SeenKeys()
        schema = files.schema()
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise UnreadableFileError(
                f"{self._said} has several columns called {twice[0]!r}, which nobody can tell apart; rename them first"
            )
        if key is not None and key not in schema.names:
            raise ColumnNotFoundError(f"{self._said} has no column {key!r} for keys; it has: {', '.join(schema.names)}")
        features = features_of(schema)
        self._sources: dict[str, _Source] = {}
        self._unsuitable: dict[str, str] = {}
        for field in schema:
            if field.name != key:
                self._add((field.name,), field.type, features.get(field.name))
        self._refuse_unsuitable(chosen)
        self._chosen = [name for name in self._sources if chosen is None or name in chosen]
        self._splits = len({file.split for file in files.files}) > 1
        self.metadata: dict[KeyType, str] = {}
        self.unreadable: dict[str, str] = {}

    def schemas(self) -> dict[str, ColumnSchema]:
        """Its columns. What they hold is looked at, all of it where shapes may differ."""
        surveys = {name: Survey() for name in self._chosen}
        found: dict[str, ColumnSchema] = {}
        schema = self._files.schema()
        for name in self._chosen:
            field = schema.field(self._sources[name].path[0])
            known = _schema_of(field.type) if len(self._sources[name].path) == 1 else None
            if known is not None and self._sources[name].decode is decode_rows:
                found[name] = known
        rest = [name for name in self._chosen if name not in found]
        for _, batch in self._files.batches(sorted({self._sources[name].path[0] for name in rest})) if rest else ():
            for name in rest:
                for value in self._sources[name].describe(self._sources[name].array(batch)):
                    if isinstance(value, Exception):
                        self.unreadable.setdefault(name, str(value))
                    elif value is not None:
                        surveys[name].see(value)
        for name in rest:
            seen = surveys[name].schema()
            if seen is None:
                self.unreadable.setdefault(name, "there are no values in it")
            else:
                self.unreadable.pop(name, None)
                found[name] = seen
        return {name: found[name] for name in self._chosen if name in found}

    def samples(self, columns: list[str], wants: Wants) -> Iterator[Sample]:
        """Row by row."""
        needed = {self._sources[name].path[0] for name in columns} | ({self._key} if self._key else set())
        numbers: dict[str, int] = {}
        for file, batch in self._files.batches(sorted(needed)):
            start = numbers.get(file.split, 0)
            numbers[file.split] = start + batch.num_rows
            keys = self._keys(file, batch, start)
            for name in columns:
                yield from self._column(name, keys, batch, wants)

    @property
    def _said(self) -> str:
        return redact_url(self._files.files[0].path)

    def _add(self, path: tuple[str, ...], kind: Any, feature: Any) -> None:
        name = ".".join(path)
        classes = class_names(feature) if isinstance(feature, dict) else None
        if isinstance(feature, dict) and is_media(feature):
            self._sources[name] = _Source(
                path, lambda array: decode_media(feature, array), lambda array: decode_media(feature, array, True)
            )
        elif classes is not None and pa.types.is_integer(kind):
            self._sources[name] = _Source(path, *[lambda array: decode_classes(classes, array)] * 2)
        elif pa.types.is_struct(kind):
            for field in kind:
                self._add(
                    (*path, field.name), field.type, feature.get(field.name) if isinstance(feature, dict) else None
                )
        elif _is_suitable(kind):
            self._sources[name] = _Source(path, decode_rows, decode_rows)
        else:
            self._unsuitable[name] = str(kind)

    def _refuse_unsuitable(self, chosen: list[str] | None) -> None:
        wanted = [name for name in self._unsuitable if chosen is None or name in chosen]
        if wanted:
            told = ", ".join(f"{name} ({self._unsuitable[name]})" for name in wanted)
            raise InvalidSchemaError(
                f"{self._said}: columns hold neither numbers, text, bytes nor lists of numbers: {told}. Name those to "
                f"import with columns=; {', '.join(self._sources) or 'none'} can be"
            )
        missing = [name for name in chosen or () if name not in self._sources]
        if missing:
            raise ColumnNotFoundError(
                f"{self._said} has no column {missing[0]!r}; it has: {', '.join(self._sources) or 'none'}"
            )

    def _keys(self, file: TableFile, batch: Any, start: int) -> list[Any]:
        if self._key is None:
            prefix = f"{file.split}/" if self._splits else None
            numbers = range(start, start + batch.num_rows)
            return [number if prefix is None else f"{prefix}{number}" for number in numbers]
        return [self._checked(value) for value in batch.column(self._key).to_pylist()]

    def _checked(self, value: Any) -> Any:
        """A key, or the error that says why the value cannot be one."""
        try:
            key = check_key(clean_name(value) if self._clean_names and isinstance(value, str) else value)
        except HangarError as error:
            return type(error)(f"column {self._key!r}: {error}")
        return key if self._seen.is_first(key) else UnreadableFileError(f"column {self._key!r}: {key!r} is there twice")

    def _column(self, name: str, keys: list[Any], batch: Any, wants: Wants) -> Iterator[Sample]:
        wanted = [isinstance(key, HangarError) or wants(name, key) for key in keys]
        if not any(wanted):
            return
        values = self._sources[name].decode(self._sources[name].array(batch))
        for key, value, is_wanted in zip(keys, values, wanted, strict=True):
            if isinstance(key, HangarError):
                yield Sample(name, "", key, f"{self._said}, column {name}")
            elif value is not None and is_wanted:
                yield Sample(name, key, value, f"{self._said}, row {key}, column {name}")


class ExportedTableReader:
    """A table that `export_dataset` wrote: everything comes back as it was."""

    def __init__(self, files: TableFiles, note: DatasetNote) -> None:
        self._files = files
        self._note = note
        self.metadata = note.metadata
        self.unreadable: dict[str, str] = {}

    def schemas(self) -> dict[str, ColumnSchema]:
        """Its columns, as they were; those without samples too."""
        return dict(self._note.columns)

    def samples(self, columns: list[str], wants: Wants) -> Iterator[Sample]:
        """Row by row."""
        details = self._note.details
        sub_forms: dict[str, KeyForm] = details["subkeys"]
        for file, batch in self._files.batches([details["key"], *columns]):
            keys = [read_key(str(text), details["keys"]) for text in batch.column(details["key"]).to_pylist()]
            for name in columns:
                flat = name not in sub_forms
                rows = self._flat(name, keys, batch) if flat else self._nested(name, keys, batch, sub_forms[name])
                for key, value in rows:
                    if value is not None and wants(name, key):
                        yield Sample(name, key, value, f"{redact_url(file.path)}, row {key!r}, column {name}")

    def _flat(self, name: str, keys: list[KeyType], batch: Any) -> Iterator[tuple[Any, Any]]:
        return zip(keys, decode_known(self._note.columns[name], batch.column(name)), strict=True)

    def _nested(self, name: str, keys: list[KeyType], batch: Any, form: KeyForm) -> Iterator[tuple[Any, Any]]:
        lists = batch.column(name)
        pairs = lists.flatten()
        owners = [
            key for key, count in zip(keys, lists.value_lengths().to_pylist(), strict=True) for _ in range(count or 0)
        ]
        subkeys = [read_key(str(text), form) for text in pairs.field("key").to_pylist()]
        values = decode_known(self._note.columns[name], pairs.field("value"))
        return zip(zip(owners, subkeys, strict=True), values, strict=True)


def open_table(
    files: TableFiles, key: str | None, chosen: list[str] | None, clean_names: bool
) -> TableReader | ExportedTableReader:
    """The reader of a table: whether it was exported from here, its own notes say."""
    note = (files.schema().metadata or {}).get(NOTE)
    if note is None or key is not None:
        return TableReader(files, key, chosen, clean_names)
    where = redact_url(files.files[0].path)
    try:
        said = json.loads(note)
    except ValueError as error:
        raise UnreadableFileError(f"{where}: what the export says of itself is damaged: {error}") from error
    return ExportedTableReader(files, DatasetNote.from_json(said, where))


def _is_suitable(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.ExtensionType) and not isinstance(kind, pa.FixedShapeTensorType):
        kind = kind.storage_type
    return is_text(kind) or is_bytes(kind) or is_arrays(kind)


def _schema_of(kind: Any) -> ColumnSchema | None:
    """The schema of a column whose Arrow type says all."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind) or is_bytes(kind):
        return ColumnSchema("str" if is_text(kind) else "bytes")
    shape: tuple[int, ...] = ()
    if isinstance(kind, pa.FixedShapeTensorType):
        shape, kind = tuple(kind.shape), kind.value_type
    while pa.types.is_fixed_size_list(kind):
        shape, kind = (*shape, kind.list_size), kind.value_type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    return ColumnSchema("ndarray", "flat", "fixed_shape", np.dtype(kind.to_pandas_dtype()).str, shape)
