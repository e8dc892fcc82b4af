"""Tags, and what branches were before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand, GuardedGroup
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.pager import page

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository
    from hangar_cloud.revisions import ReflogEntry


@click.group(cls=GuardedGroup)
def tag() -> None:
    """Make, list, push and remove tags: names of commits that stay."""


@tag.command("create")
@click.option("-m", "--message", default="", help="What the tag stands for.")
@click.argument("name")
@click.argument("commit", required=False, shell_complete=completing.commits)
@with_repository
def tag_create(repository: Repository, name: str, commit: str | None, message: str) -> None:
    """Name a commit NAME, for good.

    COMMIT is a branch, the first digits of a commit, a tag, or BRANCH@{N} for what a branch was N moves ago. By
    default it is the head of the branch that is written to.
    """
    made = repository.create_tag(name, commit, message)
    click.echo(f"Tag {made.name} is at {made.digest[:12]}.")


@tag.command("push")
@click.argument("remote", shell_complete=completing.remotes)
@click.argument("name", shell_complete=completing.tags)
@with_repository
def tag_push(repository: Repository, remote: str, name: str) -> None:
    """Upload the tag NAME to REMOTE, with the history and data behind it."""
    click.echo(f"Pushed tag {repository.remote.push_tag(remote, name)} to {remote}.")


@tag.command("delete")
@click.argument("name", shell_complete=completing.tags)
@with_repository
def tag_delete(repository: Repository, name: str) -> None:
    """Remove the tag NAME. Its commit stays while a branch or another tag reaches it."""
    gone = repository.delete_tag(name)
    click.echo(f"Tag {gone.name} is removed; it was at {gone.digest[:12]}.")


@tag.command("list")
@json_option(tags="a list: name, commit (digest), message, author, time (UTC, ISO 8601)")
@with_repository
def tag_list(repository: Repository, as_json: bool) -> None:
    """List all tags, with the commit and the message of each."""
    tags = repository.list_tags()
    if as_json:
        known = [each._asdict() for each in tags]
        print_json({"tags": [{"name": each.pop("name"), "commit": each.pop("digest"), **each} for each in known]})
    else:
        page(f"{each.name}  {click.style(each.digest[:12], fg='yellow')}  {each.message}".rstrip() for each in tags)


@click.command(cls=GuardedCommand)
@click.option("-n", "--limit", type=click.IntRange(min=0), help="Show so many entries at most.")
@json_option(
    branch="name of the branch",
    entries="a list, the newest first: name (as it can be given for a commit), commit (digest or null), action, time "
    "(UTC, ISO 8601), author",
)
@click.argument("branchname", required=False, shell_complete=completing.branches)
@with_repository
def reflog(repository: Repository, branchname: str | None, limit: int | None, as_json: bool) -> None:
    """Show every move of a branch, the newest first.

    BRANCHNAME may be a branch that was deleted; by default it is the one that is written to. The name at the
    beginning of each line can be given wherever a commit can.
    """
    branch = branchname or repository._branches.current()
    entries = repository.reflog(branch, limit)
    if as_json:
        from hangar_cloud.cli.documents import reflog_document

        print_json(reflog_document(branch, entries))
    else:
        page(map(_reflog_line, entries))


def _reflog_line(entry: ReflogEntry) -> str:
    commit = click.style(entry.commit[:12] or "-" * 12, fg="yellow")
    return f"{entry.name}  {commit}  {entry.action}  {entry.time:%Y-%m-%d %H:%M:%S} UTC  {entry.author}".rstrip()
