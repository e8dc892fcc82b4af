"""Erasing a sample from all of history."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


def _key(text: str) -> int | str:
    """A key as it is typed: digits are a number, and in quotes they are text."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return int(text) if text.isascii() and text.isdigit() else text


@click.command(cls=GuardedCommand)
@click.argument("column", required=False)
@click.argument("key", required=False)
@click.argument("subkey", required=False)
@click.option("--digest", metavar="DIGEST", help="The sample's digest, instead of a column and a key.")
@click.option("--commit", metavar="COMMIT", help="Only the value that KEY has at this commit, branch or tag.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; who reads the sample will see it.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and tell what would be purged.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_repository
def purge(
    repository: Repository,
    column: str | None,
    key: str | None,
    subkey: str | None,
    digest: str | None,
    commit: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Erase a sample from all of history, for good.

    Every value that KEY ever had in COLUMN is erased, and every equal sample under any other key. Commits stay as they
    are, and reading such a sample says when, by whom and why it was purged. A KEY of digits is a number; put quotes
    around it ('"7"' in a shell) where it is text.
    """
    target: dict[str, Any] = {"digest": digest, "column": column, "commit": commit, "reason": reason}
    target["key"] = None if key is None else _key(key)
    target["subkey"] = None if subkey is None else _key(subkey)
    if not (dry_run or yes):
        plan = repository.purge(**target, dry_run=True)
        click.echo(repr(plan))
        if not sys.stdin.isatty():
            raise click.ClickException("nobody can be asked here whether to go on; give --yes to purge without asking")
        click.confirm("Erase this for good?", abort=True)
    click.echo(repr(repository.purge(**target, dry_run=dry_run)))
