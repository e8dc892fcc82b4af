"""Branches: making, listing and removing them, and choosing the one to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedCommand, GuardedGroup
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.pager import page

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.group(cls=GuardedGroup)
def branch() -> None:
    """Make, list, move, remove and restore branches."""


@branch.command("create")
@click.argument("name")
@click.argument("startpoint", required=False, shell_complete=completing.commits)
@with_repository
def branch_create(repository: Repository, name: str, startpoint: str | None) -> None:
    """Make a branch NAME at STARTPOINT.

    STARTPOINT is a branch, or the first digits of a commit. Without it, the branch starts where the one last
    written to is now.
    """
    base = repository._branches.find(startpoint) if startpoint else None
    made = repository.create_branch(name, base)
    # A bucket has no branch that is checked out.
    how = f"hangar -C URL --branch {made.name} …" if repository._storage.is_bucket else f"hangar checkout {made.name}"
    then = "writes to it" if repository._storage.is_bucket else "writes to it from now on"
    click.echo(f"Branch {made.name} is at {made.digest[:12]}. `{how}` {then}.")


@branch.command("delete")
@click.option("-f", "--force", is_flag=True, help="Even if no other branch holds its commits.")
@click.argument("name", shell_complete=completing.branches)
@with_repository
def branch_remove(repository: Repository, name: str, force: bool) -> None:
    """Remove the branch NAME of this repository. Its commits stay."""
    gone = repository.remove_branch(name, force_delete=force)
    click.echo(f"Branch {gone.name} is removed; it was at {gone.digest[:12] or 'no commit'}.")


@branch.command("restore")
@click.argument("name", shell_complete=completing.deleted_branches)
@with_repository
def branch_restore(repository: Repository, name: str) -> None:
    """Bring the deleted branch NAME back, at the commit where it was."""
    back = repository.restore_branch(name)
    click.echo(f"Branch {back.name} is back, at {back.digest[:12]}.")


@branch.command("reset")
@click.argument("name", shell_complete=completing.branches)
@click.argument("commit", shell_complete=completing.commits)
@with_repository
def branch_reset(repository: Repository, name: str, commit: str) -> None:
    """Move the branch NAME to any COMMIT.

    COMMIT is a branch, the first digits of a commit, a tag, or BRANCH@{N} for what a branch was N moves ago.
    Afterwards NAME@{1} is what it was.
    """
    moved = repository.reset_branch(name, commit)
    click.echo(f"Branch {moved.name} is at {moved.digest[:12]}.")


@branch.command("list")
@json_option(
    current="the branch that is written to",
    branches="a list: name, commit (digest; null before the first), remote (true for those of remotes, as last seen)",
)
@with_repository
def branch_list(repository: Repository, as_json: bool) -> None:
    """List all branches: those here, then those of remotes as last seen.

    A star marks the one that is written to.
    """
    current = repository._branches.current()
    names = repository.list_branches()
    if not as_json:
        page(click.style(f"* {name}", fg="green") if name == current else f"  {name}" for name in names)
        return
    heads = repository._branches.heads()
    branches = [{"name": name, "commit": heads.get(name), "remote": "/" in name} for name in names]
    print_json({"current": current, "branches": branches})


@click.command(cls=GuardedCommand)
@click.argument("branchname", shell_complete=completing.branches)
@with_repository
def checkout(repository: Repository, branchname: str) -> None:
    """Choose the branch to write to.

    From now on, writers and `hangar commit` extend BRANCHNAME. Nothing may be staged on another branch, and
    no process may have the repository open for writing.
    """
    if repository._storage.is_bucket:
        raise click.UsageError(
            "a bucket has no branch that is checked out, for it has many users. Clone it into a folder, or name the "
            f"branch each time: hangar -C URL --branch {branchname} COMMAND"
        )
    with writing(repository, branchname):
        pass
    click.echo(f"On branch {branchname}.")
