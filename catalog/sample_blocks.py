"""How the samples of a column become extents of packs: shared blocks, runs of blocks, arrays (no I/O but TileDB's)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Final, NamedTuple

from hangar_cloud.backends.array_format import ARRAY_GROUP_BYTES, WIDTHS
from hangar_cloud.backends.array_options import ArrayOptions, array_options
from hangar_cloud.backends.blocks import GROUP_BYTES, encode_block, sample_parts, shared_blocks
from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.codecs import RAW, Codec, choose_codec, codec_from_options
from hangar_cloud.backends.pack_writer import Block
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.many_cores import in_order
from hangar_cloud.catalog.schema import ColumnSchema

_SHARE_BYTES: Final = GROUP_BYTES // 2
_TRUSTED_TRIAL: Final = 16 * 1024
_TRIAL_LIMIT: Final = 1 << 18
_TASK_BYTES: Final = 512 * 1024
"""What one thread encodes at a time: enough that handing it over costs nothing beside it."""
_EVEN_TASK_BYTES: Final = 4 * 1024 * 1024
"""Where next to nothing is done in Python, threads wait for each other the less the more they do at a time."""

Data = bytes | memoryview
Shape = tuple[int, ...]
Group = tuple[Sequence[bytes], Sequence[Data]]
"""Digests and payloads that go into one block, or a run of them."""


class Fresh(NamedTuple):
    """Samples of one column that are to be stored, each once.

    Attributes:
        digests: of the samples.
        datas: their payloads.
        shapes: their shapes where the column's vary, else None.
    """

    digests: list[bytes]
    datas: Sequence[Data]
    shapes: Sequence[Shape] | None


class Encoded(NamedTuple):
    """An extent, and the samples in it: their payloads follow each other in its raw bytes."""

    data: Block
    digests: Sequence[bytes]
    sizes: Sequence[int]

    @property
    def nbytes(self) -> int:
        """Bytes of the extent."""
        return sum(map(len, self.data)) if isinstance(self.data, tuple) else len(self.data)


class SampleEncoder:
    """Encodes samples of the columns of one staging area; of each column it remembers the codec that was chosen."""

    def __init__(self) -> None:
        self._codecs: dict[tuple[str, ColumnSchema, str], Codec] = {}

    def encode(self, column: str, entry: ColumnEntry, fresh: Fresh) -> Iterator[Encoded]:
        """Extents with all of these samples of a column, a few at a time, since huge ones take memory.

        Where all payloads have one length, and none is tiled, they are in the order of the samples.

        Raises:
            StoreError: an array cannot be written.
        """
        digests, datas = fresh.digests, fresh.datas
        if entry.backend == "t0":
            options = _array_options(entry)
            tiled: set[int] = set()
            for (shape, tile), samples in _cut(entry.schema, options, fresh).items():
                tiled.update(samples)
                yield from _arrays(
                    [digests[i] for i in samples],
                    [datas[i] for i in samples],
                    shape,
                    tile,
                    options,
                    entry.schema.item_size,
                )
            rest = [i for i in range(len(digests)) if i not in tiled]
            digests, datas = [digests[i] for i in rest], [datas[i] for i in rest]
        if not digests:
            return
        codec = self._codec(column, entry, datas)
        size = entry.schema.fixed_size
        if codec.number == RAW and size is not None and size > _SHARE_BYTES:
            # Nothing is encoded: threads would only wait for each other.
            yield from (_alone(digest, data, codec) for digest, data in zip(digests, _each(datas), strict=True))
            return
        tasks = _tasks(digests, datas, codec) if size is None else _even_tasks(digests, datas, size, codec)
        for extents in in_order(tasks):
            yield from extents

    def _codec(self, column: str, entry: ColumnEntry, datas: Sequence[Data]) -> Codec:
        options = entry.backend_options if entry.backend != "t0" else {}
        name = (column, entry.schema, repr(options))
        chosen = self._codecs.get(name) or codec_from_options(options, entry.schema.item_size)
        if chosen is None:
            trial = bytearray()
            for data in _each(datas):
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


def _cut(schema: ColumnSchema, options: ArrayOptions, fresh: Fresh) -> dict[tuple[Shape, Shape], list[int]]:
    """Numbers of the samples that are cut into tiles, by shape and tile.

    Those of a single tile gain nothing from being arrays.
    """
    found: dict[tuple[Shape, Shape], list[int]] = {}
    for i in range(len(fresh.digests)):
        shape = (schema.shape or ()) if fresh.shapes is None else fresh.shapes[i]
        if schema.item_size in WIDTHS and 0 not in shape:
            tile = options.tile_of(shape, schema.item_size)
            if tile != shape:
                found.setdefault((shape, tile), []).append(i)
    return found


def _arrays(
    digests: Sequence[bytes], datas: Sequence[Data], shape: Shape, tile: Shape, options: ArrayOptions, width: int
) -> Iterator[Encoded]:
    """Arrays of samples of one shape: small ones together, so that each write of TileDB is worth its while."""
    from hangar_cloud.backends.array_blocks import encode_array

    size = prod(shape) * width
    together = max(ARRAY_GROUP_BYTES // size, 1)
    filters = options.filters_of(width)
    for start in range(0, len(digests), together):
        group = digests[start : start + together]
        extent = encode_array(datas[start : start + together], shape, width, tile, filters, group)
        yield Encoded(extent, group, [size] * len(group))


def _even_tasks(
    digests: Sequence[bytes], datas: Sequence[Data], size: int, codec: Codec
) -> Iterator[Callable[[], list[Encoded]]]:
    """What `_tasks` does, for samples of one size: without a look at each."""
    together = GROUP_BYTES // size if size <= _SHARE_BYTES else 1
    step = max(_EVEN_TASK_BYTES // (together * size), 1) * together
    for start in range(0, len(digests), step):
        here = slice(start, start + step)
        yield partial(_encode_even, digests[here], datas[here], size, together, codec)


def _encode_even(
    digests: Sequence[bytes], datas: Sequence[Data], size: int, together: int, codec: Codec
) -> list[Encoded]:
    if size > _SHARE_BYTES:
        return [_alone(digest, data, codec) for digest, data in zip(digests, _each(datas), strict=True)]
    count = len(digests) - (len(digests) % together == 1)
    groups = [slice(start, min(start + together, count)) for start in range(0, count, together)]
    raws: list[Data]
    if isinstance(datas, ByteRows):
        raw = memoryview(datas.data)
        raws = [raw[group.start * size : group.stop * size] for group in groups]
    else:
        raws = [b"".join(datas[group]) for group in groups]
    blocks = shared_blocks(raws, codec)
    found = [
        Encoded(block, digests[group], [size] * (group.stop - group.start))
        for block, group in zip(blocks, groups, strict=True)
    ]
    # A sample that is left over has a block of its own, which is bound to it.
    return found if count == len(digests) else [*found, _alone(digests[-1], datas[-1], codec)]


def _tasks(digests: Sequence[bytes], datas: Sequence[Data], codec: Codec) -> Iterator[Callable[[], list[Encoded]]]:
    """Samples encoded on all cores: big ones each in a run of blocks, small ones together."""
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
        return _alone(digests[0], datas[0], codec)
    return Encoded(encode_block(b"".join(datas), codec, digests[0] if len(digests) == 1 else None), digests, sizes)


def _alone(digest: bytes, data: Data, codec: Codec) -> Encoded:
    return Encoded(sample_parts(data, codec, digest), [digest], [len(data)])


def _each(datas: Sequence[Data]) -> Iterable[Data]:
    return datas.views() if isinstance(datas, ByteRows) else datas
