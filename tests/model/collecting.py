"""Collecting garbage, and seeing that only garbage went."""

from __future__ import annotations

from functools import partial

from hypothesis import event

from hangar_cloud.errors import GarbageCollectionError, HangarError, WriterLockError
from tests.model.person import STORM
from tests.model.plain_merge import ancestors
from tests.model.sharing import Sharing

_COMMITS_LOOKED_AT = 4


class Collecting(Sharing):
    """Somebody who tidies up."""

    def collect_garbage(self, elsewhere: set[str], keep_log: bool) -> None:
        """Collect everything that may go.

        Args:
            elsewhere: commits that others need, and that only this repository may have.
            keep_log: keep what branches were before.
        """
        retained = self.retained(keep_log)
        if not elsewhere <= retained:
            keep_log, retained = True, self.retained(True)
        there = self.commits_there()
        allowed: list[type[HangarError] | None] = [None]
        if self.writer is not None and not self.is_bucket:
            allowed = [WriterLockError]
        elif self.refs.interrupted:
            allowed = [None, GarbageCollectionError]
        options = {} if keep_log else {"keep_reflog": 0}
        report = self.attempt(lambda: self.repository.gc(grace=0, **options), *allowed)
        if isinstance(report, HangarError):
            return
        self.refs.interrupted |= report is STORM
        left = self.commits_there()
        assert there & retained <= left <= there, "a commit that is in use is gone, or another came"
        wishes = self.is_bucket and any(name.startswith("keep-") for name in self.calm(self.list_notes))
        if report is not STORM and not wishes:
            assert left <= retained, "a commit that nothing refers to is left"
        self.refs.gone |= there - left
        event("garbage collected", f"{len(there - left)} commits" if report is not STORM else "in a storm")
        self.look_at_what_is_left()

    def needed(self) -> set[str]:
        """Commits that this person has a use for: all that is known, and what is staged or stashed is based on."""
        own = [*self.areas.values(), *self.stashes.values(), *([] if self.staged is None else [self.staged])]
        based = [base for area in own for base in (area.base, area.landed)]
        return {*self.known(), *set().union(*(ancestors(self.history, base) for base in based), set())}

    def retained(self, with_log: bool) -> set[str]:
        """Commits of this repository that no collection may remove."""
        refs = self.refs
        named = {*refs.branches.values(), *refs.tags.values()}
        if with_log:
            named |= {commit for moves in refs.logs.values() for _, commit in moves} - refs.gone
        found = set().union(*(ancestors(self.history, head) for head in named), set())
        return found if self.is_bucket else found | self.needed()

    def commits_there(self) -> set[str]:
        """Digests of the commits that the store has."""
        store = self.repository._storage.store
        return {name.removesuffix(".json") for name in self.calm(lambda: store.list_children("commits"))}

    def list_notes(self) -> list[str]:
        """What collections and writers have told each other."""
        return self.repository._storage.store.list_children("gc")

    def look_at_what_is_left(self) -> None:
        """Nothing is damaged, and what is known can be read by somebody who has nothing of it yet."""
        assert not [finding for finding in self.calm(self.repository.fsck) if finding.is_damage]
        for digest in self.known()[-_COMMITS_LOOKED_AT:]:
            self.calm(partial(self.look_at, digest))
