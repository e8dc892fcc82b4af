"""Packs of others that staged rows name: making sure at commit that they are there, or doing without them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.packs import pack_path, staged_pack_number
from hangar_cloud.catalog.errors import InvalidSampleError
from hangar_cloud.catalog.moved_packs import MovedPacks
from hangar_cloud.catalog.purged_samples import PurgedSamples
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.row_batch import Changes, SortedRows
from hangar_cloud.catalog.sample_writer import SampleWriter, sealed_row
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.watch import Watch
from hangar_cloud.catalog.working_set import WorkingSet

Rows = dict[str, Changes]
"""Staged rows by encoded key, in order, of each column."""


class ReusedPacks:
    """Gives the staged rows their final places.

    Args:
        watch: asks the store, and tells garbage collections what is needed.
        cache: folder that keeps copies of the bucket's objects; None where there is none.
        moved: where samples are by now that lay in packs of the store.
        purged: knows the samples that must not be stored again.
    """

    def __init__(
        self,
        watch: Watch,
        cache: Path | None,
        moved: MovedPacks | None = None,
        purged: PurgedSamples | None = None,
    ) -> None:
        self._purged = purged
        self._purges: frozenset[str] = frozenset()
        self._watch = watch
        self._cache = cache
        self._moved = moved

    def place(
        self, working: WorkingSet, staging: StagingArea, writer: SampleWriter, *, all_packs: bool
    ) -> tuple[Rows, dict[int, bytes], set[str]]:
        """Seal the staging packs, and find out where every staged sample will lie.

        Args:
            working: what is staged.
            staging: its staging area.
            writer: writes to that.
            all_packs: doubt every pack that is not of this staging area, not only those that no row of the base names.

        Returns:
            the rows with sealed places, ids of the sealed staging packs by number, and the names of the packs of others
            that could not be made again.

        Raises:
            CorruptDataError: a pack is gone, and there is no copy of what was reused of it; says which sample to write
                again.
            InvalidSampleError: a sample was purged since it was staged; says which.
        """
        sealed = writer.seal()
        rows = _sealed_rows(working, sealed)
        if not self._watch.watching:
            return rows, sealed, set()
        spares = staging.spares()
        self._refuse_purged(staging)
        doubtful = used_packs(rows, None if all_packs else spares) - set(sealed.values())
        names = {pack_path(pack): pack for pack in doubtful}
        if not names:
            return rows, sealed, set()
        # Asked for before it is looked at, so that it cannot go once it was seen.
        self._watch.announce(names.keys(), None)
        lost = {names[name] for name in self._watch.missing(names.keys())}
        holders: set[bytes] = set()
        if lost:
            kept = self._found_elsewhere(rows, lost)
            holders = {*kept.values()}
            if any(row and row.place and row.place.pack in lost and row.place not in kept for _, row in _all(rows)):
                sealed = writer.seal(spares=True)
            rows = {
                name: [
                    (k, row if row and row.place in kept else _spared(name, row, lost, spares, sealed)) for k, row in c
                ]
                for name, c in rows.items()
            }
            for pack in lost:
                writer.forget_pack(pack)
                if self._cache is not None:
                    (self._cache / pack_path(pack)).unlink(missing_ok=True)
        return rows, sealed, {name for name, pack in names.items() if pack not in lost} | {*map(pack_path, holders)}

    def _refuse_purged(self, staging: StagingArea) -> None:
        """Refuse to publish bytes of samples that were purged after they were staged."""
        if self._purged is None or self._watch.purges == self._purges:
            return
        self._purged.forget()
        digests = self._purged.digests()
        for column, key, digest in staging.held(digests) if digests else ():
            raise InvalidSampleError(
                f"column {column!r}, sample {key!r}: {self._purged.error(digest) or 'this sample was purged'}. It was "
                "staged before that, and its bytes would come back with what else is staged, even if another value "
                "took its place. Nothing was committed: call reset_staging_area() and write the other samples anew"
            )
        self._purges = self._watch.purges

    def _found_elsewhere(self, rows: Rows, lost: set[bytes]) -> dict[Place, bytes]:
        """Of the places in packs that are gone, those that were moved to a pack that is there; and that pack."""
        if self._moved is None:
            return {}
        self._moved.refresh()
        places = {
            row.place: self._moved.holders(row.place)
            for changes in rows.values()
            for _, row in changes
            if row is not None and row.place is not None and row.place.pack in lost
        }
        names = {pack_path(pack): pack for packs in places.values() for pack in packs if pack not in lost}
        if not names:
            return {}
        self._watch.announce(names.keys(), None)
        there = {*names.values()} - {names[name] for name in self._watch.missing(names.keys())}
        return {
            place: next(pack for pack in packs if pack in there)
            for place, packs in places.items()
            if not there.isdisjoint(packs)
        }


def _sealed_rows(working: WorkingSet, sealed: dict[int, bytes]) -> Rows:
    """The staged changes of every column, with staging packs replaced by the sealed ones."""
    return {name: _sealed(column.changes(), sealed) for name, column in working.columns.items()}


def _sealed(changes: Changes, sealed: dict[int, bytes]) -> Changes:
    if isinstance(changes, SortedRows):
        return changes.with_packs(partial(_sealed_pack, sealed))
    return [(key, sealed_row(row, sealed)) for key, row in changes]


def _sealed_pack(sealed: dict[int, bytes], pack: bytes) -> bytes:
    number = staged_pack_number(pack)
    return pack if number is None else sealed[number]


def used_packs(rows: Rows, digests: Collection[bytes] | None = None) -> set[bytes]:
    """Ids of the packs that staged rows name; with `digests` only rows of those samples."""
    if digests is not None and not digests:
        return set()
    found: set[bytes] = set()
    for changes in rows.values():
        if isinstance(changes, SortedRows) and digests is None:
            found |= set() if changes.batch.places is None else changes.batch.places.used()
            continue
        places = (row for _, row in changes if row is not None and (digests is None or row.identity[1:] in digests))
        found.update(row.place.pack for row in places if row.place is not None)
    return found


def _all(rows: Rows) -> Iterator[tuple[bytes, Row | None]]:
    return chain.from_iterable(rows.values())


def _spared(
    column: str, row: Row | None, lost: set[bytes], spares: dict[bytes, Place], sealed: dict[int, bytes]
) -> Row | None:
    if row is None or row.place is None or row.place.pack not in lost:
        return row
    spare = spares.get(row.identity[1:])
    if spare is None:
        raise CorruptDataError(
            f"a staged sample of column {column!r} lies in {pack_path(row.place.pack)}, which is not in the bucket any "
            "more: a garbage collection removed it after its branch was moved. Nothing was committed and what is "
            f"staged is kept; write the samples of {column!r} again and commit again"
        )
    assert staged_pack_number(spare.pack) is not None
    return sealed_row(row._replace(place=spare), sealed)
