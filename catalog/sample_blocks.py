"""How the samples of a column become extents of packs: shared blocks, runs of blocks, arrays (no I/O but TileDB's)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Final, NamedTuple

from hangar_cloud.backends.array_format import ARRAY_GROUP_BYTES, WIDTHS
from hangar_cloud.backends.array_options import ArrayOptions, array_options
from hangar_cloud.backends.blocks import GROUP_BYTES, encode_block, encode_sample
from hangar_cloud.backends.codecs import Codec, choose_codec, codec_from_options
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.many_cores import in_order
from hangar_cloud.catalog.schema import ColumnSchema

_SHARE_BYTES: Final = GROUP_BYTES // 2
_TRUSTED_TRIAL: Final = 16 * 1024
_TRIAL_LIMIT: Final = 1 << 18
_TASK_BYTES: Final = 512 * 1024
"""What one thread encodes at a time: enough that handing it over costs nothing beside it."""

Data = bytes | memoryview
Shape = tuple[int, ...]
Fresh = Mapping[bytes, Data]
"""Payloads by digest."""
Group = tuple[Sequence[bytes], Sequence[Data]]
"""Digests and payloads that go into one block, or a run of them."""


class Encoded(NamedTuple):
    """An extent, and the samples in it: their payloads follow each other in its raw bytes."""

    data: bytes
    digests: Sequence[bytes]
    sizes: Sequence[int]


class SampleEncoder:
    """Encodes samples of the columns of one staging area; of each column it remembers the codec that was chosen."""

    def __init__(self) -> None:
        self._codecs: dict[tuple[str, ColumnSchema, str], Codec] = {}

    def encode(
        self, column: str, entry: ColumnEntry, fresh: Fresh, shapes: Mapping[bytes, Shape | None]
    ) -> Iterator[Encoded]:
        """Extents with all of these samples, a few at a time, since huge ones take memory.

        Args:
            column, entry: what they are of.
            fresh: the payloads.
            shapes: their shapes where they vary, else nothing.

        Raises:
            StoreError: an array cannot be written.
        """
        tiled: set[bytes] = set()
        if entry.backend == "t0":
            options = _array_options(entry)
            for (shape, tile), samples in _cut(entry.schema, options, fresh, shapes).items():
                tiled.update(samples)
                yield from _arrays(samples, shape, tile, options, entry.schema.item_size)
        rest = {digest: data for digest, data in fresh.items() if digest not in tiled} if tiled else fresh
        if rest:
            yield from _blocks(rest, self._codec(column, entry, rest))

    def _codec(self, column: str, entry: ColumnEntry, fresh: Fresh) -> Codec:
        options = entry.backend_options if entry.backend != "t0" else {}
        name = (column, entry.schema, repr(options))
        chosen = self._codecs.get(name) or codec_from_options(options, entry.schema.item_size)
        if chosen is None:
            trial = bytearray()
            for data in fresh.values():
                trial += data[: _TRIAL_LIMIT - len(trial)]
                if len(trial) >= _TRIAL_LIMIT:
                    break
            chosen = choose_codec(bytes(trial), entry.schema.item_size)
            if len(trial) < _TRUSTED_TRIAL:
                return chosen
        self._codecs[name] = chosen
        return chosen


def _array_options(entry: ColumnEntry) -> ArrayOptions:
    try:
        return array_options(entry.backend_options, entry.schema.shape, entry.schema.item_size)
    except ValueError:
        # They were checked when they were given. The column was altered since, or a later version knows more of them.
        return ArrayOptions(None, None)


def _cut(
    schema: ColumnSchema, options: ArrayOptions, fresh: Fresh, shapes: Mapping[bytes, Shape | None]
) -> dict[tuple[Shape, Shape], dict[bytes, Data]]:
    """The samples that are cut into tiles, by shape and tile. Those of a single tile gain nothing from being arrays."""
    found: dict[tuple[Shape, Shape], dict[bytes, Data]] = {}
    for digest, data in fresh.items():
        shape = shapes.get(digest) or schema.shape or ()
        if schema.item_size in WIDTHS and 0 not in shape:
            tile = options.tile_of(shape, schema.item_size)
            if tile != shape:
                found.setdefault((shape, tile), {})[digest] = data
    return found


def _arrays(samples: Fresh, shape: Shape, tile: Shape, options: ArrayOptions, width: int) -> Iterator[Encoded]:
    """Arrays of samples of one shape: small ones together, so that each write of TileDB is worth its while."""
    from hangar_cloud.backends.array_blocks import encode_array

    size = prod(shape) * width
    together = max(ARRAY_GROUP_BYTES // size, 1)
    digests = list(samples)
    filters = options.filters_of(width)
    for start in range(0, len(digests), together):
        group = digests[start : start + together]
        extent = encode_array([samples[digest] for digest in group], shape, width, tile, filters, group)
        yield Encoded(extent, group, [size] * len(group))


def _blocks(samples: Fresh, codec: Codec) -> Iterator[Encoded]:
    """Samples by digest, encoded on all cores: big ones each in a run of blocks, small ones together."""
    for extents in in_order(_tasks(list(samples), list(samples.values()), codec)):
        yield from extents


def _tasks(digests: Sequence[bytes], datas: Sequence[Data], codec: Codec) -> Iterator[Callable[[], list[Encoded]]]:
    groups: list[Group] = []
    size = 0
    for group in _groups(digests, datas):
        groups.append(group)
        size += len(group[1][0]) * len(group[1])
        if size >= _TASK_BYTES:
            yield partial(_encode_groups, groups, codec)
            groups, size = [], 0
    if groups:
        yield partial(_encode_groups, groups, codec)


def _groups(digests: Sequence[bytes], datas: Sequence[Data]) -> Iterator[Group]:
    """Samples that share a block, or one that has a run of them."""
    sizes = list(map(len, datas))
    if max(sizes) > _SHARE_BYTES:
        for i, size in enumerate(sizes):
            if size > _SHARE_BYTES:
                yield digests[i : i + 1], datas[i : i + 1]
        small = [i for i, size in enumerate(sizes) if size <= _SHARE_BYTES]
        digests, datas, sizes = [digests[i] for i in small], [datas[i] for i in small], [sizes[i] for i in small]
    start = together = 0
    for i, size in enumerate(sizes):
        if together + size > GROUP_BYTES:
            yield digests[start:i], datas[start:i]
            start, together = i, 0
        together += size
    if start < len(sizes):
        yield digests[start:], datas[start:]


def _encode_groups(groups: list[Group], codec: Codec) -> list[Encoded]:
    return [_encode_group(digests, datas, codec) for digests, datas in groups]


def _encode_group(digests: Sequence[bytes], datas: Sequence[Data], codec: Codec) -> Encoded:
    sizes = list(map(len, datas))
    if sizes[0] > _SHARE_BYTES:
        return Encoded(encode_sample(datas[0], codec, digests[0]), digests, sizes)
    return Encoded(encode_block(b"".join(datas), codec, digests[0] if len(digests) == 1 else None), digests, sizes)
