"""What differs between two commits, or is staged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.argument("dev", required=False)
@click.argument("master", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print every difference and conflict as JSON, one on a line.")
@with_repository
def diff(repository: Repository, dev: str | None, master: str | None, as_json: bool) -> None:
    """Show what DEV has that MASTER has not.

    Both are branches, or the first digits of commits; without MASTER, it is the branch that is written to.
    The conflicts that a merge of DEV into MASTER would meet are shown too. Without DEV, the command shows what
    is staged.
    """
    if dev is None:
        _show_staged(repository, as_json)
    else:
        _show_commits(repository, dev, master or repository._branches.current(), as_json)


def _show_staged(repository: Repository, as_json: bool) -> None:
    from hangar_cloud.cli.diff_text import as_records, diff_lines
    from hangar_cloud.status import staged_diffs

    shown = False
    for staged in staged_diffs(repository._storage, repository._branches.current()):
        lines = list(as_records(staged.diff, branch=staged.branch) if as_json else diff_lines(staged.diff))
        if lines and not as_json:
            base = f"commit {staged.base[:12]}" if staged.base else "no commit yet"
            click.echo(f"Staged on branch {staged.branch}, on top of {base}:")
        for line in lines:
            click.echo(line)
        shown = shown or bool(lines)
    if not shown and not as_json:
        click.echo("Nothing is staged.")


def _show_commits(repository: Repository, dev: str, master: str, as_json: bool) -> None:
    from hangar_cloud.cli.diff_text import as_records, conflict_lines, conflict_records, diff_lines

    found = repository.diff(master, dev)
    if as_json:
        for line in (*as_records(found.diff), *conflict_records(found.conflict)):
            click.echo(line)
        return
    ours, theirs = (f"{name} ({repository._branches.find(name)[:12]})" for name in (master, dev))
    lines = list(diff_lines(found.diff))
    if not lines:
        click.echo(f"{ours} and {theirs} hold the same.")
        return
    click.echo(f"From {ours} to {theirs}:")
    for line in (*lines, *conflict_lines(found.conflict)):
        click.echo(line)
