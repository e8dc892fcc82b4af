"""Erasing samples from the objects of a store: what holds them is written anew without them, and deleted.

`docs/purge.md` has the order of the steps, and why a process may die after any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hangar_cloud.backends.blocks import Place, decode_blocks, most_decoded
from hangar_cloud.backends.copies import Copies, paths_of
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.move_log import MoveLog
from hangar_cloud.backends.moves import Move, Spot, moves_path
from hangar_cloud.backends.pack_erase import erase_samples, is_sample
from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.packs import NO_PACK, pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.moves_file import MAX_MOVES, decode_moves, encode_moves
from hangar_cloud.catalog.occurrences import Hit
from hangar_cloud.catalog.record_erase import DoomedLeaf, erase_values
from hangar_cloud.catalog.records import records_path
from hangar_cloud.catalog.segments import decode_leaf
from hangar_cloud.catalog.tombstones import tombstone_digest
from hangar_cloud.catalog.watch import Watch, land
from hangar_cloud.catalog.whereabouts import identity

_BATCH: Final = 256


@dataclass
class Doomed:
    """What holds bytes of the samples, by the name of the object.

    Attributes:
        samples: of packs, with their places in them.
        leaves: of records objects.
        seen: every object that these bytes were ever said to be in, whether it is there or not.
    """

    samples: dict[str, list[PackedSample]] = field(default_factory=dict)
    leaves: dict[str, list[DoomedLeaf]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    @property
    def names(self) -> list[str]:
        """All objects that hold such bytes: records, then packs."""
        return [*sorted(self.leaves), *sorted(self.samples)]


class OvertakenError(Exception):
    """Somebody else recorded moves meanwhile: look again where the bytes are. `made` was stored for nothing."""

    def __init__(self, made: Iterable[str] = ()) -> None:
        super().__init__()
        self.made = frozenset(made)


class Eraser:
    """Erases samples from one store.

    Args:
        store: the store.
        digests: of the samples, as their tombstones are named.
        folder: an existing folder for packs while they are written; each takes twice its size.
        shared: whether others write to the store without a lock: in a bucket.
    """

    def __init__(self, store: ObjectStore, digests: frozenset[bytes], folder: Path, *, shared: bool) -> None:
        self._store = store
        self._digests = digests
        self._folder = folder
        self._watch = Watch(store if shared else None)
        self._next = 0
        self.erased = 0

    def look(self, hits: Iterable[Hit]) -> Doomed:
        """Which objects of the store still hold bytes of the samples; each place that they were ever at is looked at.

        Raises:
            CorruptDataError: one of these places is damaged, so that nobody can tell.
        """
        log = MoveLog(decode_moves)
        copies = Copies(log.read_all(self._store))
        self._next = log.next
        samples, leaves = _places(hits, copies)
        doomed = Doomed(seen=paths_of([*samples, *leaves]))
        there = {path for path in sorted(doomed.seen) if self._store.exists(path)}
        for spot, data in self._read([spot for spot in samples if spot.path in there]):
            held = [sample for sample in samples[spot] if _holds(data, sample, spot)]
            doomed.samples.setdefault(str(spot.path), []).extend(held)
        for spot, data in self._read([spot for spot in leaves if spot.path in there]):
            held_leaves = [leaf for leaf in leaves[spot] if self._stands_in(data, leaf)]
            doomed.leaves.setdefault(str(spot.path), []).extend(held_leaves)
        doomed.samples = {path: held for path, held in doomed.samples.items() if held}
        doomed.leaves = {path: held for path, held in doomed.leaves.items() if held}
        return doomed

    def rewrite(self, doomed: Doomed) -> None:
        """Write what holds the samples anew without them, and record where everything else in it is now.

        Raises:
            OvertakenError: somebody else recorded moves meanwhile.
            CorruptDataError: an object is damaged.
        """
        self._watch.start()
        moves: list[Move] = []
        made: list[tuple[str, Path]] = []
        erased = 0
        for path, leaves in doomed.leaves.items():
            records = erase_values(self._store.get(path), path, leaves, self._digests)
            for name, data in records.objects.items():
                made.append((name, self._folder / identity(name).hex()))
                made[-1][1].write_bytes(data)
            moves += records.moves
            erased += records.erased
        for path, samples in doomed.samples.items():
            new = self._folder / f"{identity(path).hex()}.erased"
            pack = erase_samples(self._local(path), identity(path), samples, new)
            if pack.pack is not None:
                made.append((pack_path(pack.pack), new))
            moves += pack.moves
            erased += pack.erased
        try:
            self._record(made, moves)
        except OvertakenError as error:
            raise OvertakenError(name for name, _ in made) from error
        self.erased += erased

    def _record(self, made: Sequence[tuple[str, Path]], moves: Sequence[Move]) -> None:
        def publish() -> tuple[list[str], None]:
            for name, file in made:
                self._store.upload(name, file)
            return [name for name, _ in made], None

        for start in range(0, len(moves), MAX_MOVES):
            part = moves[start : start + MAX_MOVES]
            land(self._watch, publish, lambda _, part=part: self._put(part))  # type: ignore[misc]
        for _, file in made:
            file.unlink(missing_ok=True)

    def _put(self, moves: Sequence[Move]) -> None:
        if not self._store.put_if_absent(moves_path(self._next), encode_moves(moves, self._next)):
            raise OvertakenError
        self._next += 1

    def _read(self, spots: Sequence[Spot]) -> Iterable[tuple[Spot, bytes]]:
        for start in range(0, len(spots), _BATCH):
            part = spots[start : start + _BATCH]
            blobs = self._store.get_ranges([(str(spot.path), spot.offset, spot.length) for spot in part])
            yield from zip(part, blobs, strict=True)

    def _stands_in(self, data: bytes, leaf: DoomedLeaf) -> bool:
        """Whether a leaf has the value of one of the samples in it."""
        rows = decode_leaf(data, leaf.schema, leaf.rows).entries()
        return any(row.value is not None and tombstone_digest(k, row.identity) in self._digests for k, row in rows)

    def _local(self, path: str) -> Path:
        local = self._store.local_path(path)
        if local is None:
            local = self._folder / f"{identity(path).hex()}.pack"
            self._store.download(path, local)
        return local


def _places(hits: Iterable[Hit], copies: Copies) -> tuple[dict[Spot, list[PackedSample]], dict[Spot, list[DoomedLeaf]]]:
    """Every place that bytes of the samples may be at: in packs, and in leaves."""
    samples: dict[Spot, dict[PackedSample, None]] = {}
    leaves: dict[Spot, dict[DoomedLeaf, None]] = {}
    for hit in hits:
        place = hit.row.place
        if place is not None and place.pack != NO_PACK:
            prefix = hit.schema.prefix(hit.row.shape)
            for spot in copies.of(pack_path(place.pack), place.offset, place.stored):
                there = Place(identity(str(spot.path)), spot.offset, spot.length, place.start, place.size)
                samples.setdefault(spot, {})[PackedSample(there, hit.digest, prefix)] = None
            continue
        # Where the value is gone from the leaf that readers are led to, it may be left in one that was there before.
        leaf = hit.leaf.place
        for spot in copies.of(records_path(leaf.object), leaf.offset, leaf.length):
            doomed = DoomedLeaf(spot.offset, spot.length, hit.schema, hit.leaf.count)
            leaves.setdefault(spot, {})[doomed] = None
    return {spot: list(found) for spot, found in samples.items()}, {s: list(found) for s, found in leaves.items()}


def _holds(data: bytes, sample: PackedSample, spot: Spot) -> bool:
    """Whether blocks have a sample in them. Raises CorruptDataError where they are damaged."""
    try:
        return is_sample(decode_blocks(data, sample.digest, most_decoded(sample.place)), sample)
    except CorruptDataError as error:
        raise CorruptDataError(
            f"{spot.path}, bytes {spot.offset} to {spot.offset + spot.length}: {error}. What is in it cannot be told, "
            "so nothing was changed. Run verify_repo_integrity (`hangar verify`) and repair the object, or delete it "
            "if it cannot be repaired; then purge again"
        ) from error
