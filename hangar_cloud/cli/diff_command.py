"""What differs between two commits, or is staged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.pager import page

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.argument("dev", required=False, shell_complete=completing.commits)
@click.argument("master", required=False, shell_complete=completing.commits)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there is a difference.")
@json_option(
    staged="true if the differences are of what is staged, from its base commit",
    master="digest of MASTER; of the base commit of what is staged, null before the first commit",
    dev="digest of DEV; null for what is staged",
    differences="a list: change (added, deleted or mutated), kind (column, sample or metadata), and what it is: "
    "column, sample, subsample, key, layout, schema; of what is staged also the branch",
    conflicts="a list, likewise, with conflict (t1: added on both sides, t21: removed in MASTER and changed in DEV, "
    "t22: the other way round, t3: changed on both sides) in place of change",
)
@with_repository
def diff(repository: Repository, dev: str | None, master: str | None, as_json: bool, exit_code: bool) -> None:
    """Show what DEV has that MASTER has not.

    Both are branches, tags, or the first digits of commits; without MASTER, it is the branch that is written to.
    The conflicts that a merge of DEV into MASTER would meet are shown too. Without DEV, the command shows what
    is staged.
    """
    if dev is None:
        found = _show_staged(repository, as_json)
    else:
        found = _show_commits(repository, dev, master or repository._branches.current(), as_json)
    if found and exit_code:
        raise click.exceptions.Exit(1)


def _show_staged(repository: Repository, as_json: bool) -> bool:
    from hangar_cloud.cli.diff_text import as_records, diff_lines
    from hangar_cloud.status import staged_diffs

    lines: list[str] = []
    records: list[dict[str, Any]] = []
    areas = staged_diffs(repository._storage, repository._branches.current())
    for staged in areas:
        records += as_records(staged.diff, branch=staged.branch)
        found = list(diff_lines(staged.diff))
        if found:
            base = f"commit {staged.base[:12]}" if staged.base else "no commit yet"
            lines += [f"Staged on branch {staged.branch}, on top of {base}:", *found]
    if as_json:
        base_commit = areas[0].base if areas else None
        print_json({"staged": True, "master": base_commit, "dev": None, "differences": records, "conflicts": []})
    else:
        page(lines or ["Nothing is staged."])
    return bool(lines)


def _show_commits(repository: Repository, dev: str, master: str, as_json: bool) -> bool:
    from hangar_cloud.cli.diff_text import as_records, conflict_lines, conflict_records, diff_lines

    found = repository.diff(master, dev)
    digests = {name: repository._branches.find(name) for name in (master, dev)}
    records = list(as_records(found.diff))
    if as_json:
        conflicts = list(conflict_records(found.conflict))
        both = {"master": digests[master], "dev": digests[dev]}
        print_json({"staged": False, **both, "differences": records, "conflicts": conflicts})
        return bool(records)
    ours, theirs = (f"{name} ({digests[name][:12]})" for name in (master, dev))
    if not records:
        click.echo(f"{ours} and {theirs} hold the same.")
        return False
    page([f"From {ours} to {theirs}:", *diff_lines(found.diff), *conflict_lines(found.conflict, dev)])
    return True
