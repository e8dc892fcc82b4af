"""Somebody at a repository, and what the plain model knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hangar_cloud import Repository
from hangar_cloud.errors import (
    DataNotLocalError,
    HangarError,
    StoreError,
)
from tests.model.looking import assert_conflicts, assert_contents, assert_diff, places_of
from tests.model.plain import Snapshot, is_change, plain_diff
from tests.model.plain_merge import History, PlainCommit, PlainMerge, ancestors, merge_bases, plain_merge
from tests.model.weather import Weather

STORM: Final = object()
"""What an operation gives that the weather stopped: it took effect or did not."""


@dataclass
class Refs:
    """The branches and tags of one store, by name, each with its commit.

    `logs` has every move of a branch, oldest first: what was done, and the commit it was moved to. `gone` are commits
    that a garbage collection removed, and `interrupted` tells whether one may have stopped half-way.
    """

    exists: bool = False
    branches: dict[str, str | None] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    logs: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    interrupted: bool = False

    def move(self, branch: str, commit: str | None, action: str) -> None:
        """A branch is at a commit now."""
        self.branches[branch] = commit
        self.logs.setdefault(branch, []).append((action, commit))

    def remove(self, branch: str) -> None:
        """A branch is deleted."""
        del self.branches[branch]
        self.logs[branch].append(("delete", None))


@dataclass
class Staged:
    """What a writer sees: the commit that it stands on, and the contents with what is staged.

    `start` are the contents of that commit. `touched` are columns that were written to, even if they are as before.
    `landed` is the commit that an attempt to commit made without our knowing, and `since` tells whether more was
    staged after it.
    """

    branch: str
    base: str | None
    start: Snapshot
    snapshot: Snapshot
    touched: set[str] = field(default_factory=set)
    landed: str | None = None
    since: bool = False

    @property
    def dirty(self) -> bool:
        """Whether a commit would change anything, or an earlier one did without our knowing."""
        return self.landed is not None or is_change(self.start, self.snapshot)


class Person:
    """A repository with its model.

    Args:
        place: folder or URL.
        cache: folder of the cache, if it is a bucket.
        refs: branches of its store; shared by all who work on one bucket directly.
        origin: branches of the remote.
        history: every commit there is.
        weather: what happens to requests.
    """

    def __init__(self, place: str, cache: Path, refs: Refs, origin: Refs, history: History, weather: Weather) -> None:
        self.place = place
        self.cache = cache
        self.is_bucket = "://" in place
        self.refs = refs
        self.origin = origin
        self.history = history
        self.weather = weather
        self.tracking: dict[str, str] = {}
        self.current = "master"
        self.areas: dict[str, Staged] = {}
        self.stashes: dict[str, Staged] = {}
        self.writer: Any = None
        self.staged: Staged | None = None
        self.waiting = self.clean("master", None)
        self.repository = self.connect()

    def connect(self, *, offline: bool = False) -> Repository:
        """The repository, as a new process would open it."""
        return Repository(self.place, exists=False, cache_dir=self.cache, offline=offline)

    def snapshot_of(self, digest: str | None) -> Snapshot:
        """The contents of a commit; nothing before the first."""
        return {} if digest is None else self.history[digest].snapshot

    def attempt(self, call: Callable[[], Any], *allowed: type[HangarError] | None) -> Any:
        """Call it, and return its result, the error (one of those `allowed`, where None means none), or STORM."""
        try:
            result = call()
        except (StoreError, DataNotLocalError) as error:
            if self.weather.struck:
                return STORM
            if type(error) in allowed:
                return error
            raise
        except HangarError as error:
            if not any(kind is not None and isinstance(error, kind) for kind in allowed):
                raise
            return error
        assert not allowed or None in allowed, f"should have raised one of {allowed}"
        return result

    def clean(self, branch: str, base: str | None) -> Staged:
        """Nothing staged on a commit."""
        contents = self.snapshot_of(base)
        return Staged(branch, base, contents, contents)

    def is_dirty(self, area: Staged) -> bool:
        """Whether anything is staged that did not land."""
        start = area.start if area.landed is None else self.snapshot_of(area.landed)
        return is_change(start, area.snapshot)

    def calm(self, call: Callable[[], Any]) -> Any:
        """Call it while every request is answered."""
        with self.weather.storm([]):
            return call()

    def look_for_move(
        self, branch: str, parents: tuple[str, ...], contents: Snapshot, action: str = "commit", key: str | None = None
    ) -> str | None:
        """The commit that a branch was moved to although no answer came, if it was."""
        found = self.true_heads().get(branch)
        if found == self.refs.branches.get(branch):
            return None
        assert found is not None
        if found not in self.history:
            self.record(branch, found, parents, contents, action, key)
        else:
            self.refs.move(branch, found, action)
        return found

    def true_heads(self) -> dict[str, str | None]:
        """The branches that the store really has now."""
        return self.calm(
            lambda: {name: head.commit for name, head in self.repository._storage.pointers().heads().items()}
        )

    def record(
        self,
        branch: str,
        digest: str,
        parents: tuple[str, ...],
        contents: Snapshot,
        action: str = "commit",
        key: str | None = None,
    ) -> None:
        """A new commit on a branch; it may have an idempotency key."""
        assert digest not in self.history
        self.history[digest] = PlainCommit(parents, contents, key)
        self.refs.move(branch, digest, action)

    def heads(self) -> dict[str, str]:
        """Branches and remote-tracking branches that have a commit."""
        return {**{name: head for name, head in self.refs.branches.items() if head is not None}, **self.tracking}

    def known(self) -> list[str]:
        """Commits that any head or tag reaches, in the order in which they were made."""
        named = [*self.heads().values(), *self.refs.tags.values()]
        reached = set().union(*(ancestors(self.history, head) for head in named), set())
        return [digest for digest in self.history if digest in reached]

    def plain_merge(self, ours: str, theirs: str) -> tuple[PlainMerge, list[str]]:
        """The merge of two commits, by the model."""
        bases = merge_bases(self.history, ours, theirs)
        merge = plain_merge(
            [self.snapshot_of(base) for base in bases], self.snapshot_of(ours), self.snapshot_of(theirs)
        )
        if merge.unsure:
            found = self.calm(lambda: self.repository.diff(ours, theirs)).conflict
            merge = merge.refusing(places_of(found))
        return merge, bases

    def look_at(self, digest: str, name: str = "") -> None:
        """A commit, perhaps by another name, holds what the model says."""
        reader = self.repository.checkout(commit=name or digest)
        assert reader.commit_hash == digest
        assert_contents(reader, self.snapshot_of(digest))
        reader.close()

    def look_at_diff(self, one: str, other: str) -> None:
        """The diff of two commits, and the conflicts of their merge, are the model's."""
        found = self.repository.diff(one, other)
        assert_diff(found.diff, plain_diff(self.snapshot_of(one), self.snapshot_of(other)))
        merge, bases = self.plain_merge(one, other)
        assert_conflicts(found.conflict, None if bases in ([one], [other]) else merge)

    def look_at_refs(self) -> None:
        """Branches and heads are the model's, and no lock is held that should not be."""
        assert self.repository.list_branches() == [*sorted(self.refs.branches), *sorted(self.tracking)]
        assert self.repository._branches.heads() == self.heads()
        assert self.repository.writer_lock_held == (self.writer is not None)

    def look_at_log(self, name: str) -> None:
        """The log of a head lists all before it, children before parents."""
        head = self.heads()[name]
        log = self.repository.log(branch=name, return_contents=True)
        assert log is not None
        reached = ancestors(self.history, head)
        assert log["head"] == head == log["order"][0]
        assert len(log["order"]) == len(reached)
        assert log["ancestors"] == {digest: list(self.history[digest].parents) for digest in reached}
        place = {digest: i for i, digest in enumerate(log["order"])}
        assert all(place[digest] < place[parent] for digest in reached for parent in self.history[digest].parents)
        for branch, digest in self.heads().items():
            assert branch in log["branch_heads"][digest]


def parents(head: str | None) -> tuple[str, ...]:
    """Of a commit on a branch that is at `head`."""
    return () if head is None else (head,)
