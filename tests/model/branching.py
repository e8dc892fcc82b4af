"""Branches, and merging them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import event

from hangar_cloud.errors import (
    HangarError,
    MergeConflictError,
    NotInitializedError,
    ProtectedBranchError,
    RefExistsError,
    RefNotFoundError,
    UncommittedChangesError,
    UnmergedBranchError,
)
from tests.model.looking import assert_conflicts
from tests.model.person import STORM
from tests.model.plain import Snapshot
from tests.model.plain_merge import PlainMerge, ancestors
from tests.model.stashing import Stashing


class Branching(Stashing):
    """Somebody who makes, removes and merges branches."""

    def create_branch(self, name: str, base: str | None) -> None:
        """Make a branch at a commit, by default at the head of the branch written to last."""
        start = base or self.refs.branches.get(self.current)
        allowed: list[type[HangarError] | None] = [None]
        if name in self.refs.branches:
            allowed = [RefExistsError]
        elif start is None:
            allowed = [NotInitializedError]
        made = self.attempt(lambda: self.repository.create_branch(name, base), *allowed)
        if made is STORM:
            if name not in self.refs.branches and name in self.true_heads():
                self.refs.move(name, start, "create")
        elif not isinstance(made, HangarError):
            assert (made.name, made.digest) == (name, start)
            self.refs.move(name, start, "create")

    def remove_branch(self, name: str, force: bool) -> None:
        """Remove a branch."""
        branches = self.refs.branches
        head = branches.get(name)
        others = [other for branch, other in branches.items() if branch != name]
        allowed: list[type[HangarError] | None] = [None]
        if name not in branches:
            allowed = [RefNotFoundError]
        elif self.writer is not None or not others or (not self.is_bucket and name == self.current):
            allowed = [ProtectedBranchError]
        elif not force and head is not None and not any(head in ancestors(self.history, other) for other in others):
            allowed = [UnmergedBranchError]
        result = self.attempt(lambda: self.repository.remove_branch(name, force_delete=force), *allowed)
        if result is STORM:
            if name in branches and name not in self.true_heads():
                self.refs.remove(name)
        elif not isinstance(result, HangarError):
            assert result == (name, head or "")
            self.refs.remove(name)

    def merge(self, branch: str, dev: str, strategy: Any, outcome: Callable[[PlainMerge], Snapshot | None]) -> None:
        """Merge `dev` into a branch, through the open writer if there is one.

        Args:
            branch: merged into; that of the writer if one is open.
            dev: what is merged.
            strategy: given to the merge.
            outcome: what becomes of conflicts: the merged contents, or None where they stay.
        """

        if self.writer is not None:
            assert self.staged is not None
            branch = self.staged.branch
        theirs, ours = self.heads().get(dev), self.refs.branches.get(branch)
        allowed: list[type[HangarError] | None] = [None]
        moved: tuple[tuple[str, ...], Snapshot] | None = None
        merge = None
        if theirs is None or branch not in self.refs.branches:
            allowed = [RefNotFoundError]
        elif self.is_in_the_way(branch):
            allowed = [UncommittedChangesError]
        elif (
            ours is not None
            and theirs not in ancestors(self.history, ours)
            and ours not in ancestors(self.history, theirs)
        ):
            merge, bases = self.plain_merge(ours, theirs)
            event("merge bases", len(bases))
            contents = outcome(merge)
            event(
                "three-way merge",
                f"{'conflicts' if merge.conflict else 'clean'}, {'merged' if contents else 'refused'}",
            )
            moved = None if contents is None else ((ours, theirs), contents)
            allowed = [MergeConflictError] if contents is None else [None]
        if self.writer is not None:
            call: Callable[[], Any] = lambda: self.writer.merge("merge", dev, strategy=strategy)  # noqa: E731
        else:
            call = lambda: self.repository.merge("merge", branch, dev, strategy=strategy)  # noqa: E731
        result = self.attempt(call, *allowed)
        if self.writer is None and not isinstance(result, HangarError):
            self.settle()
        if isinstance(result, MergeConflictError):
            assert_conflicts(result.conflicts, merge)
        if isinstance(result, HangarError):
            return
        if result is STORM:
            if branch in self.refs.branches and theirs is not None:
                self.look_for_move(branch, *(moved or ((), {})), "merge")
            return
        assert theirs is not None
        if moved is not None:
            self.record(branch, result, *moved, "merge")
        elif ours is not None and theirs in ancestors(self.history, ours):
            assert result == ours
        else:
            assert result == theirs
            self.refs.move(branch, theirs, "merge")
        if self.writer is not None:
            self.staged = self.clean(branch, result)
            assert self.writer.commit_hash == result

    def is_in_the_way(self, branch: str) -> bool:
        """Whether staged changes keep a branch from being merged into."""
        if self.staged is not None:
            return self.staged.dirty
        areas = [area for area in self.areas.values() if self.is_dirty(area)]
        return any(area.branch == branch or not self.is_bucket for area in areas)
