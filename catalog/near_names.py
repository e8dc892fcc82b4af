"""Which of the names that there are somebody may have meant (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, names: Iterable[str]) -> str | None:
    """The name that is most like another text; None where none is near."""
    found = difflib.get_close_matches(str(name), list(names), n=1)
    return found[0] if found else None


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """What to put behind an error's message: ``". Did you mean 'master'?"``, or nothing."""
    near = nearest(name, names)
    return "" if near is None else f". Did you mean {near!r}?"
