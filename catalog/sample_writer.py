"""Turning payloads into rows: inline where small, else deduplicated, grouped, encoded and packed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.blocks import HEADER_LENGTH, Place, unused_block
from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.pack_writer import PackWriter
from hangar_cloud.backends.packs import BlockExtent, staged_pack, staged_pack_number, unused_before
from hangar_cloud.backends.values import digests_of, sample_identity
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.incoming import INLINE_ARRAY_BYTES, INLINE_TEXT_BYTES, Data, Incoming, Shape
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.place_table import Places, PlaceTable
from hangar_cloud.catalog.purged_samples import PurgedSamples
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.row_batch import RowBatch
from hangar_cloud.catalog.sample_blocks import Encoded, Fresh, SampleEncoder
from hangar_cloud.catalog.sample_log import SampleLog
from hangar_cloud.catalog.schema import ColumnSchema, Payload

__all__ = ["BACKENDS", "INLINE_ARRAY_BYTES", "INLINE_TEXT_BYTES", "PROMISED", "SampleWriter", "default_backend"]

PROMISED: Final = Place(staged_pack(2**63 - 1), 0, 0, 0, 0)
"""Stands in a row for the place of a sample that another process stores; whoever gathers the rows puts it right."""
_APPEND_BYTES: Final = 2 * 1024 * 1024
TILED_BYTES: Final = 8 * 1024 * 1024
"""Columns of arrays that have, or may have, so many bytes are tiled by default."""

BACKENDS: Final = ("p0", "i0", "t0")


def default_backend(schema: ColumnSchema) -> str:
    """ "i0" where every value is small, or most are (text); "t0" where an array may be huge; else "p0"."""
    if schema.column_type != "ndarray":
        return "i0"
    most = schema.item_size
    for n in schema.shape or ():
        most *= n
    if most >= TILED_BYTES:
        return "t0"
    return "i0" if most <= INLINE_ARRAY_BYTES else "p0"


class _Packed(NamedTuple):
    """The samples of a batch that go to packs."""

    digests: Sequence[bytes]
    datas: Sequence[Data]
    keys: Sequence[RowKey]
    shapes: Sequence[Shape] | None

    def some(self, rows: dict[bytes, int]) -> Fresh:
        """Some of them, each once, given by digest and number."""
        numbers = list(rows.values())
        datas = self.datas
        if len(numbers) < len(datas):
            datas = datas.take(numbers) if isinstance(datas, ByteRows) else [datas[i] for i in numbers]
        return Fresh(list(rows), datas, None if self.shapes is None else [self.shapes[i] for i in numbers])


class SampleWriter:
    """Writes the samples of one staging area.

    Args:
        staging: where rows are recorded and pack files lie.
        index: places of samples that were stored before.
        exists: tells whether a sealed pack of that id is still where it can be read.
        cover: called with a column before its samples are looked up in the index, to complete it.
        nodes: reads the base's record trees, where packs may vanish before the commit, since others collect garbage in
            the same bucket. Then a copy of each sample that is found in a pack is kept, unless its own row holds it.
        holders: ids of the packs that may hold what is said to be at a place.
        purged: knows the samples that must not be stored again.
        claim: where several processes write at once: asked with digests that were never stored, says which of them
            another process stores. Their rows have the place `PROMISED`.
        on_sealed: called with file and id of each pack that is finished before the commit, as it was full.
    """

    def __init__(
        self,
        staging: SampleLog,
        index: DigestIndex,
        exists: Callable[[bytes], bool],
        cover: Callable[[ColumnEntry], None],
        nodes: NodeReader | None = None,
        holders: Callable[[Place], Sequence[bytes]] = lambda place: (place.pack,),
        purged: PurgedSamples | None = None,
        claim: Callable[[Sequence[bytes]], Collection[bytes]] = lambda digests: (),
        on_sealed: Callable[[Path, bytes], None] = lambda file, name: None,
    ) -> None:
        self._on_sealed = on_sealed
        self._claim = claim
        self._purged = purged
        self._holders = holders
        self._staging = staging
        self._index = index
        self._exists = exists
        self._cover = cover
        self._places = PlaceTable()
        self._encoder = SampleEncoder()
        self._known_packs: dict[bytes, bool] = {}
        self._nodes = nodes
        self._pack: PackWriter | None = None
        self._spare: PackWriter | None = None
        self._spare_number = -1
        self._last_number = -1
        self._pack_number = -1
        self._find_numbers()

    def refuse_purged(self, column: str, samples: Iterable[tuple[RowKey, Payload]]) -> None:
        """Raises InvalidSampleError if any of these samples was purged."""
        if self._purged is not None:
            named = ((key, sample_identity(p.prefix, p.data, p.shape)) for key, p in samples)
            self._purged.refuse(column, named)

    def write(
        self, column: str, entry: ColumnEntry, samples: Sequence[tuple[RowKey, Payload]], staged: bool = True
    ) -> RowBatch:
        """Store samples of one column, each key once; durable on return.

        Without `staged` the rows are the caller's alone: should the process die, no later writer finds them.
        """
        return self.write_batch(column, entry, Incoming.of(samples), staged)

    def write_batch(self, column: str, entry: ColumnEntry, batch: Incoming, staged: bool = True) -> RowBatch:
        """The same, for values that are in columns already."""
        identities = batch.identities(entry.schema)
        if self._purged is not None:
            self._purged.refuse(column, zip(batch.keys, identities, strict=True))
        flags = batch.packed(entry, identities)
        packed = _packed(batch, identities, flags)
        extents: dict[int, list[BlockExtent]] = {}
        spares: dict[bytes, Place] = {}
        try:
            places = self._place(column, entry, packed, extents, spares) if packed.digests else None
            rows = _rows(batch, identities, flags, places)
            self._staging.stage_samples(column, rows if staged else [], extents, spares)
        except BaseException:
            # What was appended but not recorded will be cut off, so nothing may refer to it.
            self.close()
            self._places.discard(packed.digests)
            raise
        return rows

    def write_loose(self, column: str, entry: ColumnEntry, batch: Incoming) -> RowBatch:
        """Record values in the staging area itself, packed or not; durable on return, by one transaction.

        What should be packed is to be given to `write_batch` before the commit.
        """
        identities = batch.identities(entry.schema)
        if self._purged is not None:
            self._purged.refuse(column, zip(batch.keys, identities, strict=True))
        rows = _rows(batch, identities, False, None)
        self._staging.stage_samples(column, rows, {})
        return rows

    def delete(self, column: str, keys: Sequence[RowKey]) -> None:
        """Record that samples are deleted; durable on return."""
        self._staging.stage_samples(column, [(key, None) for key in keys], {})

    def remember(self, rows: Sequence[Row]) -> None:
        """Take note of rows staged by an earlier process, so that they are not stored twice."""
        self._places.update((row.identity[1:], row.place) for row in rows if row.place is not None)

    def seal(self, *, spares: bool = False) -> dict[int, bytes]:
        """Finish every staging pack, those of spare copies only if asked to; ids by number."""
        sealed = self._staging.sealed()
        unwanted = set() if spares else self._staging.spare_packs()
        for number, extents in self._staging.extents().items():
            if number not in sealed and number not in unwanted:
                # The one that is being written knows its digest; any other is read for it.
                pack = self._pack if number == self._pack_number else None
                if pack is None or not pack.holds(extents):
                    self.close()
                    pack = PackWriter(self._staging.pack_file(number), extents)
                name = pack.seal()
                self._staging.record_sealed(number, name)
                sealed[number] = name
        self.close()
        return sealed

    def start_over(self) -> None:
        """Forget what was staged, after a commit or a reset.

        Pack numbers go on: readers may still hold decoded blocks of packs of the old ones.
        """
        self.close()
        self._find_numbers()
        self._places.clear()
        self._known_packs.clear()

    def forget_pack(self, pack: bytes) -> None:
        """Take note that a pack is gone."""
        self._known_packs[pack] = False
        self._places.forget_pack(pack)

    def close(self) -> None:
        """Close the pack files that are being written; they can be resumed."""
        for pack in (self._pack, self._spare):
            if pack is not None:
                pack.close()
        self._pack = self._spare = None

    def _find_numbers(self) -> None:
        """Which pack to go on with, and the highest number that was ever used."""
        used = {*self._staging.extents(), *self._staging.sealed()}
        self._pack_number = max(used - self._staging.spare_packs(), default=-1)
        self._last_number = max(self._last_number, *used, -1)

    def _place(
        self,
        column: str,
        entry: ColumnEntry,
        samples: _Packed,
        extents: dict[int, list[BlockExtent]],
        spares: dict[bytes, Place],
    ) -> Places:
        """Give every digest of `samples` a place, writing those that have none; the places of all."""
        self._cover(entry)
        fresh = self._places.missing(dict(zip(samples.digests, range(len(samples.digests)), strict=True)))
        found = self._index.find(fresh.keys(), self._can_be_read)
        self._places.update(found.items())
        reused = {digest: fresh.pop(digest) for digest in found}
        for digest in self._claim(list(fresh)) if fresh else ():
            del fresh[digest]
            self._places[digest] = PROMISED
        even = entry.schema.fixed_size is not None and entry.backend != "t0"
        is_even = even and len(fresh) == len(samples.digests)
        if fresh:
            pack = self._open_pack()
            blocks = self._encoder.encode(column, entry, samples.some(fresh))
            for digests, numbers in _append(pack, self._pack_number, blocks, extents):
                self._places.extend(digests, staged_pack(self._pack_number), numbers)
        if reused and self._nodes is not None:
            self._prefer_own_rows(self._nodes, entry, samples, reused)
        if reused and self._nodes is not None:
            pack = self._open_spare()
            blocks = self._encoder.encode(column, entry, samples.some(reused))
            name = staged_pack(self._spare_number)
            for digests, numbers in _append(pack, self._spare_number, blocks, extents):
                columns = zip(digests, *numbers.tolist(), strict=True)
                spares.update((digest, Place(name, *place)) for digest, *place in columns)
        return self._places.last(len(fresh)) if is_even else self._places.of(samples.digests)

    def _prefer_own_rows(
        self,
        nodes: NodeReader,
        entry: ColumnEntry,
        samples: _Packed,
        reused: dict[bytes, int],
    ) -> None:
        """Take those out of `reused` that the base holds under the same key: its packs do not vanish."""
        for digest, key in zip(samples.digests, samples.keys, strict=True):
            if digest in reused:
                row = nodes.find(entry.root, entry.schema, key)
                if row is not None and row.place is not None and row.identity[1:] == digest:
                    self._places[digest] = row.place
                    del reused[digest]

    def _open_pack(self) -> PackWriter:
        if self._pack is not None and self._pack.full:
            self._seal_full(self._pack)
            self._pack = None
        if self._pack is None:
            recorded = self._staging.extents().get(self._pack_number)
            resumable = recorded is not None and self._pack_number not in self._staging.sealed()
            if resumable:
                self._pack = PackWriter(self._staging.pack_file(self._pack_number), recorded)
            if self._pack is None or self._pack.full:
                if self._pack is not None:
                    self._pack.close()
                self._last_number += 1
                self._pack_number = self._last_number
                self._pack = PackWriter(self._staging.pack_file(self._pack_number))
        return self._pack

    def _seal_full(self, pack: PackWriter) -> None:
        """Finish a pack that nothing more comes to: what follows of it need not wait for the commit."""
        if self._pack_number in self._staging.sealed():
            pack.close()
            return
        name = pack.seal()
        self._staging.record_sealed(self._pack_number, name)
        self._on_sealed(self._staging.pack_file(self._pack_number), name)

    def _open_spare(self) -> PackWriter:
        if self._spare is not None and self._spare.full:
            self._spare.close()
            self._spare = None
        if self._spare is None:
            self._last_number += 1
            self._spare_number = self._last_number
            self._spare = PackWriter(self._staging.pack_file(self._spare_number))
        return self._spare

    def _can_be_read(self, place: Place) -> bool:
        """Whether what an index says is at a place is there, or where that was moved to."""
        # In this order: looking for a pack in vain makes known what was moved out of it.
        return self._pack_exists(place.pack) or any(map(self._pack_exists, self._holders(place)))

    def _pack_exists(self, pack: bytes) -> bool:
        if pack not in self._known_packs:
            self._known_packs[pack] = self._exists(pack)
        return self._known_packs[pack]


def sealed_row(row: Row | None, sealed: dict[int, bytes]) -> Row | None:
    """A staged row with its staging pack replaced by the sealed one; `sealed` has pack ids by number."""
    place = None if row is None else row.place
    if row is None or place is None:
        return row
    number = staged_pack_number(place.pack)
    if number is None:
        return row
    return Row(row.identity, Place(sealed[number], *place[1:]), row.value, row.shape)


def _rows(batch: Incoming, identities: Sequence[bytes], flags: list[bool] | bool, places: Places | None) -> RowBatch:
    which = np.array(flags, np.bool_) if isinstance(flags, list) else None
    values: Sequence[bytes | None] | None = None
    if flags is False and isinstance(identities, ByteRows):
        # All have one length. A copy: what an array's values lie in is used again for those behind them.
        values = ByteRows(bytes(batch.joined_data()), len(batch.datas[0]))
    elif flags is False:
        values = list(map(bytes, batch.datas))
    elif isinstance(flags, list):
        values = [None if there else bytes(data) for there, data in zip(flags, batch.datas, strict=True)]
    return RowBatch(batch.keys, identities, which, places, values, batch.shapes)


def _packed(batch: Incoming, identities: Sequence[bytes], flags: list[bool] | bool) -> _Packed:
    """Those of a batch that go to packs."""
    if flags is False:
        return _Packed((), (), (), None)
    if flags is True:
        return _Packed(digests_of(identities), batch.datas, batch.keys, batch.shapes)
    there = [i for i, flag in enumerate(flags) if flag]
    return _Packed(
        [identities[i][1:] for i in there],
        [batch.datas[i] for i in there],
        [batch.keys[i] for i in there],
        None if batch.shapes is None else [batch.shapes[i] for i in there],
    )


def _append(
    pack: PackWriter, number: int, encoded: Iterable[Encoded], extents: dict[int, list[BlockExtent]]
) -> Iterator[tuple[list[bytes], npt.NDArray[np.int64]]]:
    """Append blocks and arrays to a staging pack, a moderate amount at a time; digests, and where in it they lie.

    They are on disk once the iteration ends. What is encoded meanwhile need not wait for what is written.
    """
    waiting: list[Encoded] = []
    size = 0
    for one in encoded:
        waiting.append(one)
        size += one.nbytes
        if size >= _APPEND_BYTES:
            yield _append_some(pack, number, waiting, extents)
            waiting, size = [], 0
    if waiting:
        yield _append_some(pack, number, waiting, extents)
    pack.flush()


def _append_some(
    pack: PackWriter, number: int, encoded: Sequence[Encoded], extents: dict[int, list[BlockExtent]]
) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    encoded = list(_within_stretches(pack.end, encoded))
    added = pack.add([one.data for one in encoded])
    extents.setdefault(number, []).extend(added)
    digests = list(chain.from_iterable(one.digests for one in encoded))
    counts = np.array([len(one.sizes) for one in encoded])
    sizes = np.fromiter(chain.from_iterable(one.sizes for one in encoded), np.int64, len(digests))
    ends = np.cumsum(sizes)
    first = np.cumsum(counts) - counts
    starts = ends - sizes
    places = np.array(added, np.int64).T
    return digests, np.stack([*np.repeat(places, counts, axis=1), starts - np.repeat(starts[first], counts), sizes])


def _within_stretches(position: int, encoded: Iterable[Encoded]) -> Iterator[Encoded]:
    """The same and, before what would lie in two stretches of the pack, a block without samples."""
    for one in encoded:
        unused = unused_before(position, one.nbytes, HEADER_LENGTH)
        if unused:
            yield Encoded(unused_block(unused), (), ())
        yield one
        position += unused + one.nbytes
