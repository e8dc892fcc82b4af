"""Small PNG pictures of arrays that look like images."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.schema import ColumnSchema

_SIDE: Final = 64
_COLOUR_TYPES: Final = {1: 0, 3: 2, 4: 6}
_BYTE: Final = 255
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def looks_like_images(schema: ColumnSchema) -> bool:
    """True for columns of bool, uint8 or float arrays of shape HxW, HxWx1, HxWx3 or HxWx4."""
    if schema.column_type != "ndarray" or not _is_image_dtype(schema.numpy_dtype):
        return False
    shape = schema.shape or ()
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in _COLOUR_TYPES)


def thumbnail(array: npt.NDArray[Any]) -> bytes | None:
    """A PNG picture of an image, at most 64 pixels high and wide; None if it does not look like one.

    Bool arrays are drawn black and white. Floats are taken as 0 to 1 or 0 to 255 where they lie within that, and else
    stretched between their least and greatest; what is not finite is drawn black.
    """
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or array.shape[2] not in _COLOUR_TYPES or not array.size or not _is_image_dtype(array.dtype):
        return None
    step = -(-max(array.shape[:2]) // _SIDE)
    return encode_png(_as_bytes(array[::step, ::step]))


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels of shape (height, width, channels) with 1, 3 or 4 channels: grey, RGB or RGBA."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    # Each line begins with the number of its filter; 0 is none.
    lines = np.hstack([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * channels)])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _is_image_dtype(dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 or dtype.kind in "bf"


def _as_bytes(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(_BYTE)
    if pixels.dtype.kind == "f":
        return _floats_as_bytes(pixels.astype(np.float64))
    return pixels


def _floats_as_bytes(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    finite = np.isfinite(pixels)
    if not finite.any():
        return np.zeros(pixels.shape, np.uint8)
    least, greatest = float(pixels[finite].min()), float(pixels[finite].max())
    if least >= 0 and greatest <= _BYTE:
        least, greatest = 0.0, 1.0 if greatest <= 1 else float(_BYTE)
    # Halved, for the distance between two finite numbers may be none.
    spread = greatest / 2 - least / 2
    shades = np.where(finite, pixels / 2 - least / 2, 0) / (spread or 1.0)
    return np.rint(shades * _BYTE).astype(np.uint8)
