"""One value out of what is decoded in memory already: no file, no check and no message comes into it.

Whatever is not so simple (a leaf or a block that has to be loaded, a sample that was not compared with its digest yet,
a key that cannot be, arrays whose shape varies) is left to the long way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np

from hangar_cloud.backends.arenas import BlockName
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.pack_reader import SHARED_BLOCK_LIMIT, UNREADABLE, DecodedBlock, PackedSample, PackReader
from hangar_cloud.backends.values import DIGEST_LENGTH, sample_digest, sample_digests
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.keys import MAX_INT_KEY, RowKey, encode_key
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_blocks import BlockRows, block_around, block_name, block_rows
from hangar_cloud.catalog.node_reader import NodeReader, Span
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.neighbours import Neighbours

_MOST_SPANS: Final = 65_536
MOST_SHARED: Final = SHARED_BLOCK_LIMIT // 2
"""Samples of up to so many bytes are read by the block."""

Take = Callable[[Leaf, int], Any]
BlockOf = Callable[[tuple[bytes, int]], DecodedBlock | None]


class WarmReads:
    """Reads of one column of one commit that need nothing but memory.

    Args:
        nodes: the record trees.
        packs: the blocks.
        entry: the column, flat.

    `take` makes a value of a row of a leaf, as `get` does.
    """

    def __init__(self, nodes: NodeReader, packs: PackReader, entry: ColumnEntry) -> None:
        self._leaf_named = nodes.leaf_named
        self._nodes = nodes
        self._packs = packs
        self._blocks = packs.decoded
        self._block_of: BlockOf = packs.decoded.get
        self._entry = entry
        # Leaves that were met, in key order.
        self._firsts: list[bytes] = []
        self._spans: list[Span] = []
        self.take = _taker(entry, packs)
        self._lock = ForkLock()
        self._neighbours = Neighbours(packs)

    @property
    def rows_fetched(self) -> int:
        """How many rows are in leaves of which all samples were fetched for random batches."""
        return self._neighbours.rows

    def get(self, key: RowKey) -> Any:
        """The value of a key, None where it takes more than memory to tell."""
        place = self._find(key)
        return None if place is None else self.take(*place)

    def checked(self, key: RowKey) -> Any:
        """The value of a key that may be one, a pair too; None likewise."""
        place = self.locate(key)
        return None if place is None else self.take(place[0], place[2])

    def payload(self, key: RowKey) -> bytes | memoryview | None:
        """The payload of a key that may be one, a pair too; None likewise."""
        place = self.locate(key)
        return None if place is None else _payload(place[0], place[2], self._block_of)

    def locate(self, key: RowKey) -> tuple[Leaf, int, int] | None:
        """The leaf of a key that was learned, the number of its first row in the column, and the key's row in it."""
        encoded = encode_key(key)
        i = bisect_right(self._firsts, encoded) - 1
        if i < 0:
            return None
        _, end, name, rank = self._spans[i]
        leaf = None if encoded >= end else self._leaf_named(name)
        row = None if leaf is None else leaf.position(key)
        return None if leaf is None or row is None else (leaf, rank, row)

    def _find(self, key: RowKey) -> tuple[Leaf, int] | None:
        kind = type(key)
        if kind is int:
            if not 0 <= key <= MAX_INT_KEY:  # type: ignore[operator]
                return None
            encoded = b"\1" + key.to_bytes(8, "big")  # type: ignore[union-attr]
        elif kind is str and key.isascii():  # type: ignore[union-attr]
            encoded = b"\2" + key.encode() + b"\0"  # type: ignore[union-attr]
        else:
            return None
        i = bisect_right(self._firsts, encoded) - 1
        if i < 0:
            return None
        _, end, name, _ = self._spans[i]
        if encoded >= end:
            return None
        leaf = self._leaf_named(name)
        if leaf is None:
            return None
        row = leaf.positions.get(key)
        return None if row is None else (leaf, row)

    def load(self, leaf: Leaf, start: int, end: int) -> None:
        """Have some rows' samples in memory, compared with their digests, as far as they share blocks with others.

        What cannot be read is left to the long way, which says why.
        """
        rows = [part for part in block_rows(leaf, start, end) if self._is_shared(leaf, part)]
        missing: dict[BlockName, PackedSample] = {}
        for pack, offset, _, first, _ in rows:
            name = pack, offset
            if name not in self._blocks and name not in missing:
                missing[name] = self._sample(leaf, first)
        with suppress(*UNREADABLE):
            self._packs.read_many(list(missing.values()))
        for pack, offset, _, first, last in rows:
            block = self._blocks.get((pack, offset))
            if block is not None:
                self._prove(leaf, first, last, block)

    def _is_shared(self, leaf: Leaf, rows: BlockRows) -> bool:
        assert leaf.places is not None
        return int(leaf.places[5][rows.first : rows.end].max()) <= MOST_SHARED

    def load_rows(self, places: Sequence[tuple[Leaf, int, int]], fetching: bool) -> list[tuple[Leaf, int, int, int]]:
        """The same for rows of any leaves, given as `locate` does.

        Where samples may have to be fetched, some of what lies near is fetched too; see `Neighbours`.

        Returns:
            rows beside them that were compared as well: leaf, number of its first row, the first, the one behind.
        """
        missing: dict[BlockName, PackedSample] = {}
        numbered: dict[int, Leaf] = {}
        for leaf, first, row in places:
            name = block_name(leaf, row)
            if name is not None and name not in self._blocks and name not in missing:
                self._add_sample(missing, name, leaf, row)
                numbered[first] = leaf
        if fetching and missing:
            absent = [sample.place for sample in self._packs.absent(list(missing.values()))]
            for name, (leaf, row) in self._neighbours.of(absent, numbered).items():
                if name not in self._blocks and name not in missing:
                    self._add_sample(missing, name, leaf, row)
        with suppress(*UNREADABLE):
            self._packs.read_many(list(missing.values()))
        compared = []
        for leaf, first, row in places:
            rows = self.prove_around(leaf, row, 0)
            if rows is not None:
                compared.append((leaf, first, *rows))
        return compared

    def prove_around(self, leaf: Leaf, row: int, most: int = 1) -> tuple[int, int] | None:
        """Compare all samples of a row's block that lie beside it with their digests, if more than one is wanted of it.

        A block whose second sample is read is likely to be read as a whole, and one loop over it costs a fraction of
        coming back for each.

        Args:
            leaf: the records.
            row: of a sample that is read.
            most: so many samples were compared when it was the first one of the block.

        Returns:
            the rows that were compared, from the first to behind the last; None if none had to be.
        """
        name = block_name(leaf, row)
        block = None if name is None else self._blocks.get(name)
        if block is None or leaf.places is None:
            return None
        if leaf.places[4].item(row) in block.proven and (not most or len(block.proven) != most + 1):
            return None
        low, high = block_around(leaf, row)
        self._prove(leaf, low, high, block)
        return low, high

    def _prove(self, leaf: Leaf, low: int, high: int, block: DecodedBlock) -> None:
        """Compare the samples of rows that lie in one block with their digests."""
        assert leaf.places is not None
        digests, starts, sizes = (leaf.places[i][low:high] for i in (0, 4, 5))
        known, prefix = digests.tobytes(), self._entry.schema.prefix
        raw, begins = block.raw, starts.tolist()
        if block.proven.issuperset(begins):
            return
        payloads = [raw[start : start + size] for start, size in zip(begins, sizes.tolist(), strict=True)]
        if leaf.shapes:
            found = [sample_digest(prefix(leaf.row(low + i).shape), payload) for i, payload in enumerate(payloads)]
        else:
            found = sample_digests(prefix(None), payloads)
        if b"".join(found) == known:
            block.proven.update(begins)
            return
        for i, (start, digest) in enumerate(zip(begins, found, strict=True)):
            if digest == known[i * DIGEST_LENGTH : (i + 1) * DIGEST_LENGTH]:
                block.proven.add(start)

    def _add_sample(self, samples: dict[BlockName, PackedSample], name: BlockName, leaf: Leaf, row: int) -> None:
        """Add what is to be read of a block, unless that is better left to the long way."""
        sample = self._sample(leaf, row)
        if sample.place.size <= MOST_SHARED and not self._packs.is_purged(sample.digest):
            samples[name] = sample

    def _sample(self, leaf: Leaf, row: int) -> PackedSample:
        found = leaf.row(row)
        assert found.place is not None
        return PackedSample(found.place, found.identity[1:], self._entry.schema.prefix(found.shape))

    def learn(self, key: RowKey) -> None:
        """Remember where the leaf of a key is, which the long way has just read."""
        encoded = encode_key(key)
        i = bisect_right(self._firsts, encoded)
        if (i and encoded < self._spans[i - 1].end) or len(self._firsts) >= _MOST_SPANS:
            return
        span = self._nodes.span(self._entry.root, self._entry.schema, key)
        if span is None:
            return
        with self._lock.lock:
            i = bisect_right(self._firsts, encoded)
            # In this order, so that whoever reads meanwhile finds a span for each first key.
            self._spans.insert(i, span)
            self._firsts.insert(i, span.first)


