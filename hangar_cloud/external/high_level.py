"""One sample and one file: `load`, `save`, `show` and `board_show`, each by the plugin that fits."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from hangar_cloud.errors import HangarError, InvalidArgumentError, MissingFolderError, UnreadableFileError
from hangar_cloud.external.file_errors import file_errors
from hangar_cloud.external.plugin_registry import find_plugin


def load(
    fpath: str | os.PathLike[str], plugin: str | None = None, extension: str | None = None, **plugin_kwargs: Any
) -> Any:
    """Read a file.

    Args:
        fpath: a path such as ``path/to/test.jpg``.
        plugin: name of the plugin; by default the one for the extension.
        extension: by default that of `fpath`.
        **plugin_kwargs: as the plugin takes them.

    Returns:
        (array, sample name); or an iterator of such pairs from a plugin that finds several samples in a file. The
        text plugin gives str in place of an array.

    Raises:
        ValueError: no plugin is for the file, it is not what its name says, or an argument is not the plugin's.
        OSError: it cannot be read.
        ImportError: the plugin needs a package that is not installed; the message says which.
    """
    found = find_plugin("load", plugin, extension or extension_of(fpath))
    return called(found.load, f"cannot load {os.fspath(fpath)}", fpath, **plugin_kwargs)


def save(
    arr: Any,
    outdir: str | os.PathLike[str],
    sample_det: str,
    extension: str,
    plugin: str | None = None,
    **plugin_kwargs: Any,
) -> Any:
    """Write a sample to a file, whose name the plugin makes.

    Args:
        arr: the sample.
        outdir: an existing folder.
        sample_det: the key of the sample with its type: ``str:cat/001``, ``int:7``.
        extension: of the file to write.
        plugin: name of the plugin; by default the one for the extension.
        **plugin_kwargs: as the plugin takes them; built-in ones take ``overwrite=True``.

    Returns:
        what the plugin returns; built-in ones the path of the file.

    Raises:
        ValueError: no plugin is for the extension, or the format cannot hold the sample.
        NotADirectoryError: there is no folder `outdir`.
        FileExistsError: the file is there already.
    """
    if not os.path.isdir(outdir):
        raise MissingFolderError(
            f"there is no folder {os.fspath(outdir)} to save sample {sample_det!r} in; make it first"
        )
    found = find_plugin("save", plugin, extension)
    return called(found.save, f"cannot save sample {sample_det!r}", arr, outdir, sample_det, extension, **plugin_kwargs)


def show(arr: Any, plugin: str | None = None, extension: str | None = None, **plugin_kwargs: Any) -> Any:
    """Show a sample to the person at this machine. Arguments and errors as in `load`."""
    found = find_plugin("show", plugin, extension)
    return called(found.show, "cannot show the sample", arr, **plugin_kwargs)


def board_show(arr: Any, plugin: str | None = None, extension: str | None = None, **plugin_kwargs: Any) -> Any:
    """A form of a sample for a web page; built-in plugins give HTML. Arguments and errors as in `load`."""
    found = find_plugin("board_show", plugin, extension)
    return called(found.board_show, "cannot show the sample", arr, **plugin_kwargs)


def extension_of(path: str | os.PathLike[str]) -> str:
    """Everything after the first dot of a file's name: ``nii.gz`` of ``scan.nii.gz``; empty where there is none."""
    return os.path.basename(os.fspath(path)).lstrip(".").partition(".")[2]


def called(method: Callable[..., Any], failing: str, *arguments: Any, **settings: Any) -> Any:
    """Call a method of a plugin; what it raises that is none of ours becomes an error of ours that begins `failing`."""
    check_settings(method, settings, failing)
    try:
        with file_errors(failing):
            return method(*arguments, **settings)
    except HangarError:
        raise
    except Exception as error:
        raise UnreadableFileError(f"{failing}: {type(error).__name__}: {error}") from error


def check_settings(method: Callable[..., Any], settings: dict[str, Any], failing: str) -> None:
    """Raises InvalidArgumentError for a keyword that a plugin's method does not take: it would be a typing error."""
    parameters = inspect.signature(method).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    # What has no default is an argument: the file, the array.
    takes = [one for one in parameters if one.kind is one.KEYWORD_ONLY or one.default is not one.empty]
    names = [one.name for one in takes]
    unknown = [name for name in settings if name not in names]
    if unknown:
        known = f"it takes {', '.join(names)}" if names else "it takes none"
        raise InvalidArgumentError(f"{failing}: the plugin has no option {', '.join(unknown)}; {known}")
