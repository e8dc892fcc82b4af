"""Folders of images as torchvision and others read them: ``class/image.png``, or ``train/class/image.png``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hangar_cloud.catalog.keys import KeyType
from hangar_cloud.errors import ExportExistsError, InvalidArgumentError, UnexportableError
from hangar_cloud.external.dataset_samples import samples_of, values_of
from hangar_cloud.external.file_import import Derive, FileReader, import_tree, label_of
from hangar_cloud.external.file_names import clean_name, file_of
from hangar_cloud.external.file_tree import SourceFile, list_files
from hangar_cloud.external.image_plugin import encode_image
from hangar_cloud.external.placing import placed_file
from hangar_cloud.external.staging_writer import choose_columns
from hangar_cloud.external.transfer_report import ExportReport, ImportReport
from hangar_cloud.thumbnails import looks_like_images

_SPLITS: Final = {"train", "test", "val", "valid", "validation", "dev", "eval"}


def import_image_folder(
    checkout: Any, path: str, chosen: list[str] | None, overwrite: bool, workers: int | None
) -> ImportReport:
    """Import images into the column "image", and the names of their folders into "label" (and "split")."""
    files = list_files(path)
    derived: dict[str, Derive] = {"label": label_of}
    if all(file.folder.count("/") == 1 and file.folder.partition("/")[0] in _SPLITS for file in files):
        derived["split"] = _split_of
    names = choose_columns(["image", *derived], chosen, path)
    if "image" not in names:
        raise InvalidArgumentError("the column 'image' of an image folder cannot be left out")
    # Classes are often of two words; the label keeps them as they are.
    reader = FileReader(files, "image", {}, keep_extensions=False, clean_names=True)
    derived = {name: derive for name, derive in derived.items() if name in names}
    return import_tree(checkout, "image", files, reader, derived, overwrite, workers)


def export_image_folder(
    checkout: Any,
    columns: list[str],
    path: str,
    overwrite: bool,
    progress: Callable[[int], None],
    image: str | None,
    label: str | None,
    extension: str,
) -> ExportReport:
    """Write each image to ``<label>/<key>.<extension>``, or to ``<key>`` where that has the label before its name.

    Every file appears whole or not at all. Files that are there and are none of these stay.
    """
    images = checkout[_chosen(checkout, columns, image, "image", _holds_images)]
    labels = checkout[_chosen(checkout, columns, label, "label", _holds_labels)]
    folder = Path(path)
    if os.path.lexists(folder) and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportExistsError(f"there is a {folder} already; give overwrite=True to write into it, or another path")
    paths = _paths(images, labels, folder, extension)
    count = 0
    for key, value in values_of(images, paths):
        data = encode_image(value, extension, f"column {images.column!r}, sample {key!r}", None)
        with placed_file(paths[key], overwrite) as temporary:
            temporary.write_bytes(data)
        count += 1
        progress(1)
    folder.mkdir(parents=True, exist_ok=True)
    return ExportReport(count, count, path)


def _split_of(file: SourceFile) -> str:
    return file.folder.partition("/")[0]


def _paths(images: Any, labels: Any, folder: Path, extension: str) -> dict[Any, Path]:
    """Where each image goes. Everything is checked before anything is written."""
    paths: dict[Any, Path] = {}
    taken: dict[Path, Any] = {}
    for key, _ in samples_of(images):
        name = labels.get(key)
        if name is None:
            raise UnexportableError(
                f"sample {key!r} of column {images.column!r} has no label in column {labels.column!r}, and so no folder"
            )
        paths[key] = goal = _path(folder, str(name), key, extension)
        if taken.setdefault(goal, key) != key:
            raise UnexportableError(f"samples {taken[goal]!r} and {key!r} would both be the file {goal}")
    return paths


def _path(folder: Path, label: str, key: KeyType, extension: str) -> Path:
    if "/" in label or label.startswith("."):
        raise UnexportableError(f"sample {key!r} has the label {label!r}, which cannot be a folder's name")
    *above, last = str(key).split("/")
    # A key that came from such a folder goes back there.
    parts = [*above[:-1], label, last] if clean_name(label) in above[-1:] else [label, *above, last]
    return file_of(folder, "/".join(parts), extension)


def _chosen(checkout: Any, columns: list[str], name: str | None, what: str, fits: Callable[[Any], bool]) -> str:
    if name is not None:
        if not fits(checkout.columns[name]):
            raise InvalidArgumentError(f"column {name!r} cannot be the {what}s of an image folder")
        return name
    fitting = [one for one in columns if fits(checkout[one])]
    if what in fitting:
        return what
    if len(fitting) != 1:
        raise InvalidArgumentError(
            f"which column holds the {what}s? {', '.join(fitting) or 'none'} could; say {what}= the name of one"
        )
    return fitting[0]


def _holds_images(column: Any) -> bool:
    schema = column._entry.schema
    if column.contains_subsamples or schema.column_type != "ndarray":
        return False
    return looks_like_images(schema) or (schema.dtype == "<u2" and len(schema.shape or ()) == 2)


def _holds_labels(column: Any) -> bool:
    schema = column._entry.schema
    if column.contains_subsamples or schema.column_type == "bytes":
        return False
    return schema.column_type == "str" or (schema.shape == () and schema.numpy_dtype.kind in "iu")
