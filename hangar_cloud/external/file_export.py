"""Exporting the samples of a column to files, one each."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hangar_cloud.catalog.keys import KeyType, RowKey
from hangar_cloud.errors import ExportExistsError, InvalidArgumentError, SampleNotFoundError, UnexportableError
from hangar_cloud.external.dataset_samples import rows_of, values_of, warn_of_purged
from hangar_cloud.external.file_errors import file_errors
from hangar_cloud.external.file_names import file_of, tagged
from hangar_cloud.external.high_level import save
from hangar_cloud.external.placing import refuse_inside_repository
from hangar_cloud.external.plugin_registry import find_plugin
from hangar_cloud.external.transfer_report import ExportReport
from hangar_cloud.progress import item_progress

DEFAULT_EXTENSIONS = {"ndarray": "npy", "str": "txt", "bytes": "bin"}


def export_files(
    checkout: Any,
    column: str,
    outdir: str | os.PathLike[str],
    *,
    extension: str | None = None,
    plugin: str | None = None,
    samples: Iterable[Any] | None = None,
    overwrite: bool = False,
    **plugin_kwargs: Any,
) -> ExportReport:
    """Write samples of a column to files, each called by its key: ``cat/001`` becomes ``<outdir>/cat/001.npy``.

    A subsample goes to a file in a folder called by its sample.

    Args:
        checkout: of either kind.
        column: name of the column.
        outdir: the folder; made where it is missing.
        extension: the format; by default npy for arrays, txt for str, bin for bytes.
        plugin: name of the plugin that writes; by default the one for the extension.
        samples: keys of samples (all subsamples of each in a nested column, or pairs); by default all, and those that
            were purged are left out with a warning.
        overwrite: write over files that are there.
        **plugin_kwargs: for the plugin, such as ``quality=90`` of jpg or ``samplerate=16000`` of wav.

    Returns:
        how much was written.

    Raises:
        KeyError: there is no such column or sample; nothing was written.
        FileExistsError: a file is there already; nothing was written.
        ValueError: two samples would be one file, the format cannot hold them (the first of them is tried before
            anything is written), or an argument cannot be meant.
    """
    refuse_inside_repository(outdir)
    source = checkout.columns[column]
    ending = (extension or DEFAULT_EXTENSIONS[source.column_type]).lstrip(".")
    if source.column_type == "bytes" and plugin is None:
        # Whatever they are, they are written as they are: the .jpg files that they may be.
        plugin = "bytes"
    find_plugin("save", plugin, ending)
    if samples is None:
        warn_of_purged([source])
    keys = list(_rows_of(source, samples))
    folder = Path(outdir)
    _check_paths(keys, folder, ending, column, overwrite)
    if keys:
        _try_first(source, keys[0], ending, plugin, plugin_kwargs)
    with file_errors(f"cannot export to {folder}"), item_progress("exporting", "samples", len(keys)) as progress:
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values_of(source, keys):
            here, last = (folder / str(key[0]), key[1]) if isinstance(key, tuple) else (folder, key)
            here.mkdir(parents=True, exist_ok=True)
            _save(value, here, last, ending, plugin, overwrite, plugin_kwargs)
            progress(1)
    return ExportReport(len(keys), len(keys), str(folder))


def _rows_of(column: Any, samples: Iterable[Any] | None) -> Iterator[RowKey]:
    if samples is None:
        yield from rows_of(column)
        return
    if isinstance(samples, str):
        raise InvalidArgumentError(f"samples is a list of keys, not one text; give [{samples!r}]")
    for key in samples:
        if column.contains_subsamples and not isinstance(key, tuple):
            yield from ((key, sub) for sub in column[key])
        elif key in column:
            yield column._row_key(key)
        else:
            raise SampleNotFoundError(f"column {column.column!r} has no sample {key!r}")


def _check_paths(keys: list[RowKey], folder: Path, ending: str, column: str, overwrite: bool) -> None:
    """Refuse what would be one file, lie elsewhere, or be written over."""
    by_path: dict[str, RowKey] = {}
    for key in keys:
        name = "/".join(map(str, key)) if isinstance(key, tuple) else str(key)
        path = file_of(folder, name, ending)
        other = by_path.setdefault(str(path), key)
        if other != key:
            raise UnexportableError(
                f"column {column!r}: samples {other!r} and {key!r} would both be the file {path}; export them one at "
                "a time "
                "into two folders, or the dataset as parquet, which tells them apart"
            )
        if not overwrite and os.path.lexists(path):
            raise ExportExistsError(f"there is a file {path} already; give overwrite=True, or another folder")


def _try_first(column: Any, key: RowKey, ending: str, plugin: str | None, settings: dict[str, Any]) -> None:
    """Write one sample elsewhere: what the plugin refuses of the first, it mostly refuses of all."""
    with tempfile.TemporaryDirectory(prefix="hangar-export-") as elsewhere:
        (value,) = column._read_all([key])
        save(value, elsewhere, tagged(key[-1] if isinstance(key, tuple) else key), ending, plugin, **settings)


def _save(
    value: Any,
    folder: Path,
    key: KeyType,
    ending: str,
    plugin: str | None,
    overwrite: bool,
    settings: dict[str, Any],
) -> None:
    found = find_plugin("save", plugin, ending)
    takes = inspect.signature(found.save).parameters
    more = {"overwrite": True} if overwrite and "overwrite" in takes else {}
    save(value, folder, tagged(key), ending, plugin, **more, **settings)
