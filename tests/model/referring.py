"""Tags, where branches were before, moving them back, and work that is done once."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from hypothesis import event

from hangar_cloud.errors import (
    HangarError,
    ProtectedBranchError,
    RefExistsError,
    RefNotFoundError,
)
from tests.model.branching import Branching
from tests.model.looking import holds
from tests.model.person import STORM
from tests.model.plain import is_change
from tests.model.plain_merge import done_with
from tests.model.writing import rebased


class Referring(Branching):
    """Somebody who names commits, and goes back."""

    def true_tags(self) -> dict[str, str]:
        """The tags that the store really has now."""
        return self.calm(lambda: {tag.name: tag.digest for tag in self.repository.list_tags()})

    def create_tag(self, name: str, commit: str | None) -> None:
        """Name a commit, by default the head of the branch written to last."""
        digest = commit or self.refs.branches.get(self.current)
        allowed: list[type[HangarError] | None] = [None]
        if digest is None:
            allowed = [RefNotFoundError]
        elif name in self.refs.tags:
            allowed = [RefExistsError]
        made = self.attempt(lambda: self.repository.create_tag(name, commit, "model"), *allowed)
        if isinstance(made, HangarError):
            return
        assert digest is not None or made is STORM
        if made is not STORM:
            assert (made.name, made.digest, made.message) == (name, digest, "model")
        self.look_for_tag(name, digest, certain=made is not STORM)

    def delete_tag(self, name: str) -> None:
        """Remove a tag."""
        allowed = [None] if name in self.refs.tags else [RefNotFoundError]
        result = self.attempt(lambda: self.repository.delete_tag(name), *allowed)
        if not isinstance(result, HangarError):
            self.look_for_tag(name, None, certain=result is not STORM)

    def look_for_tag(self, name: str, digest: str | None, *, certain: bool) -> None:
        """A tag was made (or deleted, where there is no digest): for certain, or perhaps."""
        found = self.true_tags().get(name)
        assert found == digest or (not certain and found == self.refs.tags.get(name))
        self.refs.tags.pop(name, None)
        if found is not None:
            self.refs.tags[name] = found

    def reset_branch(self, name: str, commit: str) -> None:
        """Move a branch to any commit."""
        before = self.refs.branches.get(name)
        allowed: list[type[HangarError] | None] = [None]
        if name not in self.refs.branches:
            allowed = [RefNotFoundError]
        elif self.writer is not None:
            allowed = [ProtectedBranchError]
        result = self.attempt(lambda: self.repository.reset_branch(name, commit), *allowed)
        if isinstance(result, HangarError):
            return
        assert result is STORM or result == (name, commit)
        landed = name in self.refs.branches and self.true_heads()[name] == commit
        assert landed or result is STORM
        if landed and before != commit:
            self.refs.move(name, commit, "reset")

    def restore_branch(self, name: str) -> None:
        """Bring a deleted branch back."""
        commits = [commit for _, commit in self.refs.logs.get(name, []) if commit is not None]
        allowed: list[type[HangarError] | None] = [None]
        if name in self.refs.branches:
            allowed = [RefExistsError]
        elif not commits or commits[-1] in self.refs.gone:
            allowed = [RefNotFoundError]
        result = self.attempt(lambda: self.repository.restore_branch(name), *allowed)
        if isinstance(result, HangarError):
            return
        assert result is STORM or result == (name, commits[-1])
        if name not in self.refs.branches and name in self.true_heads():
            event("branch restored")
            self.refs.move(name, commits[-1], "restore")
        assert name in self.refs.branches or result is STORM

    def look_at_reflog(self, name: str) -> None:
        """Every move of a branch is on record, newest first, and what it was can be read by its name."""
        moves = self.refs.logs.get(name)
        found = self.attempt(lambda: self.repository.reflog(name), RefNotFoundError if moves is None else None)
        if isinstance(found, HangarError) or found is STORM:
            return
        assert moves is not None
        assert [(entry.action, entry.commit or None) for entry in found] == moves[::-1]
        assert [entry.name for entry in found] == [f"{name}@{{{back}}}" for back in range(len(moves))]
        times = [entry.time for entry in found]
        assert times == sorted(times, reverse=True)
        for entry in found[1:4]:
            if entry.commit and entry.commit not in self.refs.gone:
                self.look_at(entry.commit, entry.name)

    def look_at_tags(self) -> None:
        """The tags are the model's, and their commits are read by their names."""
        assert self.true_tags() == dict(sorted(self.refs.tags.items()))
        for name, digest in self.refs.tags.items():
            self.look_at(digest, name)

    def commit_once(self, key: str) -> None:
        """Commit work that is named by a key, which may have been done before."""
        staged = self.staged
        assert staged is not None
        head = self.refs.branches.get(staged.branch)
        done = done_with(self.history, head, key)
        event("commit with a key", "done before" if done else "new")
        if done is None:
            self.commit(key)
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = self.attempt(lambda: self.writer.commit("once", idempotency_key=key))
        stashed = [info.name for info in self.calm(self.writer.stash.list) if info.name not in self.stashes]
        if result is STORM and not stashed and self.calm(partial(holds, self.writer, staged.snapshot)):
            return
        assert result in (done, STORM)
        if staged.dirty:
            self.look_what_was_dropped(stashed, caught, head)
        else:
            assert not stashed

    def look_what_was_dropped(self, stashed: list[str], caught: Any, head: str | None) -> None:
        """Staged changes that the head does not hold are in a stash now; others are gone."""
        staged = self.staged
        assert staged is not None
        merged = rebased(staged.start, staged.snapshot, self.snapshot_of(head))
        if stashed:
            assert len(stashed) == len(caught) == 1
            self.stashes[stashed[0]] = staged
        else:
            assert not merged.conflict
            assert not is_change(self.snapshot_of(head), merged.snapshot)
        self.staged = self.clean(staged.branch, head)
