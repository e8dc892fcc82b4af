"""A grey image in a terminal: half blocks in grey where there is colour, else characters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

_RAMP: Final = " .:-=+*#%@"
_FIRST_GREY: Final = 232
_GREYS: Final = 24


def picture_lines(image: npt.NDArray[np.uint8], *, blocks: bool) -> Iterator[str]:
    """Lines that show an image; each covers two of its rows, for characters are twice as high as wide.

    blocks: draw in the 24 greys of a 256-colour terminal, at full resolution.
    """
    rows = image if len(image) % 2 == 0 else np.vstack([image, np.zeros_like(image[:1])])
    pairs = rows.reshape(-1, 2, rows.shape[1])
    for upper, lower in pairs:
        if blocks:
            yield "".join(map(_half_blocks, upper.tolist(), lower.tolist())) + "\x1b[0m"
        else:
            shades = (upper.astype(int) + lower) * (len(_RAMP) - 1) // (2 * 255)
            yield "".join(_RAMP[shade] for shade in shades).rstrip()


def _half_blocks(upper: int, lower: int) -> str:
    return f"\x1b[38;5;{_grey(upper)};48;5;{_grey(lower)}m\u2580"


def _grey(value: int) -> int:
    return _FIRST_GREY + value * (_GREYS - 1) // 255
