"""Writing: what is staged, committed, reset, and put away."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import event

from hangar_cloud.errors import (
    CommitConflictError,
    DirtyStagingError,
    HangarError,
    HeadMovedError,
    NothingToCommitError,
    RefNotFoundError,
    WriterLockError,
)
from tests.model.edits import Edit
from tests.model.looking import assert_contents, assert_diff, holds
from tests.model.person import STORM, Person, Staged, parents
from tests.model.plain import Snapshot, is_change, plain_diff
from tests.model.plain_merge import PlainMerge, plain_merge


class Writing(Person):
    """Somebody who writes."""

    def reopen(self) -> None:
        """Drop the repository object and take a new one; whoever has a writer open closes it first."""
        self.close()
        found = self.attempt(self.connect)
        self.repository = self.calm(self.connect) if found is STORM else found

    def open(self, branch: str = "") -> None:
        """Open a writer on a branch, by default the one written to last."""
        name = branch or self.current
        if self.writer is not None:
            assert isinstance(
                self.attempt(lambda: self.repository.checkout(write=True, branch=name), WriterLockError), HangarError
            )
            return
        wanted: list[type[HangarError] | None] = [None]
        if name not in self.refs.branches:
            wanted = [RefNotFoundError]
        elif not self.is_bucket and any(self.is_dirty(area) and area.branch != name for area in self.areas.values()):
            wanted = [DirtyStagingError]
        writer = self.attempt(lambda: self.repository.checkout(write=True, branch=branch), *wanted)
        if writer is STORM or isinstance(writer, HangarError):
            assert not self.repository.writer_lock_held
            return
        self.writer, self.current = writer, name if not self.is_bucket else self.current
        self.settle()
        head = self.refs.branches[name]
        area = self.areas.pop(name, None)
        self.staged = area if area is not None and area.dirty else self.clean(name, head)
        assert writer.branch_name == name
        self.calm(partial(assert_contents, writer, self.staged.snapshot))
        assert writer.commit_hash == (self.staged.base or "")

    def settle(self) -> None:
        """What a new writer finds out about attempts to commit whose answer never came."""
        for name, area in list(self.areas.items()):
            if area.landed is not None:
                area.base, area.start = area.landed, self.snapshot_of(area.landed)
                area.landed = None
                if not area.since:
                    del self.areas[name]
                area.since = False

    def close(self) -> None:
        """Close the writer; what is staged stays."""
        if self.writer is None:
            return
        assert self.staged is not None
        self.calm(self.writer.close)
        self.forget_writer()

    def forget_writer(self) -> None:
        """The writer is closed, or dead."""
        assert self.staged is not None
        if self.staged.dirty:
            self.areas[self.staged.branch] = self.staged
        self.writer, self.staged = None, None

    def edit(self, edit: Edit) -> None:
        """Stage one change."""
        assert self.staged is not None
        if edit.refused is not None:
            if self.attempt(lambda: edit.do(self.writer), edit.refused) is STORM:
                pass
        elif self.attempt(lambda: edit.do(self.writer)) is STORM:
            self.after_storm_in_edit(edit)
        else:
            self.staged_now(edit.after, edit.touched)
        self.look_at_writer()

    def staged_now(self, after: Snapshot, touched: set[str]) -> None:
        """The model of a staged change."""
        staged = self.staged
        assert staged is not None
        staged.snapshot = after
        staged.touched |= touched
        if touched:
            staged.since = staged.landed is not None

    def after_storm_in_edit(self, edit: Edit) -> None:
        """Whether a change whose reading failed was made, wholly or not at all."""
        staged = self.staged
        assert staged is not None
        for after in (staged.snapshot, edit.after, *edit.partly):
            if self.calm(partial(holds, self.writer, after)):
                if self.writer._working.dirty and (not staged.dirty or after is not staged.snapshot):
                    self.staged_now(after, edit.touched)
                return
        raise AssertionError(f"half of an edit was made: {edit}")

    def look_at_writer(self) -> None:
        """The writer shows what the model says, and its status and staged diff agree."""
        if self.writer is None:
            return
        staged = self.staged
        assert staged is not None
        with self.weather.storm([]):
            assert_contents(self.writer, staged.snapshot)
            changed = is_change(staged.start, staged.snapshot)
            assert self.writer.diff.status() == ("DIRTY" if changed else "CLEAN")
            assert_diff(self.writer.diff.staged().diff, plain_diff(staged.start, staged.snapshot))
            assert self.writer._working.dirty or not staged.dirty

    def commit(self, key: str | None = None) -> None:
        """Commit what is staged, on top of wherever the branch is now; the key is of work that was not done before."""
        staged = self.staged
        assert staged is not None
        branch, head = staged.branch, self.refs.branches.get(staged.branch)
        if not staged.dirty:
            self.attempt(lambda: self.writer.commit("nothing"), NothingToCommitError)
            return
        if branch not in self.refs.branches:
            self.attempt(lambda: self.writer.commit("nowhere"), HeadMovedError)
            return
        if staged.landed is not None and not staged.since:
            digest = self.attempt(lambda: self.writer.commit("again"))
            if digest is not STORM:
                assert digest == head
                self.staged = self.clean(branch, head)
            return
        base, merged, allowed = self.expected_commit(staged)
        result = self.attempt(lambda: self.writer.commit("model", idempotency_key=key), *allowed)
        if head != base:
            event("commit on a branch that moved", type(result).__name__)
        if result is STORM:
            self.after_storm_in_commit(base, merged, key)
        elif isinstance(result, NothingToCommitError):
            self.moved_base(staged, head, merged)
        elif not isinstance(result, HangarError):
            self.record(branch, result, parents(head), merged, key=key)
            self.staged = self.clean(branch, result)
            assert self.writer.commit_hash == result

    def expected_commit(self, staged: Staged) -> tuple[str | None, Snapshot, list[type[HangarError] | None]]:
        """What a commit is made from: its base, the contents that it makes, and the errors (or None) that may be."""
        head = self.refs.branches[staged.branch]
        base = staged.base if staged.landed is None else staged.landed
        start, merged = self.snapshot_of(base), staged.snapshot
        allowed: list[type[HangarError] | None] = [None]
        if head != base:
            merge = rebased(start, staged.snapshot, self.snapshot_of(head))
            merged = merge.snapshot
            both = staged.touched & changed_columns(start, self.snapshot_of(head))
            allowed = ([] if merge.conflict else [None]) + ([CommitConflictError] if both else [])
        if None in allowed and not is_change(self.snapshot_of(head), merged):
            allowed = [NothingToCommitError, *(kind for kind in allowed if kind is not None)]
        return base, merged, allowed

    def moved_base(self, staged: Staged, head: str | None, merged: Snapshot) -> None:
        """What is staged is on top of another commit now."""
        staged.base, staged.start, staged.snapshot = head, self.snapshot_of(head), merged
        staged.landed, staged.since = None, False

    def after_storm_in_commit(self, base: str | None, merged: Snapshot, key: str | None = None) -> None:
        """Find out what became of an attempt to commit."""
        staged = self.staged
        assert staged is not None
        head = self.refs.branches[staged.branch]
        if staged.landed is not None and self.calm(self.writer._staging.landings) == {}:
            self.moved_base(staged, base, staged.snapshot)
        if self.calm(lambda: self.writer._staging.setting("base")) == head and head != staged.base:
            self.moved_base(staged, head, merged)
        landed = self.look_for_move(staged.branch, parents(head), merged, key=key)
        event("commit in a storm", "landed" if landed else "not")
        if landed is not None:
            staged.landed, staged.since = landed, False

    def reset(self) -> None:
        """Give up what is staged."""
        staged = self.staged
        assert staged is not None
        allowed = [None] if staged.dirty else [NothingToCommitError]
        result = self.attempt(self.writer.reset_staging_area, *allowed)
        if result is STORM or isinstance(result, HangarError):
            return
        assert result in ((staged.base or ""), staged.landed)
        self.writer, self.staged = None, None


def changed_columns(before: Snapshot, after: Snapshot) -> set[str]:
    """Columns that differ in anything."""
    found = set()
    for name in {*before, *after}:
        one, other = before.get(name), after.get(name)
        if one is None or other is None or not one.same(other) or one.backend != other.backend:
            found.add(name)
    return found


def rebased(start: Snapshot, staged: Snapshot, head: Snapshot) -> PlainMerge:
    """Staged contents put on top of another commit than `start`; backends are those that either side changed to."""
    merge = plain_merge([start], staged, head)
    for name, column in merge.snapshot.items():
        if name in start and name in staged and name in head and staged[name].backend == start[name].backend:
            merge.snapshot[name] = replace(column, backend=head[name].backend)
    return merge
