"""Choosing what a repack copies: objects that are small, and those of which less than half is alive."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.packs import PACK_BYTES, PACK_MAGIC
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.ranges import RangeRequest
from hangar_cloud.catalog.gathering import parquet_schema
from hangar_cloud.catalog.live_extents import LiveExtent, LiveExtents
from hangar_cloud.catalog.record_writer import OBJECT_BYTES
from hangar_cloud.catalog.segment_cost import MAX_FOOTER_BYTES

SMALL_PACK: Final = 16 * 1024 * 1024
SMALL_RECORDS: Final = 8 * 1024 * 1024
_PACK_FRAME: Final = len(PACK_MAGIC) + 32
_INDEX_ENTRY: Final = 16
_FOOTERS_AT_ONCE: Final = 256
_MEANINGFUL: Final = 64 * 1024
"""Below this, most of a records object may be its footer."""


class Candidate(NamedTuple):
    """An object that may be worth copying: its name, its size, and how much of it is alive, in bytes."""

    path: str
    size: int
    live: int
    small: bool
    dead: bool


class Plan(NamedTuple):
    """What to copy, by kind, in this order."""

    records: list[Candidate]
    packs: list[Candidate]


def make_plan(store: ObjectStore, sizes: Mapping[str, int], live: LiveExtents, pinned: Collection[str]) -> Plan:
    """What is worth copying.

    Args:
        store: where the objects are; the Parquet schemas of small records objects are read from it.
        sizes: of all packs and records objects, in bytes.
        live: the extents in use.
        pinned: names of objects to leave alone.
    """
    packs: list[Candidate] = []
    records: list[Candidate] = []
    for path in live.paths():
        if path in sizes and path not in pinned and not live.overlap(path):
            is_pack = path.startswith("packs/")
            candidate = _candidate(path, sizes[path], *live.total(path), is_pack=is_pack)
            if candidate.small or candidate.dead:
                (packs if is_pack else records).append(candidate)
    chosen = []
    for group in _by_schema(store, records, live):
        chosen += _worthwhile(group)
    return Plan(chosen, _worthwhile(packs))


def fewest(kind: str, candidates: Collection[Candidate]) -> int:
    """The smallest number of objects of a kind that hold what is alive of these."""
    target = PACK_BYTES if kind == "packs" else OBJECT_BYTES
    return -(-sum(candidate.live for candidate in candidates) // target)


def _candidate(path: str, size: int, extents: int, live: int, *, is_pack: bool) -> Candidate:
    if is_pack:
        dead = size - _PACK_FRAME - extents * _INDEX_ENTRY - live
        return Candidate(path, size, live, size < SMALL_PACK, dead > live)
    return Candidate(path, size, live, size < SMALL_RECORDS, size > max(2 * live, _MEANINGFUL))


def _worthwhile(group: list[Candidate]) -> list[Candidate]:
    """One small object that is mostly alive has nothing to be merged with."""
    return group if len(group) > 1 or any(candidate.dead for candidate in group) else []


def _by_schema(store: ObjectStore, records: list[Candidate], live: LiveExtents) -> list[list[Candidate]]:
    """Records objects that can be merged with each other: all segments of an object have one Parquet schema."""
    groups: dict[str, list[Candidate]] = {}
    for start in range(0, len(records), _FOOTERS_AT_ONCE):
        part = records[start : start + _FOOTERS_AT_ONCE]
        ranges = [_footer_range(candidate.path, next(live.of(candidate.path))) for candidate in part]
        for candidate, data in zip(part, store.get_ranges(ranges), strict=True):
            try:
                groups.setdefault(parquet_schema(data), []).append(candidate)
            except CorruptDataError as error:
                raise CorruptDataError(
                    f"{candidate.path}: {error}. Nothing was moved or deleted. Run verify_repo_integrity (`hangar "
                    "verify`) to see what else is damaged, and repair it first"
                ) from error
    return list(groups.values())


def _footer_range(path: str, segment: LiveExtent) -> RangeRequest:
    """The end of a segment, where its Parquet footer is."""
    length = min(segment.length, MAX_FOOTER_BYTES + 8)
    return path, segment.offset + segment.length - length, length
