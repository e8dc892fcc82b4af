"""What a commit may be called: a digest, its first digits, a tag, or what a branch was before (``master@{1}``)."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final, NamedTuple

from hangar_cloud.catalog.pointers import Pointer, written_at
from hangar_cloud.errors import InvalidArgumentError, RefNotFoundError

_EARLIER: Final = re.compile(r"(?P<branch>[A-Za-z0-9._-]{1,64})@\{(?P<back>[0-9]{1,10})\}")


class ReflogEntry(NamedTuple):
    """One move of a branch.

    Attributes:
        name: what the commit can be called: ``master@{0}`` is the newest entry, ``master@{1}`` the one before.
        commit: digest that the branch was moved to; empty where it was made without a commit, or deleted.
        action: "init", "create", "commit", "merge", "push", "force-push", "clone", "reset", "restore" or "delete".
        time: when, UTC.
        author: who.
    """

    name: str
    commit: str
    action: str
    time: datetime
    author: str


class Earlier(NamedTuple):
    """A branch, and how many entries of its log to go back."""

    branch: str
    back: int


def parse_earlier(text: str) -> Earlier | None:
    """``branch@{n}`` taken apart; None if the text is of another form."""
    found = _EARLIER.fullmatch(text)
    return None if found is None else Earlier(found["branch"], int(found["back"]))


def reflog_entry(pointer: Pointer, newest: int) -> ReflogEntry:
    """An entry of the pointer log as users see it; `newest` is the number of the newest one."""
    name = f"{pointer.branch}@{{{newest - pointer.seq}}}"
    return ReflogEntry(name, pointer.commit or "", pointer.action, written_at(pointer), pointer.author)


def check_time(value: object) -> datetime:
    """A point in time as UTC. One without a time zone is local time.

    Raises:
        InvalidArgumentError: neither a datetime nor ISO 8601 text.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidArgumentError(f"as_of={value!r} is not a time as ISO 8601 writes it: {error}") from error
    if not isinstance(value, datetime):
        raise InvalidArgumentError(
            f"as_of must be a datetime.datetime or ISO 8601 text such as '2026-11-21T08:00+00:00', not {value!r}"
        )
    try:
        return value.astimezone(timezone.utc)
    except (OverflowError, OSError, ValueError) as error:
        raise InvalidArgumentError(f"as_of={value!r} is out of range: {error}") from error


def commit_then(pointer: Pointer | None, branch: str, time: datetime) -> str:
    """The commit that a branch was at, at `time`, given the entry of its log that was the last one then.

    Raises:
        RefNotFoundError: the branch was not there at that time, or nothing was committed on it.
    """
    shown = time.isoformat(timespec="seconds")
    if pointer is None:
        raise RefNotFoundError(f"branch {branch!r} was not made yet at {shown}; reflog({branch!r}) shows its moves")
    if not pointer.alive:
        raise RefNotFoundError(f"branch {branch!r} was deleted at {shown}; reflog({branch!r}) shows its moves")
    if pointer.commit is None:
        raise RefNotFoundError(f"nothing was committed on branch {branch!r} yet at {shown}")
    return pointer.commit
