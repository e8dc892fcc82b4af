"""What is staged, what was committed, and committing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.names import start_at

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_TEMPLATE: Final = (
    "\n# What does this commit change? Lines that start with # are left out. An empty message commits nothing.\n"
)


@click.command(cls=GuardedCommand)
@with_repository
def status(repository: Repository) -> None:
    """Show what the next commit would change."""
    from hangar_cloud.cli.status_text import status_lines
    from hangar_cloud.status import read_status

    for line in status_lines(read_status(repository._storage, repository._branches.current())):
        click.echo(line)


@click.command(cls=GuardedCommand)
@click.option(
    "-m",
    "--message",
    "messages",
    metavar="<message>",
    multiple=True,
    help="What changed. Given several times, each is a line.",
)
@with_repository
def commit(repository: Repository, messages: tuple[str, ...]) -> None:
    """Record what is staged as a commit.

    It goes on top of the branch that is written to; `hangar status` names it. Without -m, an editor is opened
    for the message.
    """
    message = "\n".join(messages) if messages else _edited()
    if not message.strip():
        raise click.ClickException("nothing was committed: the message is empty")
    with writing(repository) as writer:
        digest = writer.commit(message)
        where = writer.branch_name
    click.echo(f"Committed to branch {where}: {click.style(digest, fg='yellow')}")


@click.command(cls=GuardedCommand)
@click.argument("startpoint", required=False)
@with_repository
def log(repository: Repository, startpoint: str | None) -> None:
    """Draw the graph of commits.

    It starts at STARTPOINT, a branch, a tag, or the first digits of a commit, and goes back. Without STARTPOINT, it
    shows those of the branch that is written to.
    """
    from hangar_cloud.reports import log_lines

    contents = repository.log(**start_at(repository, startpoint), return_contents=True)  # type: ignore[arg-type]
    if contents is None:
        click.echo("No commits have been made yet.")
        return
    for line in log_lines(contents):
        digest = next((word for word in line.split() if word in contents["specs"]), "")
        click.echo(line.replace(digest, click.style(digest, fg="yellow"), 1) if digest else line)


@click.command(cls=GuardedCommand)
@click.argument("startpoint", required=False)
@with_repository
def summary(repository: Repository, startpoint: str | None) -> None:
    """Show the columns of a commit.

    STARTPOINT is a branch, a tag, or the first digits of a commit. Without it, the columns are those of the branch
    that is written to.
    """
    repository.summary(**start_at(repository, startpoint))


def _edited() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError('give a message: hangar commit -m "what changed"')
    text = click.edit(_TEMPLATE) or ""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
