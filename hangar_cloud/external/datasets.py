"""Whole datasets: from Parquet, Hugging Face, folders of images, WebDataset and Zarr, and to them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hangar_cloud.backends.errors import redact_url
from hangar_cloud.catalog.keys import MAX_NAME_LENGTH, KeyType, RowKey, check_name
from hangar_cloud.errors import InvalidArgumentError, InvalidNameError, ObjectNotFoundError, ReadOnlyError
from hangar_cloud.external.dataset_samples import DatasetReader, warn_of_purged
from hangar_cloud.external.file_errors import file_errors
from hangar_cloud.external.file_names import clean_name
from hangar_cloud.external.placing import refuse_inside_repository
from hangar_cloud.external.staging_writer import StagingWriter, choose_columns
from hangar_cloud.external.transfer_report import ExportReport, ImportReport
from hangar_cloud.progress import item_progress

IMPORTED: Final = ("auto", "parquet", "huggingface", "imagefolder", "webdataset", "zarr")
EXPORTED: Final = ("parquet", "imagefolder", "webdataset", "zarr")


def import_dataset(
    checkout: Any,
    path: str | os.PathLike[str],
    format: str = "auto",  # noqa: A002 - what it is called everywhere
    *,
    columns: Iterable[str] | None = None,
    key: str | None = None,
    overwrite: bool = False,
    clean_names: bool = False,
    workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> ImportReport:
    """Import a dataset of another tool, or one that was exported from here, into a writer checkout.

    Columns that are missing are made. Samples are staged as they come; run it again after it was cut off, and it writes
    only what is missing. Texts about the dataset go into the checkout's metadata. Commit afterwards.

    Args:
        checkout: for writing.
        path: a file or folder. Of parquet, webdataset and zarr also a URL that fsspec knows.
        format: "parquet" (a Parquet or Arrow file, or a folder of them), "huggingface" (what ``save_to_disk`` of
            `datasets` wrote, or a folder of Parquet files), "imagefolder" (``class/image.png``, or
            ``train/class/image.png``, with ``_`` in keys for what keys cannot hold), "webdataset" (a tar, or a folder
            of tars), "zarr" (a group), or "auto".
        columns: names of those to import; by default all.
        key: of a table, the column that holds the keys; by default keys are the numbers of rows.
        overwrite: write over samples that are there; by default they are left as they are.
        clean_names: put ``_`` in names of columns and in keys where they have what those cannot hold, such as a space;
            by default such a column stops the import, and such a key is refused.
        workers: of imagefolder, how many threads decode; by default one for each processor, at most 8.
        storage_options: for a URL, as its fsspec driver takes them.

    Returns:
        what was imported, what was there already, and what was refused.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is no such dataset, a column is there and holds something else, or an argument cannot be meant;
            nothing was written.
        KeyError: it has no such column.
        ImportError: a package is needed that is not installed.
    """
    text = os.fspath(path)
    chosen = _as_list(columns)
    kind = _checked_format(format, IMPORTED)
    if kind == "auto":
        kind = detect_format(text)
    if kind == "imagefolder":
        from hangar_cloud.external.image_folder import import_image_folder

        return import_image_folder(checkout, text, chosen, overwrite, workers)
    if not getattr(checkout.columns, "iswriteable", False):
        raise ReadOnlyError("an import writes: open the branch with checkout(write=True)")
    reader = _open(kind, text, key, chosen, storage_options, clean_names)
    return _import(checkout, reader, chosen, overwrite, redact_url(text), clean_names)


def export_dataset(
    checkout: Any,
    path: str | os.PathLike[str],
    format: str,  # noqa: A002 - what it is called everywhere
    *,
    columns: Iterable[str] | None = None,
    overwrite: bool = False,
    image: str | None = None,
    label: str | None = None,
    extension: str | None = None,
    shard_bytes: int = 1_000_000_000,
) -> ExportReport:
    """Write columns of a checkout in the format of another tool.

    What is written appears whole or not at all; of an image folder, each file does. Imported again with
    `import_dataset`, "parquet", "webdataset" and "zarr" give the same columns, keys, values (bit by bit) and metadata.

    Args:
        checkout: of either kind.
        path: a Parquet file, a folder for images, a tar or a folder for tars, a folder for a Zarr group.
        format: "parquet", "imagefolder", "webdataset" or "zarr".
        columns: names of those to export; by default all.
        overwrite: write over what is there.
        image: of imagefolder, the column of images; by default the only one there is.
        label: of imagefolder, the column of labels (str or whole numbers); by default the only one there is.
        extension: of images: "png" (the default of imagefolder), "jpg" …; in webdataset, arrays that are images
            become such files; by default they become npy.
        shard_bytes: of webdataset in a folder, the size at which the next tar is begun.

    Returns:
        how much was written.

    Raises:
        FileExistsError: there is something at `path` (unless `overwrite`).
        ValueError: the format cannot hold something, or an argument cannot be meant.
        KeyError: there is no such column.
        ImportError: a package is needed that is not installed.
    """
    text = os.fspath(path)
    kind = _checked_format(format, EXPORTED)
    if "://" in text:
        raise InvalidArgumentError(f"{redact_url(text)} is a URL; export to this machine, and copy it there")
    refuse_inside_repository(text)
    names = choose_columns(checkout.columns.keys(), _as_list(columns), "the checkout")
    total = sum(_count(checkout[name]) for name in names)
    warn_of_purged(checkout[name] for name in names)
    with file_errors(f"cannot export to {text}"), item_progress("exporting", "samples", total) as progress:
        if kind == "parquet":
            from hangar_cloud.external.parquet_export import export_parquet

            return export_parquet(checkout, names, text, overwrite, progress)
        if kind == "zarr":
            from hangar_cloud.external.zarr_export import export_zarr

            return export_zarr(checkout, names, text, overwrite, progress)
        if kind == "webdataset":
            from hangar_cloud.external.webdataset_export import export_webdataset

            return export_webdataset(checkout, names, text, overwrite, progress, extension, shard_bytes)
        from hangar_cloud.external.image_folder import export_image_folder

        return export_image_folder(checkout, names, text, overwrite, progress, image, label, extension or "png")


def detect_format(path: str) -> str:
    """The format of what is at a path, from its name and the names of the files in it.

    Raises:
        ObjectNotFoundError: there is nothing. InvalidArgumentError: it is none of the formats.
    """
    from hangar_cloud.external.table_files import is_table

    is_url = "://" in path
    if not is_url and not os.path.exists(path):
        raise ObjectNotFoundError(f"there is no file or folder {path}")
    names = os.listdir(path) if not is_url and os.path.isdir(path) else []
    if path.rstrip("/").endswith(".zarr") or {"zarr.json", ".zgroup"} & set(names):
        return "zarr"
    if path.endswith(".tar") or any(name.endswith(".tar") for name in names):
        return "webdataset"
    if {"dataset_dict.json", "dataset_info.json"} & set(names):
        return "huggingface"
    if is_table(path):
        return "parquet"
    if any(os.path.isdir(os.path.join(path, name)) for name in names):
        return "imagefolder"
    raise InvalidArgumentError(
        f"{redact_url(path)} is not seen to be a dataset; say what it is with format= ({', '.join(IMPORTED[1:])})"
    )


def _as_list(columns: Iterable[str] | None) -> list[str] | None:
    if isinstance(columns, str):
        raise InvalidArgumentError(f"columns is a list of names, not one text; give [{columns!r}]")
    return None if columns is None else list(columns)


def _checked_format(name: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise InvalidArgumentError(f"format {name!r} is not known; use one of {', '.join(known)}")
    return name


def _open(
    kind: str,
    path: str,
    key: str | None,
    chosen: list[str] | None,
    options: Mapping[str, Any] | None,
    clean_names: bool,
) -> DatasetReader:
    if key is not None and kind not in ("parquet", "huggingface"):
        raise InvalidArgumentError(f"key= names a column of a table; {kind} has keys of its own")
    if kind == "zarr":
        from hangar_cloud.external.zarr_dataset import open_zarr

        return open_zarr(path, options)
    if kind == "webdataset":
        from hangar_cloud.external.webdataset_import import open_webdataset

        return open_webdataset(path, options, clean_names)
    from hangar_cloud.external.table_dataset import open_table
    from hangar_cloud.external.table_files import TableFiles, find_tables

    return open_table(TableFiles(find_tables(path), options), key, chosen, clean_names)


def _import(
    checkout: Any, reader: DatasetReader, chosen: list[str] | None, overwrite: bool, where: str, clean_names: bool
) -> ImportReport:
    writer = StagingWriter(checkout, overwrite)
    schemas = reader.schemas()
    names = choose_columns([*schemas, *reader.unreadable], chosen, where)
    for name in names:
        if name in reader.unreadable:
            writer.refuse(f"{where}, column {name}", f"nothing in it can be read: {reader.unreadable[name]}")
    names = [name for name in names if name in schemas]
    called = _names_for(names, clean_names)
    writer.prepare({called[name]: schemas[name] for name in names})

    def wants(column: str, key: RowKey) -> bool:
        wanted = writer.wants(called[column], key)
        if not wanted:
            writer.skip()
        return wanted

    with item_progress("importing", "samples") as progress:
        for sample in reader.samples(names, wants):
            if isinstance(sample.value, Exception):
                writer.refuse(sample.source, sample.value)
            else:
                writer.put(called[sample.column], sample.key, sample.value, sample.source)
            progress(1)
        writer.flush()
    _add_metadata(checkout, reader.metadata, writer, overwrite)
    return writer.report


def _names_for(names: list[str], clean_names: bool) -> dict[str, str]:
    """What each column of a dataset is called here."""
    called = {}
    for name in names:
        called[name] = clean_name(name).replace("/", "_")[:MAX_NAME_LENGTH] if clean_names else name
        try:
            check_name(called[name], "column")
        except InvalidNameError as error:
            advice = "" if clean_names else "; import with clean_names=True, or choose others with columns="
            raise InvalidNameError(f"{error}{advice}") from None
    twice = [name for name in names if list(called.values()).count(called[name]) > 1]
    if twice:
        raise InvalidNameError(f"columns {', '.join(map(repr, twice))} would all be called {called[twice[0]]!r}")
    return called


def _add_metadata(checkout: Any, metadata: Mapping[KeyType, str], writer: StagingWriter, overwrite: bool) -> None:
    for key, text in metadata.items():
        try:
            if overwrite or key not in checkout.metadata:
                checkout.metadata[key] = text
        except (InvalidNameError, InvalidArgumentError) as error:
            writer.refuse(f"metadata {key!r}", error)


def _count(column: Any) -> int:
    return int(column.num_subsamples if column.contains_subsamples else len(column))
