"""Integrity of tombstones: only an intact one excuses that the bytes of a sample are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.findings import Finding
from hangar_cloud.catalog.fsck_refs import kind_of
from hangar_cloud.catalog.tombstones import decode_tombstone, listed_tombstones, tombstone_path

_AT_ONCE: Final = 256


def check_tombstones(store: ObjectStore, report: Callable[[Finding], None]) -> frozenset[bytes]:
    """Digests of the samples that were purged; what is wrong with other tombstones is reported."""
    listed = sorted(listed_tombstones(store))
    intact = set()
    for start in range(0, len(listed), _AT_ONCE):
        part = listed[start : start + _AT_ONCE]
        for digest, text in zip(part, store.get_many([tombstone_path(one) for one in part]), strict=True):
            try:
                if text is not None:
                    decode_tombstone(text, digest)
                    intact.add(digest)
            except (CorruptDataError, UnsupportedFormatError) as error:
                report(Finding(kind_of(error), tombstone_path(digest), message=str(error)))
    return frozenset(intact)


def purged_note(seen: frozenset[bytes] | set[bytes], unchecked: int) -> Finding:
    """Tells how many samples of history were purged, and of how many leaves the digests need values that are gone."""
    many = f"{len(seen):,} samples of history were" if len(seen) != 1 else "1 sample of history was"
    message = f"{many} purged; reading one says when, by whom and why"
    if unchecked:
        message += (
            ". Short values are hashed as they are: without those that were purged, the digests of "
            f"{unchecked:,} of the leaves that held them cannot be checked; their checksums were"
        )
    return Finding("purged", "", message=message)