def _taker(entry: ColumnEntry, packs: PackReader) -> Take:
    """What makes a value of a row of a leaf, None where more is needed than is in memory."""
    schema = entry.schema
    if schema.column_type != "ndarray":
        return _text_taker(schema, packs)
    if schema.schema_type == "fixed_shape":
        return _array_taker(schema, packs)
    return lambda leaf, row: None


def _array_taker(schema: ColumnSchema, packs: PackReader) -> Take:
    block_of, from_bytes = packs.decoded.get, np.frombuffer
    dtype, shape, size = schema.numpy_dtype, schema.shape or (), schema.fixed_size or 0
    count = size // dtype.itemsize

    def take(leaf: Leaf, row: int) -> Any:
        values = leaf.values
        if values is not None and (value := values[row]) is not None:
            return from_bytes(value, dtype).reshape(shape).copy() if len(value) == size else None
        packed = leaf.packed
        if packed is None:
            return None
        _, names, offsets, _, starts, sizes = packed
        start = starts[row]
        block = block_of((names[row * 16 : row * 16 + 16], offsets[row]))
        if block is None or start not in block.proven or sizes[row] != size or start + size > len(block.raw):
            return None
        return from_bytes(block.raw, dtype, count, start).reshape(shape).copy()

    return take


def _text_taker(schema: ColumnSchema, packs: PackReader) -> Take:
    block_of, decode = packs.decoded.get, schema.decode

    def take(leaf: Leaf, row: int) -> Any:
        payload = _payload(leaf, row, block_of)
        return None if payload is None else decode(payload, None)

    return take


def _payload(leaf: Leaf, row: int, block_of: BlockOf) -> bytes | memoryview | None:
    values = leaf.values
    if values is not None and (value := values[row]) is not None:
        return value
    packed = leaf.packed
    if packed is None:
        return None
    _, names, offsets, _, starts, sizes = packed
    start, size = starts[row], sizes[row]
    block = block_of((names[row * 16 : row * 16 + 16], offsets[row]))
    if block is None or start not in block.proven or start + size > len(block.raw):
        return None
    return block.raw[start : start + size]
