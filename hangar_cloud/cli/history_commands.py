"""What is staged, what was committed, and committing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.names import start_at
from hangar_cloud.cli.pager import page

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_TEMPLATE: Final = (
    "\n# What does this commit change? Lines that start with # are left out. An empty message commits nothing.\n"
)


@click.command(cls=GuardedCommand)
@json_option(
    repository="the folder or URL",
    branch="the branch that is written to",
    head="digest of its commit; null before the first",
    clean="true if nothing is staged",
    writer_open="true if a process on this machine has the repository open for writing",
    staged="a list of staging areas: branch, base (digest or null), interrupted, and columns (name, action, kind, "
    "added, changed, removed, backend_changed, schema_changed)",
    unreadable="why staging areas could not be read, where a writer was in the middle of something",
    remotes="a list of this branch at remotes, as last seen: branch, and how many commits this one is ahead and behind "
    "(null where that was not counted)",
    stashes="how many stashes there are",
)
@with_repository
def status(repository: Repository, as_json: bool) -> None:
    """Show what the next commit would change, and what to do next."""
    from hangar_cloud.catalog.stashes import Stashes
    from hangar_cloud.cli.documents import status_document
    from hangar_cloud.cli.status_text import status_lines
    from hangar_cloud.status import compare_with_remotes, read_status

    storage = repository._storage
    found = read_status(storage, repository._branches.current())
    remotes = compare_with_remotes(storage, found.branch, found.head)
    stashes = len(Stashes(storage.root).all())
    if as_json:
        print_json(status_document(found, storage.location, remotes, stashes))
        return
    for line in status_lines(found, remotes, stashes):
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
@click.option(
    "--on-conflict",
    type=click.Choice(["rebase", "fail", "ours", "theirs"]),
    default="rebase",
    show_default=True,
    help="If another writer moved the branch: put the staged changes on top where they do not contradict, fail, or "
    "let one side win in each sample that both changed.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Name of this piece of work: if the branch holds a commit made with it, nothing is committed again.",
)
@with_repository
def commit(repository: Repository, messages: tuple[str, ...], on_conflict: str, idempotency_key: str | None) -> None:
    """Record what is staged as a commit.

    It goes on top of the branch that is written to; `hangar status` names it. Without -m, an editor is opened
    for the message.
    """
    message = "\n".join(messages) if messages else _edited()
    if not message.strip():
        raise click.ClickException("nothing was committed: the message is empty")
    with writing(repository) as writer:
        digest = writer.commit(message, on_conflict=on_conflict, idempotency_key=idempotency_key)
        where = writer.branch_name
    click.echo(f"Committed to branch {where}: {click.style(digest[:12], fg='yellow')}")


@click.command(cls=GuardedCommand)
@click.option("-n", "--limit", type=click.IntRange(min=0), help="Show so many commits at most.")
@click.option("--time", "show_time", is_flag=True, help="Say when each was made.")
@click.option("--user", "show_user", is_flag=True, help="Say by whom.")
@json_option(
    head="digest of the commit that the log starts at; null where there is none",
    commits="a list, children before parents: digest, parents, message, time (UTC, ISO 8601), author, email, branches, "
    "tags",
)
@click.argument("startpoint", required=False, shell_complete=completing.commits)
@with_repository
def log(
    repository: Repository,
    startpoint: str | None,
    limit: int | None,
    show_time: bool,
    show_user: bool,
    as_json: bool,
) -> None:
    """Draw the graph of commits.

    It starts at STARTPOINT, a branch, a tag, or the first digits of a commit, and goes back. Without STARTPOINT, it
    shows those of the branch that is written to.
    """
    from hangar_cloud.cli.documents import log_document
    from hangar_cloud.cli.log_text import log_lines

    contents = repository.log(**start_at(repository, startpoint), return_contents=True)  # type: ignore[arg-type]
    if contents is None and as_json:
        print_json({"head": None, "commits": []})
    elif contents is None:
        click.echo("No commits have been made yet.")
    elif as_json:
        print_json(log_document(contents, _tags(repository), limit))
    else:
        page(log_lines(contents, _tags(repository), limit, show_time, show_user))


@click.command(cls=GuardedCommand)
@json_option(
    repository="the folder or URL",
    nbytes="bytes that the repository takes; null where its store cannot list",
    commit="digest, parents, message, time, author and email; null before the first",
    columns="a list of the commit's columns: column, type, layout, schema_type, dtype, shape, backend, "
    "backend_options, samples",
)
@click.argument("startpoint", required=False, shell_complete=completing.commits)
@with_repository
def summary(repository: Repository, startpoint: str | None, as_json: bool) -> None:
    """Show the columns of a commit.

    STARTPOINT is a branch, a tag, or the first digits of a commit. Without it, the columns are those of the branch
    that is written to.
    """
    start = start_at(repository, startpoint)
    if not as_json:
        page(repository._summary_lines(**start))
        return
    from hangar_cloud.cli.documents import column_document, commit_document

    storage = repository._storage
    head = storage.head(repository._branches.current()) if not start else None
    digest = repository._branches.find(next(iter(start.values()))) if start else head and head.commit
    found = storage.commit(digest) if digest else None
    columns = found.columns if found else {}
    print_json(
        {
            "repository": storage.location,
            "nbytes": repository.size_nbytes if storage.store.can_list else None,
            "commit": commit_document(digest, found) if digest and found else None,
            "columns": [column_document(name, entry, entry.count) for name, entry in columns.items()],
        }
    )


def _tags(repository: Repository) -> dict[str, list[str]]:
    """Names of tags by digest. In a bucket each costs a round trip, and a log does not wait for that."""
    found: dict[str, list[str]] = {}
    if not repository._storage.is_bucket:
        for tag in repository.list_tags():
            found.setdefault(tag.digest, []).append(tag.name)
    return found


def _edited() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError('give a message: hangar commit -m "what changed"')
    text = click.edit(_TEMPLATE) or ""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
