"""Arrays in tiles that were made to harm: every checksum of ours is right, and what TileDB is told is not."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from hangar_cloud.backends.array_blocks import encode_array
from hangar_cloud.backends.array_format import ArrayFiles, ArrayHead, check_array, encode_extent
from hangar_cloud.backends.values import sample_digest
from hangar_cloud.catalog.schema import ColumnSchema
from tests.faults.hostile import Hostile, hostile

SHAPE = (48, 40, 50)
SCHEMA = ColumnSchema("ndarray", "flat", "fixed_shape", "<u2", SHAPE)
RAW = np.random.default_rng(3).integers(0, 2**16, SHAPE, np.uint16).tobytes()
DIGEST = sample_digest(SCHEMA.prefix(None), RAW)


def intact() -> bytes:
    return encode_array([RAW], SHAPE, 2, (16, 20, 25), (("zstd", 1),), [DIGEST])


def put(made: Hostile, extent: bytes, size: int = len(RAW)) -> None:
    """A commit of one column with that array."""
    made.packed(SCHEMA, made.pack(extent)._replace(size=size), DIGEST)


def forged(extent: bytes, **changes: Any) -> bytes:
    """An array with other contents, and all checksums right."""
    head: ArrayHead = check_array(extent, DIGEST)
    files = head.files._replace(**{name: value for name, value in changes.items() if name in ArrayFiles._fields})
    data = changes.get("data", extent[head.lead.data_at :])
    return encode_extent(2, changes.get("shape", head.shape), changes.get("tile", head.tile), files, data, [DIGEST])


@hostile
def arrays_of_other_shapes_than_their_records(made: Hostile) -> None:
    extent = intact()
    for shape, tile in (((40, 48, 50), (16, 20, 25)), ((2**40, 40, 50), (2**40, 20, 25)), ((96_000,), (8000,))):
        put(made, forged(extent, shape=shape, tile=tile))
    for size in (0, 1, 2**40, len(RAW) - 2):
        put(made, extent, size)


@hostile
def arrays_whose_files_promise_terabytes(made: Hostile) -> None:
    extent = intact()
    files = check_array(extent, DIGEST).files
    for name in ("schema", "fragment"):
        text = getattr(files, name)
        for place in (4, 12, 21, 30, 60, len(text) - 8, len(text) - 40):
            put(made, forged(extent, **{name: text[:place] + struct.pack("<Q", 2**35) + text[place + 8 :]}))


@hostile
def arrays_whose_tiles_promise_gigabytes(made: Hostile) -> None:
    extent = intact()
    data = extent[check_array(extent, DIGEST).lead.data_at :]
    for place, number in ((0, 2**31), (8, 2**32 - 1), (12, 2**32 - 1), (16, 2**31)):
        put(made, extent[: -len(data)] + data[:place] + struct.pack("<I", number) + data[place + 4 :])
    put(made, forged(extent, data=data[:8] + struct.pack("<I", 2**31) + data[12:]))


@hostile
def arrays_of_another_sample(made: Hostile) -> None:
    other = np.zeros(SHAPE, np.uint16).tobytes()
    put(made, encode_array([other], SHAPE, 2, (16, 20, 25), (), [DIGEST]))
    put(made, encode_array([other, other], SHAPE, 2, (16, 20, 25), (), [DIGEST, DIGEST]))
