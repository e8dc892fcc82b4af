"""Putting staged changes away, and bringing them back."""

from __future__ import annotations

from hypothesis import event

from hangar_cloud.errors import (
    HangarError,
    NothingToCommitError,
    StashConflictError,
    StashExistsError,
    StashNotFoundError,
    UncommittedChangesError,
)
from tests.model.person import STORM, Staged
from tests.model.plain_merge import PlainMerge
from tests.model.writing import Writing, changed_columns, rebased


class Stashing(Writing):
    """Somebody who puts changes away."""

    def stash(self, name: str) -> None:
        """Put what is staged away."""
        staged = self.staged
        assert staged is not None
        allowed: list[type[HangarError] | None] = [None]
        if not staged.dirty:
            allowed = [NothingToCommitError]
        elif name in self.stashes:
            allowed = [StashExistsError]
        result = self.attempt(lambda: self.writer.stash(name), *allowed)
        if result is STORM or isinstance(result, HangarError):
            return
        self.stashes[name] = staged
        self.staged = Staged(staged.branch, staged.base, staged.start, staged.start)

    def pop(self, name: str | None) -> None:
        """Bring a stash back, the newest by default."""
        staged = self.staged
        assert staged is not None
        chosen = name or next(reversed(self.stashes), "")
        allowed: list[type[HangarError] | None] = [None]
        merge = PlainMerge()
        if staged.dirty:
            allowed = [UncommittedChangesError]
        elif chosen not in self.stashes:
            allowed = [StashNotFoundError]
        else:
            stash = self.stashes[chosen]
            merge = rebased(stash.start, stash.snapshot, staged.snapshot)
            both = stash.touched & changed_columns(stash.start, staged.snapshot)
            allowed = ([] if merge.conflict else [None]) + ([StashConflictError] if both else [])
        result = self.attempt(lambda: self.writer.stash.pop(name), *allowed)
        if result is STORM or isinstance(result, HangarError):
            return
        stash = self.stashes.pop(chosen)
        event("stash popped", "where it was made" if stash.base == staged.base else "elsewhere")
        self.staged = Staged(staged.branch, staged.base, staged.start, merge.snapshot, stash.touched)
