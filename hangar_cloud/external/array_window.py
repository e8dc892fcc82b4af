"""Arrays in a window, by matplotlib."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from hangar_cloud.errors import UnexportableError
from hangar_cloud.external.optional_packages import require


def show_array(arr: npt.NDArray[Any]) -> None:
    """Draw numbers in a row as a line, several rows of them as lines or a picture.

    Raises:
        ValueError: there is no such drawing of an array of that shape.
        ImportError: matplotlib is not installed.
    """
    pyplot = require("matplotlib.pyplot", "view", "a window")
    if arr.ndim == 1 or (arr.ndim == 2 and arr.shape[1] <= 4):
        pyplot.plot(arr)
    elif arr.ndim == 2 or (arr.ndim == 3 and arr.shape[2] in (3, 4)):
        pyplot.imshow(arr)
    else:
        raise UnexportableError(f"an array of shape {arr.shape} cannot be drawn; look at a slice of it")
    pyplot.show()
