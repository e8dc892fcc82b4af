"""Branches: making, listing and removing them, and choosing the one to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedCommand, GuardedGroup

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.group(cls=GuardedGroup)
def branch() -> None:
    """Make, list, move, remove and restore branches."""


@branch.command("create")
@click.argument("name")
@click.argument("startpoint", required=False)
@with_repository
def branch_create(repository: Repository, name: str, startpoint: str | None) -> None:
    """Make a branch NAME at STARTPOINT.

    STARTPOINT is a branch, or the first digits of a commit. Without it, the branch starts where the one last
    written to is now.
    """
    base = repository._branches.find(startpoint) if startpoint else None
    made = repository.create_branch(name, base)
    click.echo(f"Branch {made.name} is at {made.digest[:12]}. `hangar checkout {made.name}` writes to it from now on.")


@branch.command("delete")
@click.option("-f", "--force", is_flag=True, help="Even if no other branch holds its commits.")
@click.argument("name")
@with_repository
def branch_remove(repository: Repository, name: str, force: bool) -> None:
    """Remove the branch NAME of this repository. Its commits stay."""
    gone = repository.remove_branch(name, force_delete=force)
    click.echo(f"Branch {gone.name} is removed; it was at {gone.digest[:12] or 'no commit'}.")


@branch.command("restore")
@click.argument("name")
@with_repository
def branch_restore(repository: Repository, name: str) -> None:
    """Bring the deleted branch NAME back, at the commit where it was."""
    back = repository.restore_branch(name)
    click.echo(f"Branch {back.name} is back, at {back.digest[:12]}.")


@branch.command("reset")
@click.argument("name")
@click.argument("commit")
@with_repository
def branch_reset(repository: Repository, name: str, commit: str) -> None:
    """Move the branch NAME to any COMMIT.

    COMMIT is a branch, the first digits of a commit, a tag, or BRANCH@{N} for what a branch was N moves ago.
    Afterwards NAME@{1} is what it was.
    """
    moved = repository.reset_branch(name, commit)
    click.echo(f"Branch {moved.name} is at {moved.digest[:12]}.")


@branch.command("list")
@with_repository
def branch_list(repository: Repository) -> None:
    """List all branches: those here, then those of remotes as last seen.

    A star marks the one that is written to.
    """
    current = repository._branches.current()
    for name in repository.list_branches():
        click.echo(click.style(f"* {name}", fg="green") if name == current else f"  {name}")


@click.command(cls=GuardedCommand)
@click.argument("branchname")
@with_repository
def checkout(repository: Repository, branchname: str) -> None:
    """Choose the branch to write to.

    From now on, writers and `hangar commit` extend BRANCHNAME. Nothing may be staged on another branch, and
    no process may have the repository open for writing.
    """
    if repository._storage.is_bucket:
        raise click.UsageError(
            "a bucket has no branch that is checked out, for it has many users. Clone it into a folder, or name the "
            "branch in Python: repo.checkout(write=True, branch=…)"
        )
    with writing(repository, branchname):
        pass
    click.echo(f"On branch {branchname}.")
