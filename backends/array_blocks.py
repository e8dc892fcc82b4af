"""Encoding samples as array extents, and decoding whole ones: what `blocks` does for blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hangar_cloud.backends import array_format
from hangar_cloud.backends.array_folders import new_folder, remove_folder, told_of_folders
from hangar_cloud.backends.array_format import (
    ARRAY_GROUP_BYTES,
    LEAD_LENGTH,
    ArrayHead,
    check_array,
    read_head,
    read_lead,
)
from hangar_cloud.backends.array_options import Filter
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.tiledb_arrays import OpenArray, as_elements, lay_out, write_array


def encode_array(
    samples: Sequence[bytes | memoryview],
    shape: Sequence[int],
    width: int,
    tile: Sequence[int],
    filters: Sequence[Filter],
    digests: Sequence[bytes],
) -> bytes:
    """Samples of equal shape as one array extent, by one write of TileDB.

    Args:
        samples: their payloads; several have at most `ARRAY_GROUP_BYTES` bytes together.
        shape: of each, at least one dimension.
        width: bytes of an element, one of `WIDTHS`.
        tile: no larger than the shape.
        filters: names and levels, in the order in which they encode.
        digests: of the samples.

    Raises:
        StoreError: there is no room where the system keeps temporary files.
        UnsupportedFormatError: a later TileDB wrote files of another form than readers take.
    """
    raw = samples[0] if len(samples) == 1 else b"".join(samples)
    elements = as_elements(raw, (len(samples), *shape), width)
    with _folder() as folder:
        files, data = write_array(folder, elements, tile, filters)
    return _checked(array_format.encode_extent(width, shape, tile, files, data, digests), digests[0])


def encode_array_alike(raw: bytes | memoryview, old: bytes | memoryview) -> bytes:
    """An array of other raw bytes, cut and filtered as another array is that several samples share."""
    head = check_array(old, b"")
    lead = head.lead
    elements = as_elements(raw, (lead.samples, *head.shape), lead.width)
    with _folder() as folder:
        lay_out(folder, head)
        files, data = write_array(folder, elements, head.tile, head)
    nobody = [bytes(8)] * lead.samples
    return _checked(array_format.encode_extent(lead.width, head.shape, head.tile, files, data, nobody), b"")


def decode_array(data: bytes | memoryview, digest: bytes, expected: int) -> memoryview:
    """The raw bytes of the samples of an array, one behind the other, with every checksum verified.

    Args:
        data: the whole extent.
        digest: of the sample that is read; its first 8 bytes are enough.
        expected: raw bytes that the caller is ready to take; of an array that several samples share, at most
            `ARRAY_GROUP_BYTES` more are taken.

    Raises:
        CorruptDataError: a checksum or a length is wrong, or TileDB cannot read it.
    """
    view = memoryview(data)
    lead = read_lead(view, digest)
    if lead.raw_length > max(expected, 0 if lead.bound else ARRAY_GROUP_BYTES):
        raise CorruptDataError("an array holds more bytes than its record declares")
    head = check_array(view, digest)
    with _folder() as folder:
        _fill(lay_out(folder, head), view[lead.data_at :])
        return _decoded(folder, head)


def _checked(extent: bytes, digest: bytes) -> bytes:
    """An extent, once its head was read as a reader does.

    Raises:
        UnsupportedFormatError: a later TileDB wrote files of another form than readers take.
    """
    lead = read_lead(extent, digest)
    try:
        read_head(lead, memoryview(extent)[LEAD_LENGTH : lead.data_at], digest)
    except CorruptDataError as error:
        raise UnsupportedFormatError(
            f"the TileDB that is installed writes arrays that this version of hangar-cloud does not read ({error}). "
            "Nothing was stored: upgrade hangar-cloud, install an earlier `tiledb`, or use backend 'p0'"
        ) from error
    return extent


def _decoded(folder: Path, head: ArrayHead) -> memoryview:
    array = OpenArray(folder, head)
    try:
        elements = array.read([0] * len(head.shape), head.shape, slice(0, head.lead.samples))
    finally:
        array.close()
    if elements.nbytes != head.lead.raw_length:
        raise CorruptDataError(f"an array decoded to {elements.nbytes} bytes where {head.lead.raw_length} are declared")
    return np.ascontiguousarray(elements).reshape(-1).view(np.uint8).data.toreadonly()


def _fill(path: Path, data: memoryview) -> None:
    with path.open("r+b") as file:
        file.write(data)


@contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder, removed at the end."""
    with told_of_folders():
        folder = new_folder()
        try:
            yield folder
        finally:
            remove_folder(folder)
