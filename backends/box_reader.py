"""Reading boxes of big arrays: only the tiles that a box touches are read, fetched and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

from hangar_cloud.backends.array_format import (
    LEAD_LENGTH,
    ArrayHead,
    ArrayLead,
    check_tile,
    is_array,
    read_head,
    read_lead,
    tiles_in_box,
)
from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.open_arrays import OpenArrays
from hangar_cloud.backends.portions import portions
from hangar_cloud.backends.tiledb_arrays import Elements

Part = tuple[int, int, Callable[[memoryview], Any]]
"""Where in an extent some bytes are, how many, and the check that makes something of them."""

ReadParts = Callable[[Sequence[Part]], list[Any]]
"""Reads parts of one extent: what their checks make of them, in the order asked."""

LEAST_BYTES: Final = 64 * 1024
"""Smaller extents are read whole: a box would take more requests, and hardly fewer bytes."""

_AT_ONCE: Final = 32 * 1024 * 1024


class BoxReader:
    """Boxes of samples that have an array of their own; the last arrays stay open."""

    def __init__(self) -> None:
        self._open = OpenArrays()

    def read(
        self,
        place: Place,
        digest: bytes,
        read_parts: ReadParts,
        shape: Sequence[int],
        lows: Sequence[int],
        highs: Sequence[int],
    ) -> Elements | None:
        """A box of a sample.

        Args:
            place: of the sample.
            digest: of the sample.
            read_parts: reads parts of its extent.
            shape: of the sample.
            lows, highs: first element of the box and the one behind the last, in each dimension; none is empty.

        Returns:
            unsigned integers of the width of the sample's elements, of the shape of the box; elements of more than 8
            bytes have one more dimension. None where the extent has no array with this sample, or the box touches all
            of its tiles: then the sample is read as a whole, which compares its digest too.

        Raises:
            CorruptDataError: some part is damaged.
            StoreError: there is no room for temporary files.
        """
        with self._open.use((place.pack, place.offset), lambda: _head(digest, read_parts)) as array:
            if array is None:
                return None
            head = array.head
            sample, within = divmod(place.start, place.size)
            if within or not head.owns(sample, digest):
                return None
            if head.shape != tuple(shape) or prod(shape) * head.lead.width != place.size:
                raise CorruptDataError(f"the array has shape {head.shape}, and its record gives {tuple(shape)}")
            wanted = tiles_in_box(head, sample, lows, highs)
            if len(wanted) == head.tiles // head.lead.samples:
                return None
            missing = [number for number in wanted.tolist() if number not in array.tiles]
            for numbers in portions(missing, lambda number: head.span(number)[1], _AT_ONCE):
                tiles = read_parts([_tile(head, number, digest) for number in numbers])
                array.put(dict(zip(numbers, tiles, strict=True)))
            return array.read(sample, lows, highs)

    def forget(self) -> None:
        """Close all arrays."""
        self._open.forget()


def _head(digest: bytes, read_parts: ReadParts) -> ArrayHead | None:
    """The head of the extent, None if it is no array."""

    def lead_of(data: memoryview) -> ArrayLead | None:
        return read_lead(data, digest) if is_array(data) else None

    (lead,) = read_parts([(0, LEAD_LENGTH, lead_of)])
    if lead is None:
        return None
    found: ArrayLead = lead
    (head,) = read_parts([(LEAD_LENGTH, found.head_length, lambda data: read_head(found, data, digest))])
    result: ArrayHead = head
    return result


def _tile(head: ArrayHead, number: int, digest: bytes) -> Part:
    start, length = head.span(number)

    def verify(data: memoryview) -> memoryview:
        check_tile(head, number, data, digest)
        return data

    return head.lead.data_at + start, length, verify
