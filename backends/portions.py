"""Cutting work into parts of moderate size (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def portions(items: Iterable[Item], size_of: Callable[[Item], int], limit: int) -> Iterator[list[Item]]:
    """Runs of items that are not larger than a limit together, unless a single one is."""
    part: list[Item] = []
    size = 0
    for item in items:
        more = size_of(item)
        if part and size + more > limit:
            yield part
            part, size = [], 0
        part.append(item)
        size += more
    if part:
        yield part
