"""Turning payloads into rows: inline where small, else deduplicated, grouped, encoded and packed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from hangar_cloud.backends.blocks import GROUP_BYTES, Place, encode_block, encode_sample
from hangar_cloud.backends.codecs import Codec, choose_codec, codec_from_options
from hangar_cloud.backends.pack_writer import PackWriter
from hangar_cloud.backends.packs import BlockExtent, staged_pack, staged_pack_number
from hangar_cloud.backends.values import identity_digest, sample_identity
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.purged_samples import PurgedSamples
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.sample_log import SampleLog
from hangar_cloud.catalog.schema import ColumnSchema, Payload

INLINE_ARRAY_BYTES: Final = 64
INLINE_TEXT_BYTES: Final = 128
_SHARE_BYTES: Final = GROUP_BYTES // 2
_TRUSTED_TRIAL: Final = 16 * 1024
_TRIAL_LIMIT: Final = 1 << 18
PROMISED: Final = Place(staged_pack(2**63 - 1), 0, 0, 0, 0)
"""Stands in a row for the place of a sample that another process stores; whoever gathers the rows puts it right."""

_Block = tuple[bytes, list[tuple[bytes, int, int]]]
"""Encoded bytes, and where in them each digest's payload starts and how long it is."""

BACKENDS: Final = ("p0", "i0")


def default_backend(schema: ColumnSchema) -> str:
    """ "i0" where every value of the column is small, or most are (text); else "p0"."""
    if schema.column_type != "ndarray":
        return "i0"
    most = schema.item_size
    for n in schema.shape or ():
        most *= n
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
        self._codecs: dict[tuple[str, ColumnSchema, str], Codec] = {}
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
            (identity[1:], payload.data, key)
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
        samples: list[tuple[bytes, bytes, RowKey]],
        extents: dict[int, list[BlockExtent]],
        spares: dict[bytes, Place],
    ) -> None:
        """Give every digest of `samples` a place, writing those that have none."""
        self._cover(entry)
        fresh = {digest: data for digest, data, _ in samples if digest not in self._places}
        found = self._index.find(list(fresh), self._can_be_read)
        self._places |= found
        reused = {digest: fresh.pop(digest) for digest in found}
        for digest in self._claim(list(fresh)) if fresh else ():
            del fresh[digest]
            self._places[digest] = PROMISED
        if fresh:
            pack = self._open_pack()
            blocks = _blocks(fresh, self._codec(column, entry, fresh))
            self._places |= _append(pack, self._pack_number, blocks, extents)
        if reused and self._nodes is not None:
            self._prefer_own_rows(self._nodes, entry, samples, reused)
        if reused and self._nodes is not None:
            pack = self._open_spare()
            blocks = _blocks(reused, self._codec(column, entry, reused))
            spares |= _append(pack, self._spare_number, blocks, extents)

    def _prefer_own_rows(
        self,
        nodes: NodeReader,
        entry: ColumnEntry,
        samples: list[tuple[bytes, bytes, RowKey]],
        reused: dict[bytes, bytes],
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

    def _codec(self, column: str, entry: ColumnEntry, fresh: dict[bytes, bytes]) -> Codec:
        name = (column, entry.schema, repr(entry.backend_options))
        chosen = self._codecs.get(name) or codec_from_options(entry.backend_options, entry.schema.item_size)
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
    if row is None or row.place is None:
        return row
    number = staged_pack_number(row.place.pack)
    return row if number is None else row._replace(place=row.place._replace(pack=sealed[number]))


def _is_inline(entry: ColumnEntry, identity: bytes, payload: Payload) -> bool:
    """Values that stand for themselves are always inline: their record holds them anyway."""
    if identity_digest(identity) is None:
        return True
    if entry.backend != "i0":
        return False
    limit = INLINE_ARRAY_BYTES if entry.schema.column_type == "ndarray" else INLINE_TEXT_BYTES
    return len(payload.data) <= limit


def _blocks(samples: dict[bytes, bytes], codec: Codec) -> list[_Block]:
    """Samples by digest, encoded: big ones each in a run of blocks, small ones together."""
    blocks: list[_Block] = []
    group: list[tuple[bytes, bytes]] = []
    size = 0
    for digest, data in samples.items():
        if len(data) > _SHARE_BYTES:
            blocks.append((encode_sample(data, codec, digest), [(digest, 0, len(data))]))
            continue
        if size + len(data) > GROUP_BYTES:
            blocks.append(_encode_group(group, codec))
            group, size = [], 0
        group.append((digest, data))
        size += len(data)
    if group:
        blocks.append(_encode_group(group, codec))
    return blocks


def _append(
    pack: PackWriter, number: int, blocks: list[_Block], extents: dict[int, list[BlockExtent]]
) -> dict[bytes, Place]:
    """Append blocks to a staging pack; where in it each digest lies."""
    added = pack.append([data for data, _ in blocks])
    extents.setdefault(number, []).extend(added)
    name = staged_pack(number)
    return {
        digest: Place(name, extent.offset, extent.stored, start, size)
        for extent, (_, members) in zip(added, blocks, strict=True)
        for digest, start, size in members
    }


def _encode_group(group: list[tuple[bytes, bytes]], codec: Codec) -> _Block:
    """One shared block, and where in it each digest's payload lies."""
    members = []
    start = 0
    for digest, data in group:
        members.append((digest, start, len(data)))
        start += len(data)
    raw = b"".join(data for _, data in group)
    binding = group[0][0] if len(group) == 1 else None
    return encode_block(raw, codec, binding), members
