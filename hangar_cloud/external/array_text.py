"""Arrays and other samples in words."""

from __future__ import annotations

import html
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_MOST_TEXT: Final = 4000
_MOST_BYTES: Final = 64


def describe_sample(value: Any) -> str:
    """A sample for a terminal: text as it is, bytes and arrays in short."""
    if isinstance(value, str):
        return value if len(value) <= _MOST_TEXT else f"{value[:_MOST_TEXT]}\n… {len(value)} characters in all"
    if isinstance(value, bytes):
        shown = value[:_MOST_BYTES].hex(" ")
        return f"{len(value)} bytes: {shown}{' …' if len(value) > _MOST_BYTES else ''}"
    return describe_array(value)


def describe_array(arr: npt.NDArray[Any]) -> str:
    """dtype, shape, least, greatest and mean of an array, and its numbers in short."""
    line = f"{arr.dtype.name} array of shape {arr.shape}"
    if arr.size and arr.dtype.kind in "iuf":
        # NaNs would be all that is said.
        numbers = arr[np.isfinite(arr)] if arr.dtype.kind == "f" else arr
        if numbers.size:
            mean = numbers.astype(np.float64).mean()
            line += f", from {numbers.min()} to {numbers.max()}, mean {mean:.6g}"
        if numbers.size < arr.size:
            line += f", {arr.size - numbers.size} not finite"
    return f"{line}\n{np.array2string(arr, threshold=100, edgeitems=3)}"


def as_html(text: str) -> str:
    """Text as an HTML element."""
    return f"<pre>{html.escape(text)}</pre>"
