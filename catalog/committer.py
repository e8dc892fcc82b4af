"""Committing: packs, then records, then the commit, then the branch's next pointer.

Nothing refers to an object before it is whole, and the pointer comes last, so a process may die after
any step: what it wrote before is either unreachable or complete, and the staging area still holds
everything until the pointer is known to have landed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.commits import METADATA, ColumnEntry, Commit, commit_path, make_commit
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.errors import CommitConflictError, HeadMovedError, NothingToCommitError
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.catalog.publishing import Progress, Publisher
from hangar_cloud.catalog.rebase import describe, find_conflicts, rebase
from hangar_cloud.catalog.record_writer import RecordWriter
from hangar_cloud.catalog.records import NodeRef, Row
from hangar_cloud.catalog.sample_writer import SampleWriter, sealed_row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.working_set import WorkingSet

_COVER_LIMIT: Final = 250_000
_LOOK_BACK: Final = 1_000
_ATTEMPTS: Final = 20
_BACK_OFF_SECONDS: Final = 0.2


class Landed(NamedTuple):
    """A commit that is on its branch."""

    digest: str
    commit: Commit
    pointer: Pointer


class Earlier(NamedTuple):
    """An attempt to commit whose answer never came, and that did land."""

    digest: str
    sequence: int
    head: Pointer


class Committer:
    """Publishes staged changes as commits.

    Args:
        store: where the repository is: a local store, or the bucket itself.
        cache: folder that keeps what was uploaded readable without fetching; None where `store` is local.
        pointers: the store's branches.
        nodes: reads record trees.
        index: is told where new samples lie.
        look_up: gives a commit by its digest.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: Path | None,
        pointers: PointerLog,
        nodes: NodeReader,
        index: DigestIndex,
        look_up: Callable[[str], Commit],
    ) -> None:
        self._publisher = Publisher(store, cache)
        self._pointers = pointers
        self._nodes = nodes
        self._index = index
        self._look_up = look_up
        self._tried: set[bytes] = set()

    def commit(
        self,
        working: WorkingSet,
        staging: StagingArea,
        writer: SampleWriter,
        *,
        branch: str,
        base: str | None,
        author: str,
        email: str,
        message: str,
        progress: Progress | None = None,
    ) -> Landed:
        """Commit everything staged on top of `base`, or of what another writer put on it meanwhile.

        Raises:
            NothingToCommitError: the result would equal the base.
            CommitConflictError: another writer changed the same samples; the staged changes are kept.
            HeadMovedError: other writers were first time after time; the staged changes are kept.
            StoreError: the store failed; the staged changes are kept and commit can be called again.
        """
        working.flush()
        sealed = writer.seal()
        for attempt in range(_ATTEMPTS):
            earlier = self.landed(staging)
            if earlier is not None:
                whole = self._take_up(earlier, working, staging, writer, branch)
                if whole is not None:
                    return whole
                base = earlier.digest
            head = self._pointers.head(branch)
            if head is not None and not head.alive:
                raise HeadMovedError(
                    f"branch {branch!r} was deleted by another writer. Your staged changes are kept; create the branch "
                    "again to commit them to it"
                )
            there = None if head is None else head.commit
            if there != base:
                self._move_base(working, staging, branch, there)
                base = there
            rows = _place_rows(working, sealed)
            digest, commit = self._publish(
                working, staging, rows, sealed, branch, base, (author, email, message), progress
            )
            staging.add_landing(digest)
            try:
                pointer = self._pointers.move(branch, head, digest, "commit")
            except HeadMovedError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, _BACK_OFF_SECONDS * (attempt + 1)))
                continue
            landed = Landed(digest, commit, pointer)
            self._settle(working, staging, writer, branch, landed, rows)
            return landed
        raise AssertionError("unreachable")

    def _publish(
        self,
        working: WorkingSet,
        staging: StagingArea,
        rows: dict[str, list[tuple[bytes, Row | None]]],
        sealed: dict[int, bytes],
        branch: str,
        base: str | None,
        signature: tuple[str, str, str],
        progress: Progress | None,
    ) -> tuple[str, Commit]:
        """Write packs, records and commit; what is there already is not written again."""
        records = RecordWriter(self._nodes)
        trees = {
            name: (column.entry.schema, records.edit(column.entry.root, column.entry.schema, rows[name]))
            for name, column in working.columns.items()
        }
        if METADATA not in working.base and METADATA in trees and trees[METADATA][1] is None:
            # A writer that died after its first half step, or took back what it wrote, made no metadata.
            del trees[METADATA]
        if not _differs(working, trees):
            raise NothingToCommitError(
                f"nothing to commit on branch {branch!r}: the staged contents equal those of its last commit"
            )
        used = {
            row.place.pack
            for changes in rows.values()
            for _, row in changes
            if row is not None and row.place is not None
        }
        for number, name in sealed.items():
            if name in used:
                self._publisher.pack(staging.pack_file(number), pack_path(name), progress)
        roots = records.write(trees, self._publisher.put)
        trees_there = {name: replace(working.columns[name].entry, root=root) for name, root in roots.items()}
        commit = make_commit(() if base is None else (base,), trees_there, *signature)
        digest = commit.digest()
        self._publisher.put(commit_path(digest), commit.encode())
        return digest, commit

    def _move_base(self, working: WorkingSet, staging: StagingArea, branch: str, there: str | None) -> None:
        """Put the staged changes on top of where another writer moved the branch."""
        head = {} if there is None else self._look_up(there).trees
        conflicts = find_conflicts(working, head, self._nodes)
        if conflicts:
            raise CommitConflictError(
                f"another writer moved branch {branch!r} to commit {(there or '')[:12]} and changed, in another way, "
                f"what is staged here too: {describe(conflicts)}. Your staged changes are kept. Read the other values "
                f"with checkout(branch={branch!r}). To keep the other values, set or delete the samples here likewise "
                "and commit again; to keep yours, call reset_staging_area(), open a new checkout and write them once "
                "more"
            )
        rebase(working, staging, head, base=there)

    def landed(self, staging: StagingArea) -> Earlier | None:
        """The earlier attempt to commit what is staged that is on its branch, if there is one."""
        landings, branch, base = staging.landings(), staging.setting("branch"), staging.setting("base")
        if not landings or branch is None:
            return None
        head = pointer = self._pointers.head(branch)
        for _ in range(_LOOK_BACK):
            if head is None or pointer is None or pointer.commit == base:
                return None
            if pointer.commit in landings:
                return Earlier(pointer.commit, landings[pointer.commit], head)
            pointer = None if pointer.seq == 0 else self._pointers.entry(branch, pointer.seq - 1)
        return None

    def resolve(self, staging: StagingArea) -> None:
        """Where a writer died while its commit was landing, find out whether it did; what was staged after it stays."""
        earlier, branch = self.landed(staging), staging.setting("branch")
        if earlier is None or branch is None:
            return
        if staging.all_in(earlier.sequence):
            staging.clear(branch, earlier.head.commit)
        else:
            staging.clear_until(earlier.sequence, earlier.digest)

    def _take_up(
        self, earlier: Earlier, working: WorkingSet, staging: StagingArea, writer: SampleWriter, branch: str
    ) -> Landed | None:
        """Go on from an earlier attempt: its outcome, or None if more was staged since, which is now on top of it."""
        # Looked up first: if that fails, what is staged must still be staged.
        commit = self._look_up(earlier.digest)
        if staging.all_in(earlier.sequence) and earlier.head.commit is not None:
            head = self._look_up(earlier.head.commit)
            staging.clear(branch, earlier.head.commit)
            writer.start_over()
            working.rebase(head.trees)
            return Landed(earlier.head.commit, head, earlier.head)
        staging.clear_until(earlier.sequence, earlier.digest)
        working.reload(commit.trees)
        return None

    def cover(self, entry: ColumnEntry) -> None:
        """Complete the digest index with what a column's base holds, where that is a moderate effort."""
        root = entry.root
        if root is None or root.count > _COVER_LIMIT or root.digest in self._tried or self._index.covers(root.digest):
            return
        self._tried.add(root.digest)
        # Not found means stored once more, so a base that cannot be read (offline, damaged) is no reason not to write.
        with contextlib.suppress(CorruptDataError, DataNotLocalError, OSError):
            self._index.add(self._places(root, entry.schema), [root.digest])

    def _places(self, root: NodeRef, schema: ColumnSchema) -> list[tuple[bytes, Place]]:
        return [
            (row.identity[1:], row.place)
            for ref in self._nodes.leaves(root)
            for _, row in self._nodes.leaf(ref, schema).entries()
            if row.place is not None
        ]

    def _settle(
        self,
        working: WorkingSet,
        staging: StagingArea,
        writer: SampleWriter,
        branch: str,
        landed: Landed,
        new_rows: dict[str, list[tuple[bytes, Row | None]]],
    ) -> None:
        fresh = {row.identity[1:]: row.place for rows in new_rows.values() for _, row in rows if row and row.place}
        covered = [
            entry.root.digest
            for name, entry in landed.commit.trees.items()
            if entry.root is not None and self._was_covered(working.columns[name].entry)
        ]
        with contextlib.suppress(OSError):
            self._index.add(fresh.items(), covered)
        staging.clear(branch, landed.digest)
        writer.start_over()
        working.rebase(landed.commit.trees)

    def _was_covered(self, entry: ColumnEntry) -> bool:
        return entry.root is None or self._index.covers(entry.root.digest)


def _place_rows(working: WorkingSet, sealed: dict[int, bytes]) -> dict[str, list[tuple[bytes, Row | None]]]:
    """The staged changes of every column, with staging packs replaced by the sealed ones."""
    return {
        name: [(key, sealed_row(row, sealed)) for key, row in column.changes()]
        for name, column in working.columns.items()
    }


def _differs(working: WorkingSet, trees: dict[str, tuple[ColumnSchema, NodeRef | None]]) -> bool:
    if set(trees) != set(working.base):
        return True
    for name, (schema, root) in trees.items():
        before, after = working.base[name], working.columns[name].entry
        if schema != before.schema or _digest(root) != _digest(before.root):
            return True
        if (after.backend, after.backend_options) != (before.backend, before.backend_options):
            return True
    return False


def _digest(root: NodeRef | None) -> bytes | None:
    return None if root is None else root.digest
