"""How the samples of a column become extents of packs: shared blocks, runs of blocks, arrays (no I/O but TileDB's)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Final

from hangar_cloud.backends.array_format import ARRAY_GROUP_BYTES, WIDTHS
from hangar_cloud.backends.array_options import ArrayOptions, array_options
from hangar_cloud.backends.blocks import GROUP_BYTES, encode_block, encode_sample
from hangar_cloud.backends.codecs import Codec, choose_codec, codec_from_options
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.schema import ColumnSchema, Payload

_SHARE_BYTES: Final = GROUP_BYTES // 2
_TRUSTED_TRIAL: Final = 16 * 1024
_TRIAL_LIMIT: Final = 1 << 18

Members = list[tuple[bytes, int, int]]
"""Where in the raw bytes of an extent each digest's payload starts, and how long it is."""

Fresh = Mapping[bytes, Payload]
"""Payloads by digest."""

Shape = tuple[int, ...]


class SampleEncoder:
    """Encodes samples of the columns of one staging area; of each column it remembers the codec that was chosen."""

    def __init__(self) -> None:
        self._codecs: dict[tuple[str, ColumnSchema, str], Codec] = {}

    def encode(self, column: str, entry: ColumnEntry, fresh: Fresh) -> Iterator[tuple[bytes, Members]]:
        """Extents with all of these samples, one at a time, since a huge one takes memory.

        Raises:
            StoreError: an array cannot be written.
        """
        tiled: set[bytes] = set()
        if entry.backend == "t0":
            options = _array_options(entry)
            for (shape, tile), samples in _cut(entry.schema, options, fresh).items():
                tiled.update(samples)
                yield from _arrays(samples, shape, tile, options, entry.schema.item_size)
        rest = {digest: payload.data for digest, payload in fresh.items() if digest not in tiled}
        if rest:
            yield from _blocks(rest, self._codec(column, entry, rest))

    def _codec(self, column: str, entry: ColumnEntry, fresh: Mapping[bytes, bytes]) -> Codec:
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


def _cut(schema: ColumnSchema, options: ArrayOptions, fresh: Fresh) -> dict[tuple[Shape, Shape], dict[bytes, Payload]]:
    """The samples that are cut into tiles, by shape and tile. Those of a single tile gain nothing from being arrays."""
    found: dict[tuple[Shape, Shape], dict[bytes, Payload]] = {}
    for digest, payload in fresh.items():
        shape = payload.shape if payload.shape is not None else schema.shape or ()
        if schema.item_size in WIDTHS and 0 not in shape:
            tile = options.tile_of(shape, schema.item_size)
            if tile != shape:
                found.setdefault((shape, tile), {})[digest] = payload
    return found


def _arrays(
    samples: Fresh, shape: Shape, tile: Shape, options: ArrayOptions, width: int
) -> Iterator[tuple[bytes, Members]]:
    """Arrays of samples of one shape: small ones together, so that each write of TileDB is worth its while."""
    from hangar_cloud.backends.array_blocks import encode_array

    size = prod(shape) * width
    together = max(ARRAY_GROUP_BYTES // size, 1)
    digests = list(samples)
    filters = options.filters_of(width)
    for start in range(0, len(digests), together):
        group = digests[start : start + together]
        datas = [samples[digest].data for digest in group]
        extent = encode_array(datas, shape, width, tile, filters, group)
        yield extent, [(digest, i * size, size) for i, digest in enumerate(group)]


def _blocks(samples: Mapping[bytes, bytes], codec: Codec) -> Iterator[tuple[bytes, Members]]:
    """Samples by digest, encoded: big ones each in a run of blocks, small ones together."""
    group: list[tuple[bytes, bytes]] = []
    size = 0
    for digest, data in samples.items():
        if len(data) > _SHARE_BYTES:
            yield encode_sample(data, codec, digest), [(digest, 0, len(data))]
            continue
        if size + len(data) > GROUP_BYTES:
            yield _encode_group(group, codec)
            group, size = [], 0
        group.append((digest, data))
        size += len(data)
    if group:
        yield _encode_group(group, codec)


def _encode_group(group: list[tuple[bytes, bytes]], codec: Codec) -> tuple[bytes, Members]:
    """One shared block, and where in it each digest's payload lies."""
    members = []
    start = 0
    for digest, data in group:
        members.append((digest, start, len(data)))
        start += len(data)
    raw = b"".join(data for _, data in group)
    binding = group[0][0] if len(group) == 1 else None
    return encode_block(raw, codec, binding), members
