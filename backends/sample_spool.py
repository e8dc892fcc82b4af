"""Packed samples sorted by pack, in bounded memory: what records ask of packs, kept on disk where it is much."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from blake3 import blake3

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.pack_reader import PackedSample

_PARTITIONS: Final = 256
_MEMORY_LIMIT: Final = 32 * 1024 * 1024
# Big-endian, so that the order of the bytes is that of the places: pack, offset, stored, start, size, digest.
_SAMPLE: Final = struct.Struct(">16sQQQQ32s")
# Number of the leaf, number of the row, length of the prefix.
_OWNER: Final = struct.Struct(">IIH")


class AskedSample(NamedTuple):
    """A sample that some record says is in a pack; `leaf` and `row` number one of those records."""

    sample: PackedSample
    leaf: int
    row: int


class SampleSpool:
    """Takes samples in any order and gives them back pack by pack, each sample once.

    Args:
        folder: an existing folder for what does not fit into memory; the caller removes it.
        memory_limit: bytes kept in memory.
    """

    def __init__(self, folder: Path, memory_limit: int = _MEMORY_LIMIT) -> None:
        self._folder = folder
        self._limit = memory_limit
        self._waiting: dict[int, bytearray] = {}
        self._size = 0
        self.packs: set[bytes] = set()

    def add(self, sample: PackedSample, leaf: int, row: int) -> None:
        """Take in one sample."""
        place, digest, prefix = sample
        self.packs.add(place.pack)
        record = _SAMPLE.pack(place.pack, place.offset, place.stored, place.start, place.size, digest)
        record += _OWNER.pack(leaf, row, len(prefix)) + prefix
        self._waiting.setdefault(place.pack[0], bytearray()).extend(record)
        self._size += len(record)
        if self._size > self._limit:
            self._flush()

    def groups(self) -> Iterator[dict[bytes, list[AskedSample]]]:
        """The samples by pack, in the order of their places; so many packs at a time as fit into memory."""
        self._flush()
        for partition in range(_PARTITIONS):
            path = self._path(partition)
            if path.exists():
                yield _read_partition(path)

    def _flush(self) -> None:
        for partition, records in self._waiting.items():
            with self._path(partition).open("ab") as file:
                file.write(records)
        self._waiting.clear()
        self._size = 0

    def _path(self, partition: int) -> Path:
        return self._folder / f"{partition:02x}.samples"


def fingerprint(asked: Sequence[AskedSample]) -> str:
    """A digest of which samples are asked of a pack, whoever asks."""
    hasher = blake3()
    for place, digest, prefix in (one.sample for one in asked):
        hasher.update(_SAMPLE.pack(*place, digest) + prefix + b"\n")
    return hasher.hexdigest(length=16)


def _read_partition(path: Path) -> dict[bytes, list[AskedSample]]:
    found: dict[tuple[bytes, bytes], tuple[int, int]] = {}
    with path.open("rb") as file:
        for sample, prefix, leaf, row in _records(file):
            found.setdefault((sample, prefix), (leaf, row))
    groups: dict[bytes, list[AskedSample]] = {}
    for (sample, prefix), (leaf, row) in sorted(found.items()):
        *place, digest = _SAMPLE.unpack(sample)
        asked = AskedSample(PackedSample(Place(*place), digest, prefix), leaf, row)
        groups.setdefault(asked.sample.place.pack, []).append(asked)
    return groups


def _records(file: BinaryIO) -> Iterator[tuple[bytes, bytes, int, int]]:
    while sample := file.read(_SAMPLE.size):
        leaf, row, length = _OWNER.unpack(file.read(_OWNER.size))
        yield sample, file.read(length), leaf, row
