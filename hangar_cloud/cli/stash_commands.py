"""Stashes: putting staged changes away, and bringing them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedGroup
from hangar_cloud.cli.json_output import json_option, print_json

if TYPE_CHECKING:
    from hangar_cloud.catalog.stashes import StashInfo
    from hangar_cloud.repository import Repository


@click.group(cls=GuardedGroup)
def stash() -> None:
    """Put staged changes away, and bring them back.

    Stashes are kept on this machine; they are not pushed.
    """


@stash.command("save")
@click.argument("name")
@with_repository
def save_stash(repository: Repository, name: str) -> None:
    """Put everything that is staged away under NAME.

    The staging area is clean then.
    """
    with writing(repository) as writer:
        info = writer.stash(name)
    click.echo(f"Stashed {_describe(info)}; `hangar stash pop {name}` brings it back.")


@stash.command("list")
@json_option(
    stashes="a list, the newest first: name, time (UTC, ISO 8601), branch, base (digest or null), columns, samples"
)
@with_repository
def list_stashes(repository: Repository, as_json: bool) -> None:
    """Show the stashes, the newest first."""
    from hangar_cloud.catalog.stashes import Stashes

    stashes = Stashes(repository._storage.root).all()
    if as_json:
        from hangar_cloud.cli.documents import stash_document

        print_json(stash_document(stashes))
        return
    for info in stashes:
        click.echo(f"{info.name}  {info.time[:19].replace('T', ' ')} UTC  {_describe(info)}")


@stash.command("pop")
@click.argument("name", required=False, shell_complete=completing.stashes)
@with_repository
def pop_stash(repository: Repository, name: str | None) -> None:
    """Stage the changes of a stash again and forget it: NAME, or the newest.

    They come on top of the branch that is checked out, whatever branch they were made on. If that changed the
    same samples in another way, nothing happens and the stash stays.
    """
    with writing(repository) as writer:
        info = writer.stash.pop(name)
        where = writer.branch_name
    click.echo(f"Stash {info.name} is staged on branch {where} again; `hangar commit` records it.")


@stash.command("drop")
@click.argument("name", shell_complete=completing.stashes)
@with_repository
def drop_stash(repository: Repository, name: str) -> None:
    """Delete the stash NAME, with the changes in it."""
    with writing(repository) as writer:
        writer.stash.drop(name)
    click.echo(f"Dropped stash {name}.")


def _describe(info: StashInfo) -> str:
    samples = "1 sample" if info.samples == 1 else f"{info.samples} samples"
    columns = ", ".join(name or "metadata" for name in info.columns)
    return f"{samples} of {columns} (branch {info.branch}, at {info.base[:12] or 'no commit'})"
