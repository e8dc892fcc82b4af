"""The `diff` of a checkout: against branches, commits, and what is staged."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hangar_cloud.branches import Branches
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.diff import DiffAndConflicts, collect_staged, diff_commits, has_changes, no_conflicts
from hangar_cloud.errors import RefNotFoundError
from hangar_cloud.storage import Storage


class DiffContext(NamedTuple):
    """What a checkout's `diff` needs: where it is, and whether it is still open."""

    storage: Storage
    head: Callable[[], str | None]
    check: Callable[[], None]


class ReaderUserDiff:
    """Compares the checkout's commit with others. Reached as `checkout.diff`."""

    def __init__(self, context: DiffContext) -> None:
        self._context = context

    def branch(self, dev_branch: str) -> DiffAndConflicts:
        """What merging a branch into this checkout's commit would change, and its conflicts.

        Raises ValueError where there is no such branch, or nothing is committed.
        """
        return self._with(Branches(self._context.storage).commit_of(dev_branch))

    def commit(self, dev_commit_hash: str) -> DiffAndConflicts:
        """The same for a commit, by its digest or its first digits. Raises ValueError where there is none."""
        return self._with(Branches(self._context.storage).resolve(dev_commit_hash))

    def _with(self, dev: str) -> DiffAndConflicts:
        self._context.check()
        head = self._context.head()
        if head is None:
            raise RefNotFoundError("nothing is committed on this branch yet, so there is nothing to compare")
        return diff_commits(self._context.storage, head, dev)


class WriterUserDiff(ReaderUserDiff):
    """The same in a checkout for writing, and what is staged."""

    def __init__(self, context: DiffContext, working: WorkingSet) -> None:
        super().__init__(context)
        self._working = working

    def staged(self) -> DiffAndConflicts:
        """What a commit would change now."""
        self._context.check()
        return DiffAndConflicts(collect_staged(self._context.storage, self._working), no_conflicts())

    def status(self) -> str:
        """ "CLEAN" if a commit would change nothing, else "DIRTY"."""
        self._context.check()
        changed = has_changes(self._context.storage.nodes, self._working.base, self._working)
        return "DIRTY" if changed else "CLEAN"
