"""Committing: packs, then records, then the commit, then the branch's next pointer.

Nothing refers to an object before it is whole, and the pointer comes last, so a process may die after
any step: what it wrote before is either unreachable or complete, and the staging area still holds
everything until the pointer is known to have landed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.errors import CorruptDataError, DataNotLocalError
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.backoff import ATTEMPTS, back_off
from hangar_cloud.catalog.commits import METADATA, ColumnEntry, Commit, commit_path, make_commit
from hangar_cloud.catalog.digest_index import DigestIndex
from hangar_cloud.catalog.errors import CommitConflictError, HeadMovedError, NothingToCommitError
from hangar_cloud.catalog.moved_packs import MovedPacks
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.catalog.publishing import Progress, Publisher
from hangar_cloud.catalog.purged_samples import PurgedSamples
from hangar_cloud.catalog.rebase import Conflict, advice, describe, equals_base, find_conflicts, rebase
from hangar_cloud.catalog.receipts import NEW_METADATA, find_commit, receipt_change
from hangar_cloud.catalog.record_writer import RecordWriter
from hangar_cloud.catalog.records import NodeRef
from hangar_cloud.catalog.reused_packs import ReusedPacks, Rows, used_packs
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.watch import Watch, land
from hangar_cloud.catalog.working_set import WorkingSet

_COVER_LIMIT: Final = 250_000
_LOOK_BACK: Final = 1_000
_RECENT: Final = 64

Settle = Callable[[WorkingSet, dict[str, ColumnEntry], list[Conflict]], list[Conflict]]


class Landed(NamedTuple):
    """A commit that is on its branch. `repeated` if it was there before: nothing was done, nor cleared."""

    digest: str
    commit: Commit
    pointer: Pointer
    repeated: bool = False


class CommitRules(NamedTuple):
    """How a commit deals with other writers.

    Attributes:
        rebase: put the staged changes on top of what another writer committed; else that is refused.
        settle: is given samples in conflict and settles them in the working set; returns those it does not.
        attempts: how often to try while others are first.
        idempotency_key: names this work; done already if the branch holds it.
    """

    rebase: bool = True
    settle: Settle | None = None
    attempts: int = ATTEMPTS
    idempotency_key: str | None = None


DEFAULT_RULES: Final = CommitRules()


class Earlier(NamedTuple):
    """An attempt to commit whose answer never came, and that did land."""

    digest: str
    sequence: int
    head: Pointer


@dataclass
class _Work:
    """What one attempt commits, and what was made of it."""

    working: WorkingSet
    staging: StagingArea
    writer: SampleWriter
    branch: str
    head: Pointer | None
    base: str | None
    signature: tuple[str, str, str]
    rules: CommitRules
    progress: Progress | None
    attempt: int
    rows: Rows = field(default_factory=dict)
    sealed: dict[int, bytes] = field(default_factory=dict)
    commit: Commit | None = None


class Committer:
    """Publishes staged changes as commits.

    Args:
        store: where the repository is: a local store, or the bucket itself.
        cache: folder that keeps what was uploaded readable without fetching; None where `store` is local.
        pointers: the store's branches.
        nodes: reads record trees.
        index: is told where new samples lie.
        look_up: gives a commit by its digest.
        shared: whether others may collect garbage in the store while this writer has no lock against it: in a bucket.
        moved, purged: where samples are by now that lay in packs of the store; and which must not be stored again.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: Path | None,
        pointers: PointerLog,
        nodes: NodeReader,
        index: DigestIndex,
        look_up: Callable[[str], Commit],
        *,
        shared: bool = False,
        moved: MovedPacks | None = None,
        purged: PurgedSamples | None = None,
    ) -> None:
        self._cache = cache
        self._watch = Watch(store if shared else None)
        self._reused = ReusedPacks(self._watch, cache, moved, purged)
        self._uprooted = False
        self.publisher = Publisher(store, cache)
        self._pointers = pointers
        self._nodes = nodes
        self._index = index
        self._look_up = look_up
        self._tried: set[bytes] = set()
        self._lost: set[str] = set()

    def await_uploads(self) -> Publisher:
        """Call before others upload for a commit: what vanishes since is noticed. Gives who is to be told of it."""
        self._watch.start()
        return self.publisher

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
        rules: CommitRules = DEFAULT_RULES,
        progress: Progress | None = None,
    ) -> Landed:
        """Commit everything staged on top of `base`, or of what another writer put on it meanwhile.

        Of a race that is lost, only records are written again, those on the way to changed rows; no sample bytes are.

        Raises:
            NothingToCommitError: the result would equal the base.
            CommitConflictError: another writer changed the same samples; the staged changes are kept.
            HeadMovedError: other writers were first time after time; the staged changes are kept.
            StoreError: the store failed; the staged changes are kept and commit can be called again.
        """
        working.flush()
        for attempt in range(rules.attempts):
            if (earlier := self.landed(staging)) is not None:
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
            if rules.idempotency_key is not None and head is not None:
                done = find_commit(self._nodes, self._look_up, there, rules.idempotency_key)
                if done is not None:
                    return Landed(done, self._look_up(done), head, repeated=True)
            if there != base:
                self._move_base(working, staging, branch, there, rules)
                base = there
                working.flush()
            work = _Work(
                working, staging, writer, branch, head, base, (author, email, message), rules, progress, attempt
            )
            publish = functools.partial(self._publish, work)
            move = functools.partial(self._pointers.move, branch, head, action="commit")
            try:
                pointer = land(self._watch, publish, move, functools.partial(self._publish, work, repair=True))
            except HeadMovedError:
                if not rules.rebase or attempt == rules.attempts - 1:
                    raise
                if work.commit is not None:
                    self._lost.add(work.commit.digest())
                back_off(attempt)
                continue
            assert work.commit is not None
            landed = Landed(work.commit.digest(), work.commit, pointer)
            self._settle(working, staging, writer, branch, landed, work.rows)
            return landed
        raise AssertionError("unreachable")

    def _publish(self, work: _Work, *, repair: bool = False) -> tuple[set[str], str]:
        """Write packs, records and commit; what is there already is not written again.

        Args:
            work: what to commit; takes note of what was made of it.
            repair: write the same commit once more, of which objects vanished.

        Returns:
            names of all objects that the commit depends on, those of its base left out; and its digest.
        """
        self.publisher.begin(again=work.commit is not None)
        reused: set[str] = set()
        if not repair:
            work.rows, work.sealed, reused = self._reused.place(
                work.working, work.staging, work.writer, all_packs=self._uprooted
            )
        trees = self._write_records(work)
        time = work.commit.time if repair and work.commit is not None else None
        commit = make_commit(() if work.base is None else (work.base,), trees, *work.signature, time)
        digest = commit.digest()
        self.publisher.put(commit_path(digest), commit.encode())
        work.commit = commit
        names = self.publisher.names | reused
        work.staging.add_landing(digest, names)
        return names, digest

    def _write_records(self, work: _Work) -> dict[str, ColumnEntry]:
        """The trees of the commit, once they and their samples are in the store."""
        records = RecordWriter(self._nodes)
        entries = {name: column.entry for name, column in work.working.columns.items()}
        trees = {
            name: (entry.schema, records.edit(entry.root, entry.schema, work.rows[name]))
            for name, entry in entries.items()
        }
        if METADATA not in work.working.base and METADATA in trees and trees[METADATA][1] is None:
            # A writer that died after its first half step, or took back what it wrote, made no metadata.
            del trees[METADATA]
        if equals_base(work.working, trees):
            raise NothingToCommitError(
                f"nothing to commit on branch {work.branch!r}: the staged contents equal those of its last commit"
            )
        if work.rules.idempotency_key is not None:
            entry = entries.setdefault(METADATA, NEW_METADATA)
            receipt = receipt_change(work.rules.idempotency_key)
            changes = sorted([*work.rows.get(METADATA, ()), receipt], key=lambda change: change[0])
            trees[METADATA] = (entry.schema, records.edit(entry.root, entry.schema, changes))
        used = used_packs(work.rows)
        for number, name in work.sealed.items():
            if name in used:
                self.publisher.pack(work.staging.pack_file(number), pack_path(name), work.progress)
        # Uploading takes a while, and where others were first once they may be again: asking is cheaper than trying.
        if work.commit is None and (used or work.attempt) and not self._pointers.is_head(work.branch, work.head):
            raise HeadMovedError(f"branch {work.branch!r} was moved by another writer while this one uploaded")
        roots = records.write(trees, self.publisher.put)
        return {name: replace(entries[name], root=root) for name, root in roots.items()}

    def _move_base(
        self, working: WorkingSet, staging: StagingArea, branch: str, there: str | None, rules: CommitRules
    ) -> None:
        """Put the staged changes on top of where another writer moved the branch."""
        if not rules.rebase:
            raise HeadMovedError(
                f"another writer moved branch {branch!r} to commit {(there or '')[:12]}, and on_conflict='fail' "
                "refuses to go on from there. Your staged changes are kept; commit again with on_conflict='rebase' to "
                "put them on top"
            )
        head = {} if there is None else self._look_up(there).trees
        conflicts = find_conflicts(working, head, self._nodes)
        if conflicts and rules.settle is not None:
            conflicts = rules.settle(working, head, conflicts)
        if conflicts:
            raise CommitConflictError(
                f"another writer moved branch {branch!r} to commit {(there or '')[:12]} and changed, in another way, "
                f"what is staged here too: {describe(conflicts)}. Your staged changes are kept. "
                f"{advice(conflicts, branch, staging.setting('base'))}"
            )
        # Packs that the old base names count as safe only while the new one has it as an ancestor.
        self._uprooted = self._uprooted or not self._is_recent(staging.setting("base"), there)
        rebase(working, staging, head, base=there)

    def _is_recent(self, older: str | None, newer: str | None) -> bool:
        """Whether a commit is among the last ones before another."""
        waiting, left = [newer], _RECENT
        while waiting and left:
            digest, left = waiting.pop(0), left - 1
            if digest == older:
                return True
            if digest is not None:
                waiting += self._look_up(digest).parents or (None,)
        return False

    def landed(self, staging: StagingArea) -> Earlier | None:
        """The earlier attempt to commit what is staged that is on its branch, if there is one."""
        branch, base = staging.setting("branch"), staging.setting("base")
        landings = {digest: last for digest, last in staging.landings().items() if digest not in self._lost}
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
        self._reassure(staging)
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
        self._reassure(staging)
        if staging.all_in(earlier.sequence) and earlier.head.commit is not None:
            head = self._look_up(earlier.head.commit)
            staging.clear(branch, earlier.head.commit)
            writer.start_over()
            working.rebase(head.trees)
            return Landed(earlier.head.commit, head, earlier.head)
        staging.clear_until(earlier.sequence, earlier.digest)
        working.reload(commit.trees)
        return None

    def _reassure(self, staging: StagingArea) -> None:
        """Make once more what a collection removed of a commit that landed late, as its writer was gone."""
        packs = {pack_path(name): number for number, name in staging.sealed().items()}
        self.publisher.start_over()
        for name in self._watch.missing(staging.dependencies()):
            if name in packs:
                self.publisher.pack(staging.pack_file(packs[name]), name)
            elif self._cache is not None and (self._cache / name).is_file():
                self.publisher.put(name, (self._cache / name).read_bytes())

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
        new_rows: Rows,
    ) -> None:
        made = [(name, entry.root) for name, entry in landed.commit.trees.items() if name in working.columns]
        covered = [new.digest for name, new in made if new and self._is_covered(working.columns[name].entry.root, new)]
        with contextlib.suppress(OSError):
            self._index.add_rows(new_rows.values(), covered)
        staging.clear(branch, landed.digest)
        self.publisher.start_over()
        self._lost.clear()
        self._uprooted = False
        writer.start_over()
        working.rebase(landed.commit.trees)

    def _is_covered(self, old: NodeRef | None, new: NodeRef) -> bool:
        # Not asked where nothing was made, of a thousand columns.
        return old is None or (old != new and self._index.covers(old.digest))
