"""Arrays in files of numpy's own formats."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hangar_cloud.errors import UnexportableError, UnreadableFileError
from hangar_cloud.external.base_plugin import ArrayFacts, BasePlugin
from hangar_cloud.external.file_names import file_of, parse_tagged
from hangar_cloud.external.placing import placed_file


class NumpyPlugin(BasePlugin):
    """A ``.npy`` file is one sample, bit by bit; each array of a ``.npz`` file is one.

    Nothing is unpickled: a file of Python objects is refused.
    """

    def __init__(self) -> None:
        super().__init__(["load", "save", "show", "board_show"], ["npy", "npz"])

    def load(
        self, fpath: str | os.PathLike[str]
    ) -> tuple[npt.NDArray[Any], str] | Iterator[tuple[npt.NDArray[Any], str]]:
        """Read a file: (array, name), or for .npz such pairs, called ``<file>/<name in it>``.

        Raises:
            ValueError: it is not such a file, is cut off, or holds Python objects.
        """
        name = self.sample_name(fpath)
        if _is_archive(fpath):
            return _members(os.fspath(fpath), name)
        return read_npy(fpath, os.fspath(fpath)), name

    def describe(self, fpath: str | os.PathLike[str]) -> ArrayFacts | None:
        """dtype and shape, from the head of a .npy file."""
        if _is_archive(fpath):
            return None
        with open(fpath, "rb") as file:
            return describe_npy(file, os.fspath(fpath))

    def save(
        self,
        arr: npt.NDArray[Any],
        outdir: str | os.PathLike[str],
        sample_detail: str,
        extension: str,
        *,
        overwrite: bool = False,
    ) -> str:
        """Write an array, and return the path. A .npz file holds it compressed, under the name ``arr_0``.

        Raises:
            ValueError: it is no array.
            FileExistsError: there is such a file (unless `overwrite`).
        """
        if not isinstance(arr, np.ndarray):
            raise UnexportableError(f"sample {sample_detail!r} is {type(arr).__name__}, no array; use txt or bin")
        if arr.dtype.hasobject:
            raise UnexportableError(
                f"sample {sample_detail!r} holds Python objects, which are not written: they would be pickled"
            )
        path = file_of(outdir, str(parse_tagged(sample_detail)), extension)
        with placed_file(path, overwrite) as temporary, open(temporary, "wb") as file:
            if _is_archive(path):
                np.savez_compressed(file, arr)
            else:
                np.save(file, arr, allow_pickle=False)
        return str(path)

    def show(self, arr: npt.NDArray[Any]) -> None:
        """Draw a series of numbers or a picture in a window of matplotlib."""
        from hangar_cloud.external.array_window import show_array

        show_array(arr)

    def board_show(self, arr: npt.NDArray[Any]) -> str:
        """An HTML element with dtype, shape and numbers."""
        from hangar_cloud.external.array_text import as_html, describe_array

        return as_html(describe_array(arr))


def read_npy(source: str | os.PathLike[str] | BinaryIO, where: str) -> npt.NDArray[Any]:
    """The array in a .npy file, C-contiguous. Raises UnreadableFileError, also before memory is taken for nothing."""
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            return read_npy(file, where)
    facts = describe_npy(source, where)
    start = source.tell()
    size = source.seek(0, os.SEEK_END) - start
    wanted = facts.dtype.itemsize
    for n in facts.shape:
        wanted *= n
    # A head of a few bytes may claim any size.
    if wanted > size:
        raise UnreadableFileError(f"{where}: the file is cut off: {size} bytes of numbers, its head says {wanted}")
    source.seek(0)
    try:
        return np.ascontiguousarray(np.load(source, allow_pickle=False)).reshape(facts.shape)
    except (ValueError, OSError, EOFError) as error:
        raise UnreadableFileError(f"{where}: this is no .npy file of numbers: {error}") from error


def describe_npy(source: BinaryIO, where: str) -> ArrayFacts:
    """dtype and shape in the head of a .npy file, which is left open at its first number."""
    try:
        source.seek(0)
        version = np.lib.format.read_magic(source)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(source)
    except (ValueError, TypeError, OSError, EOFError, SyntaxError) as error:
        raise UnreadableFileError(f"{where}: this is no .npy file: {error}") from error
    if dtype.hasobject:
        raise UnreadableFileError(f"{where}: the file holds Python objects, which are not read: they may run programs")
    return ArrayFacts(dtype, shape)


def _is_archive(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith("npz")


def _members(path: str, name: str) -> Iterator[tuple[npt.NDArray[Any], str]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            for member in archive.files:
                yield np.ascontiguousarray(archive[member]), f"{name}/{member}"
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UnreadableFileError(f"{path}: this is no whole .npz file of numbers: {error}") from error
