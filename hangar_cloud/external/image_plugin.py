"""Pictures, by Pillow."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.errors import InvalidArgumentError, UnexportableError, UnreadableFileError
from hangar_cloud.external.base_plugin import ArrayFacts, BasePlugin
from hangar_cloud.external.file_names import file_of, parse_tagged
from hangar_cloud.external.optional_packages import require
from hangar_cloud.external.placing import placed_file

ENDINGS: Final = ("jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm")
MAX_PIXELS: Final = 2 * 89_478_485
"""As many as Pillow opens: more in one file is taken for an attack."""
_DTYPES: Final = {"1": "?", "I": "<i4", "F": "<f4", "I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2"}
_KEPT: Final = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4} | dict.fromkeys(_DTYPES, 1)
_WIDE: Final = {"uint16": ("PNG", "TIFF"), "int32": ("TIFF",), "float32": ("TIFF",)}
# Others of these hold one picture and a small preview of it.
_WITH_FRAMES: Final = ("GIF", "TIFF", "WEBP", "PNG")


class ImagePlugin(BasePlugin):
    """Pictures become arrays of shape (height, width) or (height, width, channels), in the pixels that are stored.

    Grey is uint8 (or uint16, int32, float32 as stored), black and white bool, colours uint8 in RGB or RGBA.
    Palettes and other colour spaces are made RGB.
    """

    def __init__(self) -> None:
        super().__init__(["load", "save", "show", "board_show"], ENDINGS)

    def load(
        self, fpath: str | os.PathLike[str], *, mode: str | None = None, frame: int | None = None
    ) -> tuple[npt.NDArray[Any], str]:
        """Read a picture.

        Args:
            fpath: its path.
            mode: make it "RGB", "RGBA", "L" (grey) or another mode of Pillow.
            frame: which one of a file of several, from 0; without it such a file is refused.

        Raises:
            ValueError: it is no picture, or one of more than 178,956,970 pixels.
        """
        return read_image(fpath, os.fspath(fpath), mode, frame), self.sample_name(fpath)

    def describe(
        self, fpath: str | os.PathLike[str], *, mode: str | None = None, frame: int | None = None
    ) -> ArrayFacts | None:
        """dtype and shape, from the head of the file."""
        return describe_image(fpath, os.fspath(fpath), mode, frame)

    def save(
        self,
        arr: npt.NDArray[Any],
        outdir: str | os.PathLike[str],
        sample_detail: str,
        extension: str,
        *,
        overwrite: bool = False,
        quality: int | None = None,
    ) -> str:
        """Write a picture, and return its path.

        PNG keeps every bit of bool, uint8 and uint16. ``quality`` is that of JPEG and WebP, 1 to 100.

        Raises:
            ValueError: the array is no picture of that format; nothing was written.
            FileExistsError: there is such a file (unless `overwrite`).
        """
        path = file_of(outdir, str(parse_tagged(sample_detail)), extension)
        data = encode_image(arr, extension, f"sample {sample_detail!r}", quality)
        with placed_file(path, overwrite) as temporary:
            temporary.write_bytes(data)
        return str(path)

    def show(self, arr: npt.NDArray[Any]) -> None:
        """Open a window with the picture: matplotlib's where it is installed, else the system's viewer."""
        picture = image_of(arr, "the sample")
        try:
            pyplot = require("matplotlib.pyplot", "view", "a window")
        except ImportError:
            from PIL import ImageShow

            if not ImageShow.show(picture):
                raise
            return
        pyplot.imshow(np.asarray(picture), cmap="gray")
        pyplot.show()

    def board_show(self, arr: npt.NDArray[Any]) -> str:
        """An HTML image element that holds the picture."""
        data = base64.b64encode(encode_image(arr, "png", "the sample", None)).decode("ascii")
        return f'<img src="data:image/png;base64,{data}">'


def read_image(
    source: str | os.PathLike[str] | BinaryIO, where: str, mode: str | None = None, frame: int | None = None
) -> npt.NDArray[Any]:
    """The pixels of a picture file; arguments and errors as in `ImagePlugin.load`, `where` begins messages."""
    with _opened(source, where, mode, frame) as image:
        wanted = _mode_of(image, mode)
        pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
        if pixels.dtype == np.bool_:
            # Pillow's true is 255, which is no true of numpy's: equal, and of other bits.
            pixels = pixels.view(np.uint8) != 0
    return np.ascontiguousarray(pixels)


def describe_image(
    source: str | os.PathLike[str] | BinaryIO, where: str, mode: str | None = None, frame: int | None = None
) -> ArrayFacts:
    """dtype and shape of what `read_image` gives, from the head of the file."""
    with _opened(source, where, mode, frame) as image:
        wanted = _mode_of(image, mode)
        width, height = image.size
    channels = _KEPT.get(wanted) or {"CMYK": 4, "YCbCr": 3, "HSV": 3, "LAB": 3}.get(wanted, 1)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return ArrayFacts(np.dtype(_DTYPES.get(wanted, "u1")), shape)


def encode_image(arr: npt.NDArray[Any], extension: str, where: str, quality: int | None) -> bytes:
    """A picture file with the pixels of an array.

    Raises:
        UnexportableError: the format cannot hold them.
    """
    require("PIL.Image", "images", "a picture")
    from PIL import Image

    # True is what an option without its number becomes, and it would be a quality of 1.
    if quality is not None and (isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100):
        raise UnexportableError(f"{where}: quality is a whole number from 1 to 100, not {quality!r}")
    image = image_of(arr, where)
    Image.init()
    kind = Image.registered_extensions().get(f".{extension.lower().lstrip('.')}")
    if kind is None or kind not in Image.SAVE:
        raise UnexportableError(f"{where}: Pillow writes no .{extension} files; use png, jpg, webp, bmp or tiff")
    if str(arr.dtype) in _WIDE and kind not in _WIDE[str(arr.dtype)]:
        # Pillow would cut the numbers down without a word.
        raise UnexportableError(
            f"{where}: {arr.dtype} pixels do not fit into a {kind} file; use {' or '.join(_WIDE[str(arr.dtype)])}, "
            "or npy"
        )
    into = io.BytesIO()
    try:
        image.save(into, kind, **({} if quality is None else {"quality": int(quality)}))
    except (OSError, ValueError, KeyError) as error:
        raise UnexportableError(
            f"{where}: a {kind} file cannot hold an array of {arr.dtype} and shape {arr.shape} ({error}); use png or "
            "npy"
        ) from error
    return into.getvalue()


def image_of(arr: Any, where: str) -> Any:
    """An array as a Pillow image, no bit of it changed.

    Raises:
        UnexportableError: it has no such shape or dtype.
    """
    image = require("PIL.Image", "images", "a picture")
    pixels = np.asarray(arr)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    flat = pixels.ndim == 2 and pixels.dtype.newbyteorder("=") in (np.uint8, np.bool_, np.uint16, np.int32, np.float32)
    coloured = pixels.ndim == 3 and pixels.shape[2] in (2, 3, 4) and pixels.dtype == np.uint8
    if not (flat or coloured) or pixels.size == 0:
        raise UnexportableError(
            f"{where}: an array of {pixels.dtype} and shape {pixels.shape} is no picture; pictures are uint8 of shape "
            "(height, width) or (height, width, 3 or 4), or bool, uint16, int32 or float32 of shape (height, width). "
            "Use npy"
        )
    return image.fromarray(np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False)))


@contextmanager
def _opened(source: Any, where: str, mode: str | None, frame: int | None) -> Iterator[Any]:
    pillow = require("PIL.Image", "images", where)
    if mode is not None and mode not in pillow.MODES:
        raise InvalidArgumentError(f"{where}: Pillow has no mode {mode!r}; RGB, RGBA and L are such")
    try:
        with pillow.open(source) as image:
            _check_size(image, where)
            _choose_frame(image, where, frame)
            yield image
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise _bomb(where, str(error)) from error
    except UnreadableFileError:
        raise
    except pillow.UnidentifiedImageError as error:
        raise UnreadableFileError(f"{where}: this is no picture that Pillow knows") from error
    except FileNotFoundError:
        raise
    # Decoders raise all of these for damaged files, of which some are bugs in them.
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError, EOFError) as error:
        raise UnreadableFileError(f"{where}: the picture is damaged or not supported: {error}") from error


def _check_size(image: Any, where: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _bomb(where, f"{width} x {height} pixels")


def _bomb(where: str, said: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{where}: the picture is too large ({said}), the most is {MAX_PIXELS:,} pixels: a small file of such a size "
        "is "
        "how machines are attacked. If you trust it, cut it into tiles, or save its pixels as .npy"
    )


def _choose_frame(image: Any, where: str, frame: int | None) -> None:
    count = getattr(image, "n_frames", 1)
    if frame is not None:
        if not 0 <= int(frame) < count:
            raise UnreadableFileError(f"{where}: there is no frame {frame}; the file has {count}")
        image.seek(int(frame))
    elif count > 1 and image.format in _WITH_FRAMES:
        raise UnreadableFileError(f"{where}: the file has {count} frames; say which one, the first is frame=0")


def _mode_of(image: Any, asked: str | None) -> str:
    if asked is not None:
        return asked
    if image.mode in _KEPT:
        return str(image.mode)
    transparent = image.mode in ("PA", "RGBa", "La") or (image.mode == "P" and "transparency" in image.info)
    return "RGBA" if transparent else "RGB"
