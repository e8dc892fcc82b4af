"""What `hangar status` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import click

from hangar_cloud.status import AreaStatus, ColumnStatus, RepositoryStatus

_COLOURS: Final = {
    "new column": "green",
    "replaced column": "yellow",
    "changed column": "yellow",
    "removed column": "red",
}


def status_lines(
    status: RepositoryStatus, remotes: Mapping[str, tuple[int, int] | None], stashes: int
) -> Iterator[str]:
    """The lines, coloured; click takes the colour out where it is not wanted.

    Args:
        status: of the repository.
        remotes: how many commits it is ahead of and behind each remote branch; None where that was not counted.
        stashes: how many there are.
    """
    at = f"at commit {status.head[:12]}" if status.head else "without a commit yet"
    yield f"On branch {status.branch}, {at}"
    if status.writer_open:
        yield "A writer is open: this is what it has stored so far. Nobody else can write until it is closed."
    yield from _remote_lines(status.branch, remotes)
    for problem in status.unreadable:
        yield f"What the writer has staged cannot be read while it works: {problem}"
    for area in status.areas:
        yield from _area_lines(area, status)
    if status.areas:
        yield ""
        yield 'Next: `hangar commit -m "what changed"` records it; `hangar diff` shows it, `hangar reset` gives it up.'
    elif not status.unreadable:
        yield "Staging area: CLEAN"
        yield ""
        if status.head is None:
            yield (
                "Next: `hangar import COLUMN FOLDER` brings files in, `hangar column create NAME DTYPE SHAPE` makes an "
                "empty column."
            )
        else:
            yield f"Next: {_next(status.branch, remotes)}"
    if stashes:
        count = f"{stashes:,} {'stash' if stashes == 1 else 'stashes'}"
        yield f"{count} put away: `hangar stash list` shows what, `hangar stash pop` brings the newest back."


def _remote_lines(branch: str, remotes: Mapping[str, tuple[int, int] | None]) -> Iterator[str]:
    for name, counts in remotes.items():
        if counts is None:
            yield f"{name}, as last seen, is far from it: more commits differ than are counted here."
        elif counts != (0, 0):
            parts = [f"{count:,} {what}" for count, what in zip(counts, ("ahead of", "behind"), strict=True) if count]
            yield f"It is {' and '.join(parts)} {name}, as last seen."
        else:
            yield f"It is where {name} was when last seen."


def _next(branch: str, remotes: Mapping[str, tuple[int, int] | None]) -> str:
    """What may be done with a branch of which nothing is staged."""
    for name, counts in remotes.items():
        ahead, behind = counts or (0, 0)
        if behind:
            then = f", then `hangar push {name.partition('/')[0]} {branch}`" if ahead else ""
            return f"`hangar merge {name}` takes in what the remote has{then}."
        if ahead:
            return f"`hangar push {name.partition('/')[0]} {branch}` uploads what the remote lacks."
    return "nothing is staged. `hangar log` shows what was committed, `hangar summary` what it holds."


def _area_lines(area: AreaStatus, status: RepositoryStatus) -> Iterator[str]:
    yield "Staging area: DIRTY" + (f", on branch {area.branch}" if area.branch != status.branch else "")
    if area.branch == status.branch and area.base != status.head:
        yield f"These changes start from {(area.base or 'no commit')[:12]}; the branch has moved on since."
    if area.interrupted:
        yield "A commit was cut off; the next command that writes finds out whether it arrived."
    for column in area.columns:
        yield _column_line(column)
    if not area.columns:
        yield "  Everything that was staged was undone again: a commit would change nothing."


def _column_line(column: ColumnStatus) -> str:
    counts = [(column.added, "added"), (column.changed, "changed"), (column.removed, "removed")]
    parts = [f"{number:,} {what}" for number, what in counts if number]
    if column.schema_changed:
        parts.append("schema changed")
    if column.backend_changed:
        parts.append("backend changed")
    samples = f": {', '.join(parts)}" if parts else ""
    if column.action == "metadata":
        return f"  metadata{samples}"
    action = click.style(f"{column.action:<15}", fg=_COLOURS[column.action])
    return f"  {action}  {column.name} ({column.kind}){samples}"
