"""Tags, and what branches were before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand, GuardedGroup

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.group(cls=GuardedGroup)
def tag() -> None:
    """Make, list and remove tags: names of commits that stay."""


@tag.command("create")
@click.option("-m", "--message", default="", help="What the tag stands for.")
@click.argument("name")
@click.argument("commit", required=False)
@with_repository
def tag_create(repository: Repository, name: str, commit: str | None, message: str) -> None:
    """Name a commit NAME, for good.

    COMMIT is a branch, the first digits of a commit, a tag, or BRANCH@{N} for what a branch was N moves ago. By
    default it is the head of the branch that is written to.
    """
    made = repository.create_tag(name, commit, message)
    click.echo(f"Tag {made.name} is at {made.digest[:12]}.")


@tag.command("delete")
@click.argument("name")
@with_repository
def tag_delete(repository: Repository, name: str) -> None:
    """Remove the tag NAME. Its commit stays while a branch or another tag reaches it."""
    gone = repository.delete_tag(name)
    click.echo(f"Tag {gone.name} is removed; it was at {gone.digest[:12]}.")


@tag.command("list")
@with_repository
def tag_list(repository: Repository) -> None:
    """List all tags, with the commit and the message of each."""
    for each in repository.list_tags():
        click.echo(f"{each.name}  {each.digest[:12]}  {each.message}".rstrip())


@click.command(cls=GuardedCommand)
@click.option("-n", "--limit", type=click.IntRange(min=0), help="Show so many entries at most.")
@click.argument("branchname", required=False)
@with_repository
def reflog(repository: Repository, branchname: str | None, limit: int | None) -> None:
    """Show every move of a branch, the newest first.

    BRANCHNAME may be a branch that was deleted; by default it is the one that is written to. The name at the
    beginning of each line can be given wherever a commit can.
    """
    for entry in repository.reflog(branchname or "", limit):
        time = f"{entry.time:%Y-%m-%d %H:%M:%S} UTC"
        click.echo(f"{entry.name}  {entry.commit[:12] or '-' * 12}  {entry.action}  {time}  {entry.author}".rstrip())
