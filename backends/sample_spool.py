"""Packed samples sorted by pack, in bounded memory: what records ask of packs, kept on disk where it is much.

A sample is a record of 92 bytes until it is looked at: a pack may hold a million, and as objects they take a
kilobyte each.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.pack_reader import PackedSample

_PARTITIONS: Final = 256
_MEMORY_LIMIT: Final = 32 * 1024 * 1024
# Big-endian, so that the order of the bytes is that of the places: pack, offset, stored, start, size, digest; then the
# numbers of the prefix, of the leaf and of the row.
_RECORD: Final = struct.Struct(">16sQQQQ32sIII")
_KEY_BYTES: Final = _RECORD.size - 8
# Numpy orders byte strings as bytes; that it drops zeros at their ends makes no difference between equal lengths.
_VIEW: Final = np.dtype(
    {
        "names": ["pack", "key", "record"],
        "formats": ["S16", f"S{_KEY_BYTES}", f"V{_RECORD.size}"],
        "offsets": [0, 0, 0],
        "itemsize": _RECORD.size,
    }
)


class AskedSample(NamedTuple):
    """A sample that some record says is in a pack; `leaf` and `row` number one of those records."""

    sample: PackedSample
    leaf: int
    row: int


class AskedSamples(Collection[AskedSample]):
    """The samples asked of one pack, in the order of their places; each is made as it is looked at.

    Args:
        records: of shape (samples,).
        prefixes: what the numbers of prefixes in them mean.
    """

    def __init__(self, records: npt.NDArray[Any], prefixes: list[bytes]) -> None:
        self._records = records
        self._prefixes = prefixes

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[AskedSample]:
        for record in self._records["record"]:
            pack, offset, stored, start, size, digest, prefix, leaf, row = _RECORD.unpack(record.tobytes())
            place = Place(pack, offset, stored, start, size)
            yield AskedSample(PackedSample(place, digest, self._prefixes[prefix]), leaf, row)

    def __contains__(self, one: object) -> bool:
        return any(one == other for other in self)


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
        self._prefixes: dict[bytes, int] = {}
        self.packs: set[bytes] = set()

    def add(self, sample: PackedSample, leaf: int, row: int) -> None:
        """Take in one sample."""
        place, digest, prefix = sample
        self.packs.add(place.pack)
        number = self._prefixes.setdefault(prefix, len(self._prefixes))
        self._waiting.setdefault(place.pack[0], bytearray()).extend(_RECORD.pack(*place, digest, number, leaf, row))
        self._size += _RECORD.size
        if self._size > self._limit:
            self._flush()

    def groups(self) -> Iterator[dict[bytes, AskedSamples]]:
        """The samples by pack; so many packs at a time as fit into memory."""
        self._flush()
        prefixes = list(self._prefixes)
        for partition in range(_PARTITIONS):
            path = self._path(partition)
            if path.exists():
                yield {pack: AskedSamples(records, prefixes) for pack, records in _by_pack(path)}

    def _flush(self) -> None:
        for partition, records in self._waiting.items():
            with self._path(partition).open("ab") as file:
                file.write(records)
        self._waiting.clear()
        self._size = 0

    def _path(self, partition: int) -> Path:
        return self._folder / f"{partition:02x}.samples"


def fingerprint(asked: Collection[AskedSample]) -> str:
    """A digest of which samples are asked of a pack, whoever asks."""
    hasher = blake3()
    for place, digest, prefix in (one.sample for one in asked):
        hasher.update(_RECORD.pack(*place, digest, len(prefix), 0, 0) + prefix)
    return hasher.hexdigest(length=16)


def _by_pack(path: Path) -> Iterator[tuple[bytes, npt.NDArray[Any]]]:
    """The records in a file, sorted, each sample once."""
    records = np.fromfile(path, _VIEW)
    records = records[np.argsort(records["key"], kind="stable")]
    keys, packs = records["key"], records["pack"]
    records = records[np.concatenate([[True], keys[1:] != keys[:-1]])]
    packs = records["pack"]
    edges = [0, *(np.flatnonzero(packs[1:] != packs[:-1]) + 1).tolist(), len(records)]
    for start, end in pairwise(edges):
        yield records["record"][start].tobytes()[:16], records[start:end]
