"""Keeping a writer's staging area as it is for a while, from whoever holds the writer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hangar_cloud.catalog.errors import MergeUnderWayError


class WriteGuard:
    """Shared by a working set and its columns; while a block holds it, nothing can be staged through them."""

    def __init__(self) -> None:
        self.is_held = False
        """Whether nothing can be staged now."""

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For the time of a merge."""
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False

    def refuse(self, what: str) -> None:
        """Raises MergeUnderWayError while it is held."""
        if self.is_held:
            raise MergeUnderWayError(
                f"cannot {what}: this checkout is merging, and is not to be changed before the merge has ended. A "
                "strategy function decides by what it returns: one of the sides, a new value, or None to refuse"
            )
