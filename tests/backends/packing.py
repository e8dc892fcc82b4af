"""Packs for tests, made of known samples, and what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hangar_cloud.backends.blocks import GROUP_BYTES, Place, encode_block, encode_sample
from hangar_cloud.backends.codecs import Codec
from hangar_cloud.backends.object_source import ObjectSource
from hangar_cloud.backends.pack_reader import PackedSample, PackReader
from hangar_cloud.backends.pack_writer import PackWriter
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.values import BYTES_PREFIX, sample_digest

RAW_CODEC = Codec(0)


class Packed(NamedTuple):
    """A sealed pack: its id, its samples, and their payloads."""

    pack: bytes
    samples: list[PackedSample]
    payloads: list[bytes]


def make_pack(store: Path, payloads: list[bytes], codec: Codec = RAW_CODEC, work: Path | None = None) -> Packed:
    """Seal a pack of payloads under its name in `store`: small ones share blocks, big ones have their own."""
    writer = PackWriter((work or store) / "making.pack")
    blocks: list[bytes] = []
    members: list[list[tuple[bytes, int, int]]] = []
    group: list[bytes] = []

    def close_group() -> None:
        if group:
            digests = [sample_digest(BYTES_PREFIX, payload) for payload in group]
            starts = [sum(map(len, group[:i])) for i in range(len(group))]
            blocks.append(encode_block(b"".join(group), codec, digests[0] if len(group) == 1 else None))
            members.append([(d, s, len(p)) for d, s, p in zip(digests, starts, group, strict=True)])
            group.clear()

    for payload in payloads:
        if len(payload) > GROUP_BYTES // 2:
            close_group()
            digest = sample_digest(BYTES_PREFIX, payload)
            blocks.append(encode_sample(payload, codec, digest))
            members.append([(digest, 0, len(payload))])
        else:
            if sum(map(len, group)) + len(payload) > GROUP_BYTES:
                close_group()
            group.append(payload)
    close_group()
    extents = writer.append(blocks)
    pack = writer.seal()
    target = store / pack_path(pack)
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.path.replace(target)
    samples = [
        PackedSample(Place(pack, extent.offset, extent.stored, start, size), digest, BYTES_PREFIX)
        for extent, names in zip(extents, members, strict=True)
        for digest, start, size in names
    ]
    return Packed(pack, samples, payloads)


def fresh_reader(store: Path) -> PackReader:
    """A reader that has nothing in memory."""
    return PackReader(ObjectSource(store))
