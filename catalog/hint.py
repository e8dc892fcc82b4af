"""The hint, `refs/hint.json`: which branches and tags there are, about how long their logs are, and where branches are.

The one object that is ever overwritten: advisory, and never needed to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hangar_cloud.backends.errors import CorruptDataError, HangarError
from hangar_cloud.catalog.commits import commit_path
from hangar_cloud.catalog.keys import is_name
from hangar_cloud.catalog.sealed_json import seal, unseal

HINT_PATH: Final = "refs/hint.json"
FIRST_BRANCH: Final = "master"
MAX_SEQ: Final = 10**10 - 1
MOST_COMMITS: Final = 32
"""Commits of so many branches are named: whoever opens any of them reads the names of all."""
Kind = Literal["heads", "tags"]
_MEMBERS: Final[dict[Kind, str]] = {"heads": "branches", "tags": "tags"}
_COMMITS: Final = "commits"


@dataclass
class Hint:
    """What the hint says.

    Attributes:
        bounds: lower bounds of the numbers of the newest entries, by kind of log and name.
        commits: digests of commits that branches were at, by branch, of some.
    """

    bounds: dict[Kind, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in _MEMBERS})
    commits: dict[str, str] = field(default_factory=dict)

    def place(self, branch: str, commit: str | None) -> None:
        """Take note that a branch moved to a commit, or to none."""
        self.commits.pop(branch, None)
        if commit is not None:
            if len(self.commits) >= MOST_COMMITS:
                # Which of them are opened is not known; the branch that every repository starts with mostly is.
                self.commits = {name: digest for name, digest in self.commits.items() if name == FIRST_BRANCH}
            self.commits[branch] = commit

    def encode(self) -> bytes:
        """The bytes of the hint's object."""
        members: dict[str, Any] = {_MEMBERS[kind]: bounds for kind, bounds in self.bounds.items() if bounds}
        return seal({**members, _COMMITS: self.commits} if self.commits else members)


def decode_hint(text: bytes | None) -> Hint:
    """What the hint's bytes say: nothing where it is missing, damaged or of a later format."""
    hint = Hint()
    if text is None:
        return hint
    try:
        members = unseal(text, "the branch hint")
    except HangarError:
        return hint
    for kind, member in _MEMBERS.items():
        hint.bounds[kind] = _bounds(members.get(member))
    hint.commits = _commits(members.get(_COMMITS))
    return hint


def _bounds(named: Any) -> dict[str, int]:
    try:
        return {name: int(n) for name, n in named.items() if is_name(name) and 0 <= int(n) <= MAX_SEQ}
    except (HangarError, TypeError, ValueError, AttributeError, OverflowError):
        return {}


def _commits(named: Any) -> dict[str, str]:
    if not isinstance(named, Mapping) or len(named) > MOST_COMMITS:
        return {}
    return {name: digest for name, digest in named.items() if is_name(name) and _is_digest(digest)}


def _is_digest(digest: Any) -> bool:
    try:
        return isinstance(digest, str) and bool(commit_path(digest))
    except CorruptDataError:
        return False
