"""A packed sample, and the part of a pack that it is read from, with the checks that make it sure (no I/O)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hangar_cloud.backends.blocks import Place, decode_blocks, most_decoded
from hangar_cloud.backends.errors import CorruptDataError, HangarError
from hangar_cloud.backends.extents import Extent
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.values import payload_size, sample_digest

Purged = Callable[[bytes, bool], HangarError | None]
"""What to raise for the sample of a digest if it was purged, else None; if told so, without asking a remote."""


class PackedSample(NamedTuple):
    """What is needed to read one sample from a pack and to be sure of it."""

    place: Place
    digest: bytes
    prefix: bytes


def payload_of(raw: memoryview, place: Place) -> memoryview:
    """The bytes of a sample in its decoded block. Raises CorruptDataError if the block ends before."""
    if place.start + place.size > len(raw):
        raise CorruptDataError(f"a record asks for bytes {place.start}+{place.size} of a block of {len(raw)} bytes")
    return raw[place.start : place.start + place.size]


def decoded_block(data: memoryview, sample: PackedSample, fetched: bool) -> memoryview:
    """The raw bytes of the block of a sample, which is intact.

    Args:
        data: the extent of its place.
        sample: one in it. It is compared with its digest, unless the block is its own and was here already.
        fetched: whether the bytes came from a remote.

    Raises:
        CorruptDataError: the block, the record or the sample is damaged.
    """
    place, digest, prefix = sample
    if payload_size(prefix) not in (None, place.size):
        raise CorruptDataError(f"its record gives a sample of {payload_size(prefix)} bytes {place.size}")
    raw = decode_blocks(data, digest, most_decoded(place))
    payload = payload_of(raw, place)
    if (fetched or len(raw) != place.size) and sample_digest(prefix, payload) != digest:
        raise CorruptDataError("the sample's bytes do not match its digest")
    return raw


def sample_extent(sample: PackedSample, find_purged: Purged) -> Extent[memoryview]:
    """The part of a pack that holds a sample, with the check that decodes it.

    The check raises what `find_purged` gives for it: a remote may still have what was purged here.
    """
    place = sample.place

    def verify(data: memoryview, fetched: bool) -> memoryview:
        found = find_purged(sample.digest, True) if fetched else None
        if found is not None:
            raise found
        return decoded_block(data, sample, fetched)

    return Extent(pack_path(place.pack), place.offset, place.stored, verify)


def shared_extent(members: Sequence[PackedSample], find_purged: Purged) -> Extent[None]:
    """The extent of one block, with the check of several samples in it."""
    first = sample_extent(members[0], find_purged)

    def verify(data: memoryview, fetched: bool) -> None:
        raw = first.verify(data, fetched)
        for place, digest, prefix in members[1:]:
            if fetched and sample_digest(prefix, payload_of(raw, place)) != digest:
                raise CorruptDataError("a sample's bytes do not match its digest")

    return Extent(first.path, first.offset, first.length, verify)
