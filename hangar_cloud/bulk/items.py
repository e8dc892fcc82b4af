"""Handing out the items of a bulk import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from hangar_cloud.bulk.messages import Item
from hangar_cloud.bulk.udf import describe_item
from hangar_cloud.errors import UdfError

_FEWEST_TWICE: Final = 5
_MOST_AT_ONCE: Final = 64
_SHARES: Final = 4


class Items:
    """Items in their order, some at a time: fewer towards the end, so that all workers end together.

    Args:
        items: arguments of each call.
        workers: how many processes take them.
        recheck: share of the items that are run twice.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], workers: int, recheck: float) -> None:
        self._items = items
        self._workers = workers
        self._next = 0
        wanted = min(len(items), max(_FEWEST_TWICE, ceil(len(items) * recheck))) if recheck else 0
        self._twice = {i * len(items) // wanted for i in range(wanted)}

    def take(self) -> list[Item]:
        """The next items, pickled; none at the end. Raises UdfError if one cannot be pickled."""
        count = (len(self._items) - self._next) // (self._workers * _SHARES)
        numbers = range(self._next, min(self._next + max(1, min(count, _MOST_AT_ONCE)), len(self._items)))
        self._next = numbers.stop
        return [Item(number, self._pickled(number), number in self._twice) for number in numbers]

    def _pickled(self, number: int) -> bytes:
        kwargs = self._items[number]
        return pickled(dict(kwargs), describe_item(number, kwargs))


def pickled(thing: object, what: str) -> bytes:
    """A thing that can be loaded in another process, functions of notebooks and closures too. Raises UdfError."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(thing))
    except Exception as error:  # pickling runs code of the user's classes
        raise UdfError(
            f"{what} cannot be sent to another process ({type(error).__name__}: {error}). Open files, connections and "
            "locks inside the function, and give it only what it needs for that"
        ) from error
