"""Importing the files below a folder into a column."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hangar_cloud.catalog.keys import KeyType, check_key
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import HangarError, InvalidArgumentError, InvalidNameError, PluginError, UnreadableFileError
from hangar_cloud.external.decoding import in_threads, worker_count
from hangar_cloud.external.file_names import clean_name
from hangar_cloud.external.file_tree import SourceFile, joined, list_files
from hangar_cloud.external.high_level import called, check_settings, extension_of
from hangar_cloud.external.plugin_registry import find_plugin
from hangar_cloud.external.staging_writer import StagingWriter
from hangar_cloud.external.survey import Survey
from hangar_cloud.external.transfer_report import ImportReport
from hangar_cloud.progress import item_progress


def import_files(
    checkout: Any,
    column: str,
    path: str | os.PathLike[str],
    *,
    plugin: str | None = None,
    overwrite: bool = False,
    labels: str | None = None,
    keep_extensions: bool = False,
    clean_names: bool = False,
    workers: int | None = None,
    **plugin_kwargs: Any,
) -> ImportReport:
    """Import a file, or every file below a folder, into a column of a writer checkout.

    Keys are paths below the folder, without extension: ``train/cat/001`` for ``train/cat/001.jpg``. Files that begin
    with a dot are left out. Samples are staged as they come, some megabytes at a time: run it again after it was cut
    off, and it imports only what is missing. Commit afterwards.

    A column that is not there is made from the heads of all files: with a fixed shape where all have one, else with a
    variable shape up to the largest; of the dtype and rank that most of them have. Files that do not fit are
    refused, and told with the reason.

    Args:
        checkout: for writing.
        column: name of the column.
        path: a folder or a file of this machine.
        plugin: name of the plugin that reads them; by default the one for each file's extension.
        overwrite: write over samples that are there; by default they are left as they are, and not even read.
        labels: name of a str column that gets, under the same keys, the name of the folder that each file lies in.
        keep_extensions: keep the extension in the key.
        clean_names: put ``_`` in keys where a file's name has what a key cannot hold, such as a space; by default
            such a file is refused.
        workers: how many threads decode; by default one for each processor, at most 8.
        **plugin_kwargs: for the plugin, such as ``mode="RGB"`` of images.

    Returns:
        what was imported, what was there already, and what was refused.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: an argument cannot be meant, or the column holds something else; nothing was written.
        ImportError: a plugin needs a package that is not installed.
    """
    files = list_files(path)
    if labels == column:
        raise InvalidArgumentError(f"labels go into a column of their own, not into {column!r} too")
    reader = FileReader(files, plugin, plugin_kwargs, keep_extensions, clean_names)
    derived: dict[str, Derive] = {} if labels is None else {labels: label_of}
    return import_tree(checkout, column, files, reader, derived, overwrite, workers)


Derive = Callable[[SourceFile], str]
"""Makes the value of another column from the place of a file; empty text where there is none."""


def label_of(file: SourceFile) -> str:
    """The name of the folder that a file lies in."""
    return file.label


def import_tree(
    checkout: Any,
    column: str,
    files: list[SourceFile],
    reader: FileReader,
    derived: Mapping[str, Derive],
    overwrite: bool,
    workers: int | None,
) -> ImportReport:
    """Import listed files into a column, and what their places say into str columns; see `import_files`."""
    count = worker_count(workers)
    if column in checkout.columns and checkout[column].contains_subsamples:
        raise InvalidArgumentError(f"column {column!r} is nested: which subsample a file would be, is said nowhere")
    writer = StagingWriter(checkout, overwrite, leader=column)
    schemas = {name: ColumnSchema("str") for name in derived}
    if column not in checkout.columns:
        found = _survey(reader, files, count)
        if found is None:
            _refuse_all(reader, files, writer, count)
            return writer.report
        schemas[column] = found
    writer.prepare(schemas)
    writer.report.columns = (column, *derived)
    _Importing(reader, writer, column, derived).run(files, count)
    return writer.report


class FileReader:
    """Reads files by the plugins that fit."""

    def __init__(
        self,
        files: Iterable[SourceFile],
        plugin: str | None,
        settings: dict[str, Any],
        keep_extensions: bool,
        clean_names: bool,
    ) -> None:
        self._settings = settings
        self._keep_extensions = keep_extensions
        self._clean_names = clean_names
        # Found once, for each ending: looking for plugins is slow, and what it warns of is said once.
        self._plugins = _plugins_for({_ending(file) for file in files}, plugin)
        self._check_settings()

    def load(self, file: SourceFile) -> Any:
        """What the plugin for a file makes of it."""
        return called(self._plugin(file).load, f"cannot load {file.path}", os.fspath(file.path), **self._settings)

    def look(self, file: SourceFile) -> list[Any]:
        """The samples of a file, or what can be told of them without decoding."""
        describe = getattr(self._plugin(file), "describe", None)
        facts = None
        if describe is not None:
            facts = called(describe, f"cannot load {file.path}", os.fspath(file.path), **self._settings)
        return [value for value, _ in pairs_of_load(self.load(file))] if facts is None else [facts]

    def key(self, file: SourceFile, name: str | None = None) -> KeyType:
        """The key of a file, or of the sample `name` in it. Raises InvalidNameError where it cannot be one."""
        stem, ending = os.path.splitext(file.path.name)
        text = joined(file.folder, stem if name is None else name)
        if self._keep_extensions:
            text += ending
        return check_key(clean_name(text) if self._clean_names else text)

    def _plugin(self, file: SourceFile) -> Any:
        # A pipe would be waited for without end.
        if not file.path.is_file():
            raise UnreadableFileError(f"{file.path}: this is no file, or a link to one that is gone")
        found = self._plugins[_ending(file)]
        if isinstance(found, PluginError):
            raise PluginError(str(found))
        return found

    def _check_settings(self) -> None:
        """Raises InvalidArgumentError for an option that none of the plugins for these files has."""
        failing: InvalidArgumentError | None = None
        for one in self._plugins.values():
            if isinstance(one, PluginError):
                continue
            try:
                check_settings(one.load, self._settings, "cannot import")
                return
            except InvalidArgumentError as error:
                failing = error
        if failing is not None:
            raise failing


def _ending(file: SourceFile) -> str:
    return extension_of(file.path) or "(no ending)"


def _plugins_for(endings: set[str], plugin: str | None) -> dict[str, Any]:
    if plugin is not None:
        return dict.fromkeys(endings, find_plugin("load", plugin))
    found: dict[str, Any] = {}
    for ending in endings:
        try:
            found[ending] = find_plugin("load", None, ending)
        except PluginError as error:
            found[ending] = error
    return found


class _Importing:
    """One import of files into a column, and of what their places say into others."""

    def __init__(self, reader: FileReader, writer: StagingWriter, column: str, derived: Mapping[str, Derive]) -> None:
        self._reader = reader
        self._writer = writer
        self._columns = [column, *derived]
        self._derived = derived
        self._keys: dict[KeyType, str] = {}

    def run(self, files: list[SourceFile], workers: int) -> None:
        with item_progress("importing", "files", len(files)) as progress:
            for file, loaded, error in in_threads(self._reader.load, self._missing(files, progress), workers):
                if error is not None:
                    self._writer.refuse(str(file.path), error)
                else:
                    self._take(file, loaded)
                progress(1)
            self._writer.flush()

    def _missing(self, files: list[SourceFile], progress: Any) -> Iterator[SourceFile]:
        """The files that have to be read."""
        for file in files:
            try:
                key = self._reader.key(file)
            except InvalidNameError as error:
                self._writer.refuse(str(file.path), f"{error}, or import with clean_names=True")
                progress(1)
                continue
            lacking = [name for name, derive in self._derived.items() if not derive(file)]
            if lacking:
                self._writer.refuse(str(file.path), f"it lies in no folder that could be its {', '.join(lacking)}")
                progress(1)
            elif not any(self._writer.wants(name, key) for name in self._columns) and self._is_first(key, file):
                self._writer.skip(len(self._columns))
                progress(1)
            else:
                yield file

    def _take(self, file: SourceFile, loaded: Any) -> None:
        several = not isinstance(loaded, tuple)
        try:
            for value, name in pairs_of_load(loaded):
                own = not several and name == os.path.splitext(file.path.name)[0]
                key = self._reader.key(file) if own else self._reader.key(file, name)
                self._put(file, key, value, None if not several else name)
        except (HangarError, OSError) as error:
            self._writer.refuse(str(file.path), error)
        except Exception as error:  # noqa: BLE001 - a plugin's generator may raise anything
            self._writer.refuse(str(file.path), f"{type(error).__name__}: {error}")

    def _put(self, file: SourceFile, key: KeyType, value: Any, name: str | None) -> None:
        source = str(file.path) if name is None else f"{file.path} ({name})"
        if name is None and not self._is_first(key, file):
            self._writer.refuse(
                source,
                f"its key {key!r} is that of {self._keys[key]} too; import with keep_extensions=True, or one of them "
                "alone",
            )
            return
        values = [value, *(derive(file) for derive in self._derived.values())]
        row = {name: one for name, one in zip(self._columns, values, strict=True) if self._writer.wants(name, key)}
        self._writer.skip(len(values) - len(row))
        self._writer.put_row(key, row, source)

    def _is_first(self, key: KeyType, file: SourceFile) -> bool:
        """Whether no other file of this import has the key."""
        return self._keys.setdefault(key, file.name) == file.name


def pairs_of_load(loaded: Any) -> Iterator[tuple[Any, str]]:
    """What a plugin's `load` gave, as pairs (value, name)."""
    if isinstance(loaded, tuple):
        yield loaded
        return
    if not isinstance(loaded, Iterable):
        raise PluginError(f"the plugin gave {type(loaded).__name__}, not a pair (array, name) or an iterator of pairs")
    yield from loaded


def _survey(reader: FileReader, files: list[SourceFile], workers: int) -> ColumnSchema | None:
    survey = Survey()
    with item_progress("looking at files", "files", len(files)) as progress:
        for _, values, error in in_threads(reader.look, files, workers):
            for value in values if error is None else ():
                survey.see(value)
            progress(1)
    return survey.schema()


def _refuse_all(reader: FileReader, files: list[SourceFile], writer: StagingWriter, workers: int) -> None:
    """Record why none of the files can be read."""
    for file, _, error in in_threads(reader.look, files, workers):
        writer.refuse(str(file.path), error or "there is no sample in it")
