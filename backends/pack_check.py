"""Checking one whole pack: its name, its frame, and every sample that records say is in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hangar_cloud.backends.blocks import decode_blocks
from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.packs import PACK_MAGIC, BlockExtent, file_pack_id, read_index
from hangar_cloud.backends.sample_spool import AskedSample
from hangar_cloud.backends.values import sample_digest


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
        extents = read_index(file)
    except CorruptDataError as error:
        yield PackFault("damaged", str(error))
        # Where blocks end is not known, so only what lies wholly outside is told from the rest.
        yield from (_outside(one) for one in asked if _end(one) > size)
        return
    position = len(PACK_MAGIC)
    for extent in extents:
        if extent.offset != position or extent.stored < 1:
            yield PackFault("damaged", f"the index has an extent at byte {extent.offset}, where {position} must be")
            break
        position += extent.stored
    known = set(extents)
    for one in asked:
        if _end(one) > size:
            yield _outside(one)
        elif _extent(one) not in known:
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
    first = members[0].sample
    try:
        raw = decode_blocks(data, first.digest, max(one.sample.place.start + one.sample.place.size for one in members))
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


def _extent(one: AskedSample) -> BlockExtent:
    return BlockExtent(one.sample.place.offset, one.sample.place.stored)


def _end(one: AskedSample) -> int:
    return one.sample.place.offset + one.sample.place.stored


def _outside(one: AskedSample) -> PackFault:
    return PackFault("place", f"bytes {one.sample.place.offset}+{one.sample.place.stored} lie outside the pack", one)
