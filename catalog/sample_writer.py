"""Turning payloads into rows: inline where small, else deduplicated, grouped, encoded and packed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.pack_writer import PackWriter
from hangar_cloud.backends.packs import BlockExtent, staged_pack, staged_pack_number
from hangar_cloud.backends.values import identity_digest, sample_identity
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.purged_samples import PurgedSamples
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_blocks import Members, SampleEncoder
from hangar_cloud.catalog.sample_log import SampleLog
from hangar_cloud.catalog.schema import ColumnSchema, Payload

INLINE_ARRAY_BYTES: Final = 64
INLINE_TEXT_BYTES: Final = 128
PROMISED: Final = Place(staged_pack(2**63 - 1), 0, 0, 0, 0)
"""Stands in a row for the place of a sample that another process stores; whoever gathers the rows puts it right."""
_APPEND_BYTES: Final = 32 * 1024 * 1024
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
    ) -> None:
        self._claim = claim
        self._purged = purged
        self._holders = holders
        self._staging = staging
        self._index = index
        self._exists = exists
        self._cover = cover
        self._places: dict[bytes, Place] = {}
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
    ) -> list[tuple[RowKey, Row]]:
        """Store samples of one column, each key once; durable on return.

        Without `staged` the rows are the caller's alone: should the process die, no later writer finds them.
        """
        identities = [sample_identity(p.prefix, p.data, p.shape) for _, p in samples]
        if self._purged is not None:
            self._purged.refuse(column, zip((key for key, _ in samples), identities, strict=True))
        packed = [
            (identity[1:], payload, key)
            for identity, (key, payload) in zip(identities, samples, strict=True)
            if not _is_inline(entry, identity, payload)
        ]
        extents: dict[int, list[BlockExtent]] = {}
        spares: dict[bytes, Place] = {}
        try:
            if packed:
                self._place(column, entry, packed, extents, spares)
            rows = [
                (key, self._row(entry, identity, payload))
                for identity, (key, payload) in zip(identities, samples, strict=True)
            ]
            self._staging.stage_samples(column, rows if staged else [], extents, spares)
        except BaseException:
            # What was appended but not recorded will be cut off, so nothing may refer to it.
            self.close()
            for digest, _, _ in packed:
                self._places.pop(digest, None)
            raise
        return rows

    def delete(self, column: str, keys: Sequence[RowKey]) -> None:
        """Record that samples are deleted; durable on return."""
        self._staging.stage_samples(column, [(key, None) for key in keys], {})

    def remember(self, rows: Sequence[Row]) -> None:
        """Take note of rows staged by an earlier process, so that they are not stored twice."""
        for row in rows:
            if row.place is not None:
                self._places[row.identity[1:]] = row.place

    def seal(self, *, spares: bool = False) -> dict[int, bytes]:
        """Finish every staging pack, those of spare copies only if asked to; ids by number."""
        self.close()
        sealed = self._staging.sealed()
        unwanted = set() if spares else self._staging.spare_packs()
        for number, extents in self._staging.extents().items():
            if number not in sealed and number not in unwanted:
                name = PackWriter(self._staging.pack_file(number), extents).seal()
                self._staging.record_sealed(number, name)
                sealed[number] = name
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
        self._places = {digest: place for digest, place in self._places.items() if place.pack != pack}

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

    def _row(self, entry: ColumnEntry, identity: bytes, payload: Payload) -> Row:
        if _is_inline(entry, identity, payload):
            return Row(identity, None, payload.data, payload.shape)
        return Row(identity, self._places[identity[1:]], None, payload.shape)

    def _place(
        self,
        column: str,
        entry: ColumnEntry,
        samples: list[tuple[bytes, Payload, RowKey]],
        extents: dict[int, list[BlockExtent]],
        spares: dict[bytes, Place],
    ) -> None:
        """Give every digest of `samples` a place, writing those that have none."""
        self._cover(entry)
        fresh = {digest: payload for digest, payload, _ in samples if digest not in self._places}
        found = self._index.find(list(fresh), self._can_be_read)
        self._places |= found
        reused = {digest: fresh.pop(digest) for digest in found}
        for digest in self._claim(list(fresh)) if fresh else ():
            del fresh[digest]
            self._places[digest] = PROMISED
        if fresh:
            pack = self._open_pack()
            blocks = self._encoder.encode(column, entry, fresh)
            self._places |= _append(pack, self._pack_number, blocks, extents)
        if reused and self._nodes is not None:
            self._prefer_own_rows(self._nodes, entry, samples, reused)
        if reused and self._nodes is not None:
            pack = self._open_spare()
            blocks = self._encoder.encode(column, entry, reused)
            spares |= _append(pack, self._spare_number, blocks, extents)

    def _prefer_own_rows(
        self,
        nodes: NodeReader,
        entry: ColumnEntry,
        samples: list[tuple[bytes, Payload, RowKey]],
        reused: dict[bytes, Payload],
    ) -> None:
        """Take those out of `reused` that the base holds under the same key: its packs do not vanish."""
        for digest, _, key in samples:
            if digest in reused:
                row = nodes.find(entry.root, entry.schema, key)
                if row is not None and row.place is not None and row.identity[1:] == digest:
                    self._places[digest] = row.place
                    del reused[digest]

    def _open_pack(self) -> PackWriter:
        if self._pack is not None and self._pack.full:
            self._pack.close()
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


def _is_inline(entry: ColumnEntry, identity: bytes, payload: Payload) -> bool:
    """Values that stand for themselves are always inline: their record holds them anyway."""
    if identity_digest(identity) is None:
        return True
    if entry.backend != "i0":
        return False
    limit = INLINE_ARRAY_BYTES if entry.schema.column_type == "ndarray" else INLINE_TEXT_BYTES
    return len(payload.data) <= limit


def _append(
    pack: PackWriter,
    number: int,
    encoded: Iterable[tuple[bytes, Members]],
    extents: dict[int, list[BlockExtent]],
) -> dict[bytes, Place]:
    """Append blocks and arrays to a staging pack, a moderate amount at a time; where in it each digest lies."""
    name = staged_pack(number)
    places: dict[bytes, Place] = {}

    def write(waiting: list[tuple[bytes, Members]]) -> None:
        added = pack.append([data for data, _ in waiting])
        extents.setdefault(number, []).extend(added)
        places.update(
            (digest, Place(name, extent.offset, extent.stored, start, size))
            for extent, (_, members) in zip(added, waiting, strict=True)
            for digest, start, size in members
        )

    waiting: list[tuple[bytes, Members]] = []
    size = 0
    for one in encoded:
        waiting.append(one)
        size += len(one[0])
        if size >= _APPEND_BYTES:
            write(waiting)
            waiting, size = [], 0
    if waiting:
        write(waiting)
    return places
