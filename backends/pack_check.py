"""Checking one whole pack: its name, its frame, and every sample that records say is in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.blocks import decode_blocks, most_decoded
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.packs import PACK_MAGIC, BlockExtent, file_pack_id, read_index_array
from hangar_cloud.backends.sample_spool import AskedSample
from hangar_cloud.backends.values import payload_size, sample_digest


class PackFault(NamedTuple):
    """What is wrong with a pack, or with one sample of it. `kind` is as in `Finding`."""

    kind: str
    message: str
    asked: AskedSample | None = None


def check_frame(file: BinaryIO, size: int, asked: Collection[AskedSample]) -> Iterator[PackFault]:
    """Faults of trailer, index and places; no sample bytes are read.

    Args:
        file: the pack; `read_index` reads its end.
        size: of the pack in bytes.
        asked: the samples that must be in it.
    """
    try:
        index = read_index_array(file)
    except CorruptDataError as error:
        yield PackFault("damaged", str(error))
        # Where blocks end is not known, so only what lies wholly outside is told from the rest.
        yield from (_outside(one) for one in asked if _end(one) > size)
        return
    # As arrays: an index of a gigabyte would be ten as Python's numbers.
    offsets, lengths = index[:, 0], index[:, 1]
    due = np.concatenate([np.array([len(PACK_MAGIC)], np.uint64), offsets[:-1] + lengths[:-1]])[: len(offsets)]
    wrong = np.flatnonzero((offsets != due) | (lengths < 1) | (lengths > size))
    if len(wrong):
        found, wanted = int(offsets[wrong[0]]), int(due[wrong[0]])
        yield PackFault("damaged", f"the index has an extent at byte {found}, where {wanted} must be")
        order = np.argsort(offsets, kind="stable")
        offsets, lengths = offsets[order], lengths[order]
    for one in asked:
        if _end(one) > size:
            yield _outside(one)
        elif not _is_listed(one, offsets, lengths):
            yield PackFault("place", f"no block of the pack lies at {_extent(one).offset}+{_extent(one).stored}", one)


def check_contents(path: Path, pack: bytes, asked: Collection[AskedSample]) -> Iterator[PackFault]:
    """All faults of a pack that is here as a file; every block that is asked for is decoded once."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(PACK_MAGIC)) != PACK_MAGIC:
            yield PackFault("damaged", "it does not begin as a pack does")
        if file_pack_id(path) != pack:
            yield PackFault("damaged", "its bytes do not match its name")
        faults = list(check_frame(file, size, asked))
        yield from faults
        told = {fault.asked for fault in faults}
        for extent, group in groupby(asked, key=_extent):
            members = [one for one in group if one not in told]
            if members:
                file.seek(extent.offset)
                yield from check_extent(file.read(extent.stored), members)


def check_extent(data: bytes, members: Sequence[AskedSample]) -> Iterator[PackFault]:
    """Faults of the samples in one block, or run of blocks."""
    for one in members:
        if payload_size(one.sample.prefix) not in (None, one.sample.place.size):
            yield PackFault("value", f"{one.sample.place.size} bytes are not a sample of its shape", one)
    members = [one for one in members if payload_size(one.sample.prefix) in (None, one.sample.place.size)]
    if not members:
        return
    first = members[0].sample
    try:
        raw = decode_blocks(data, first.digest, max(most_decoded(one.sample.place) for one in members))
    except (CorruptDataError, UnsupportedFormatError) as error:
        if len(members) > 1:
            # One record with a wrong digest must not speak for the others.
            for one in members:
                yield from check_extent(data, [one])
            return
        kind = "unsupported" if isinstance(error, UnsupportedFormatError) else "damaged"
        yield PackFault(kind, str(error), members[0])
        return
    for one in members:
        place, digest, prefix = one.sample
        payload = raw[place.start : place.start + place.size]
        if len(payload) != place.size:
            yield PackFault("place", f"bytes {place.start}+{place.size} of a block of {len(raw)} bytes", one)
        elif sample_digest(prefix, payload) != digest:
            yield PackFault("digest", "the sample's bytes do not match its digest", one)


def _is_listed(one: AskedSample, offsets: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64]) -> bool:
    place = one.sample.place
    first = int(np.searchsorted(offsets, np.uint64(place.offset), "left"))
    last = int(np.searchsorted(offsets, np.uint64(place.offset), "right"))
    return bool((lengths[first:last] == place.stored).any())


def _extent(one: AskedSample) -> BlockExtent:
    return BlockExtent(one.sample.place.offset, one.sample.place.stored)


def _end(one: AskedSample) -> int:
    return one.sample.place.offset + one.sample.place.stored


def _outside(one: AskedSample) -> PackFault:
    return PackFault("place", f"bytes {one.sample.place.offset}+{one.sample.place.stored} lie outside the pack", one)
