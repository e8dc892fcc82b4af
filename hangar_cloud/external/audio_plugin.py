"""Sound, by soundfile."""

from __future__ import annotations

import base64
import io
import os
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.errors import InvalidArgumentError, UnexportableError, UnreadableFileError
from hangar_cloud.external.base_plugin import ArrayFacts, BasePlugin
from hangar_cloud.external.file_names import file_of, parse_tagged
from hangar_cloud.external.optional_packages import require
from hangar_cloud.external.placing import placed_file

ENDINGS: Final = ("wav", "flac", "ogg", "mp3", "aiff", "aif")
MAX_SAMPLES: Final = 2**30
_EXACT: Final = {"PCM_16": "int16", "PCM_32": "int32", "FLOAT": "float32", "DOUBLE": "float64"}
_SUBTYPES: Final = {dtype: subtype for subtype, dtype in _EXACT.items()}


class AudioPlugin(BasePlugin):
    """Sound becomes an array of shape (frames,), or (frames, channels) where there are several channels.

    16-bit, 32-bit and floating-point files keep their numbers; others become float32 from -1 to 1. The sample rate is
    not a part of the array: put it into the checkout's metadata, or into a column.
    """

    def __init__(self) -> None:
        super().__init__(["load", "save", "show", "board_show"], ENDINGS)

    def load(self, fpath: str | os.PathLike[str], *, dtype: str | None = None) -> tuple[npt.NDArray[Any], str]:
        """Read a file: (array, name).

        Args:
            fpath: its path.
            dtype: "int16", "int32", "float32" or "float64" in place of the file's own.

        Raises:
            ValueError: it is no sound, or longer than 2**30 numbers.
        """
        return read_audio(fpath, os.fspath(fpath), dtype), self.sample_name(fpath)

    def describe(self, fpath: str | os.PathLike[str], *, dtype: str | None = None) -> ArrayFacts | None:
        """dtype and shape, from the head of the file."""
        return describe_audio(fpath, os.fspath(fpath), dtype)

    def save(
        self,
        arr: npt.NDArray[Any],
        outdir: str | os.PathLike[str],
        sample_detail: str,
        extension: str,
        *,
        samplerate: int,
        overwrite: bool = False,
    ) -> str:
        """Write a file, and return its path. int16, int32, float32 and float64 keep every bit in .wav.

        Args:
            samplerate: frames per second; the array does not know it.

        Raises:
            ValueError: the format cannot hold the array.
            FileExistsError: there is such a file (unless `overwrite`).
        """
        where = f"sample {sample_detail!r}"
        path = file_of(outdir, str(parse_tagged(sample_detail)), extension)
        data = encode_audio(arr, extension, samplerate, where)
        with placed_file(path, overwrite) as temporary:
            temporary.write_bytes(data)
        return str(path)

    def show(self, arr: npt.NDArray[Any]) -> None:
        """Draw the wave in a window of matplotlib."""
        from hangar_cloud.external.array_window import show_array

        show_array(arr)

    def board_show(self, arr: npt.NDArray[Any], *, samplerate: int = 44_100) -> str:
        """An HTML audio element that holds the sound."""
        data = base64.b64encode(encode_audio(arr, "wav", samplerate, "the sample")).decode("ascii")
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio>'


def read_audio(source: str | os.PathLike[str] | BinaryIO, where: str, dtype: str | None = None) -> npt.NDArray[Any]:
    """The numbers of a sound file; arguments and errors as in `AudioPlugin.load`."""
    soundfile = require("soundfile", "audio", where)
    try:
        with soundfile.SoundFile(source) as file:
            facts = _facts(file, where, dtype)
            numbers = file.read(dtype=facts.dtype.name, always_2d=False)
    except soundfile.LibsndfileError as error:
        raise _unreadable(where, error) from error
    if numbers.shape != facts.shape:
        raise UnreadableFileError(f"{where}: the file is cut off: {len(numbers)} of {facts.shape[0]} frames are there")
    return np.ascontiguousarray(numbers)


def describe_audio(source: str | os.PathLike[str] | BinaryIO, where: str, dtype: str | None = None) -> ArrayFacts:
    """dtype and shape of what `read_audio` gives, from the head of the file."""
    soundfile = require("soundfile", "audio", where)
    try:
        with soundfile.SoundFile(source) as file:
            return _facts(file, where, dtype)
    except soundfile.LibsndfileError as error:
        raise _unreadable(where, error) from error


def encode_audio(arr: npt.NDArray[Any], extension: str, samplerate: int, where: str) -> bytes:
    """A sound file with the numbers of an array. Raises UnexportableError where the format cannot hold them."""
    soundfile = require("soundfile", "audio", where)
    kind = str(extension).lower().lstrip(".")
    kind = {"aif": "aiff"}.get(kind, kind).upper()
    subtype = _SUBTYPES.get(str(getattr(arr, "dtype", None)))
    if subtype is None or arr.ndim not in (1, 2):
        raise UnexportableError(
            f"{where}: an array of {getattr(arr, 'dtype', type(arr).__name__)} and shape {getattr(arr, 'shape', ())} "
            "is no "
            "sound; sound is int16, int32, float32 or float64 of shape (frames,) or (frames, channels). Use npy"
        )
    into = io.BytesIO()
    exact = kind in ("WAV", "AIFF") and soundfile.check_format(kind, subtype)
    try:
        soundfile.write(into, arr, int(samplerate), subtype=subtype if exact else None, format=kind)
    except (soundfile.LibsndfileError, ValueError, TypeError) as error:
        raise UnexportableError(f"{where}: a .{extension} file cannot hold it: {error}") from error
    return into.getvalue()


def _facts(file: Any, where: str, dtype: str | None) -> ArrayFacts:
    if dtype is not None and dtype not in _SUBTYPES:
        raise InvalidArgumentError(f"{where}: sound has no dtype {dtype!r}; it has {', '.join(_SUBTYPES)}")
    if file.frames * file.channels > MAX_SAMPLES:
        raise UnreadableFileError(f"{where}: {file.frames} frames of {file.channels} channels are too many; cut it up")
    shape = (file.frames,) if file.channels == 1 else (file.frames, file.channels)
    return ArrayFacts(np.dtype(dtype or _EXACT.get(file.subtype, "float32")), shape)


def _unreadable(where: str, error: Exception) -> Exception:
    if isinstance(where, str) and os.path.sep in where and not os.path.exists(where):
        return FileNotFoundError(2, "No such file or directory", where)
    return UnreadableFileError(f"{where}: this is no sound that libsndfile knows: {error}")
