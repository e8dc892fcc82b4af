"""Whether a checkout is still open: asked by everything that was reached through it."""

from __future__ import annotations

import os
from collections.abc import Callable

from hangar_cloud.errors import ClosedError


class Forks:
    """How often the processes fork that this one comes from: compared, where asking for the process takes too long."""

    count = 0


def _forked() -> None:
    Forks.count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Alive:
    """Shared by a checkout and its columns; `end` makes all of them refuse.

    Args:
        check: a further condition that raises when it no longer holds, such as the writer lock.
    """

    def __init__(self, check: Callable[[], None] | None = None) -> None:
        self._open = True
        self._check = check

    def __call__(self) -> None:
        """Raises ClosedError after `end`, or what the further condition raises."""
        if not self._open:
            raise ClosedError("this checkout was closed; open a new one with Repository.checkout()")
        if self._check is not None:
            self._check()

    @property
    def open(self) -> bool:
        """False after `end`."""
        return self._open

    def end(self) -> None:
        """Refuse every further use."""
        self._open = False
