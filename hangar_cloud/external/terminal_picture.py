"""Pictures drawn with the characters and colours of a terminal."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.external.image_plugin import image_of
from hangar_cloud.external.optional_packages import require
from hangar_cloud.thumbnails import thumbnail

_HALF: Final = "\u2580"
_RESET: Final = "\x1b[0m"


def looks_like_picture(value: Any) -> bool:
    """True for arrays of bool, uint8 or floats of shape HxW, HxWx1, HxWx3 or HxWx4."""
    if not isinstance(value, np.ndarray) or not (value.dtype == np.uint8 or value.dtype.kind in "bf"):
        return False
    return value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4))


def draw(pixels: npt.NDArray[Any], columns: int, lines: int, all_colours: bool) -> str:
    """A picture as text with colour codes: each character is two pixels, one above the other.

    Args:
        pixels: see `looks_like_picture`.
        columns: at most so wide, in characters.
        lines: at most so high.
        all_colours: the terminal shows 16 million colours; else the 256 that nearly all have are used.

    Raises:
        ImportError: Pillow is not installed.
    """
    image = require("PIL.Image", "images", "a picture")
    picture = image_of(pixels, "the sample") if pixels.dtype == np.uint8 else image.open(BytesIO(_thumbnail(pixels)))
    picture = picture.convert("RGBA")
    black = image.new("RGBA", picture.size, (0, 0, 0, 255))
    picture = image.alpha_composite(black, picture).convert("RGB")
    scale = min(columns / picture.width, 2 * lines / picture.height, 4.0)
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    # Small pictures are enlarged without blur: each pixel stays one.
    shrunk = picture.resize(size, image.Resampling.LANCZOS if scale < 1 else image.Resampling.NEAREST)
    colours = np.asarray(shrunk)
    rows = []
    for top in range(0, colours.shape[0], 2):
        below = colours[top + 1] if top + 1 < colours.shape[0] else np.zeros_like(colours[top])
        rows.append(_row(colours[top], below, all_colours))
    return "\n".join(rows)


def _thumbnail(pixels: npt.NDArray[Any]) -> bytes:
    data = thumbnail(pixels)
    assert data is not None
    return data


def _row(upper: npt.NDArray[np.uint8], lower: npt.NDArray[np.uint8], all_colours: bool) -> str:
    characters, last = [], ""
    for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
        code = f"\x1b[38;{_colour(above, all_colours)};48;{_colour(below, all_colours)}m"
        characters.append((code if code != last else "") + _HALF)
        last = code
    return "".join(characters) + _RESET


def _colour(rgb: list[int], all_colours: bool) -> str:
    if all_colours:
        return f"2;{rgb[0]};{rgb[1]};{rgb[2]}"
    # The cube of 6 x 6 x 6 colours that begins at 16.
    red, green, blue = (round(value / 51) for value in rgb)
    return f"5;{16 + 36 * red + 6 * green + blue}"
