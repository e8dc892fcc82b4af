"""A packed sample, and the part of a pack that it is read from, with the checks that make it sure (no I/O)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hangar_cloud.backends.blocks import Place, decode_blocks, lone_payload, may_be_lone, most_decoded
from hangar_cloud.backends.errors import CorruptDataError, HangarError
from hangar_cloud.backends.extents import Extent
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.values import payload_size, sample_digest, sample_digests

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


def decoded_blocks(
    data: memoryview, begin: int, samples: Sequence[PackedSample], fetched: bool
) -> Sequence[memoryview]:
    """The raw bytes of the block of each of some samples, all intact; as `decoded_block`.

    Args:
        data: has the extents of their places, each whole.
        begin: where in the pack it begins.
        samples: of different blocks.
        fetched: whether the bytes came from a remote.
    """
    found = _lone_payloads(data, begin, samples, fetched)
    if found is not None:
        return found
    starts = [sample.place.offset - begin for sample in samples]
    return [
        decoded_block(data[start : start + sample.place.stored], sample, fetched)
        for start, sample in zip(starts, samples, strict=True)
    ]


def _lone_payloads(
    data: memoryview, begin: int, samples: Sequence[PackedSample], fetched: bool
) -> list[memoryview] | None:
    """The same for samples of one kind that lie by themselves and are kept raw, at a fifth less than one by one; None
    if one of them is not so, or not intact."""
    prefix = samples[0].prefix
    size = payload_size(prefix)
    # What the records say of the last one is known before the first one is hashed.
    for place, _, its_prefix in samples:
        if not (may_be_lone(place) and its_prefix == prefix and size in (None, place.size)):
            return None
    found: list[memoryview] = []

    def payloads() -> Iterator[memoryview]:
        for place, digest, _ in samples:
            payload = lone_payload(data, place.offset - begin, place, digest)
            if payload is None:
                return
            found.append(payload)
            yield payload

    # One after the other, as what was just looked at is still in the processor's memory.
    if fetched:
        if sample_digests(prefix, payloads()) != [sample.digest for sample in samples]:
            return None
    elif sum(1 for _ in payloads()) != len(samples):
        return None
    return found


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
