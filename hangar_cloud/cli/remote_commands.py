"""Remotes: naming the buckets that a repository is shared through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedGroup
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.names import full_address

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.group(cls=GuardedGroup)
def remote() -> None:
    """Add, list, remove and ping remotes."""


@remote.command("add")
@click.argument("name")
@click.argument("address")
@with_repository
def add_remote(repository: Repository, name: str, address: str) -> None:
    """Remember the bucket at the URL ADDRESS as NAME.

    The bucket has to exist; it is not looked at before it is used. To change an address, remove the remote and
    add it again.
    """
    added = repository.remote.add(name, full_address(address))
    click.echo(f"Remote {added.name} is {added.address}. `hangar push {added.name} BRANCH` uploads a branch to it.")


@remote.command("list")
@json_option(remotes="a list: name, address")
@with_repository
def list_remotes(repository: Repository, as_json: bool) -> None:
    """List the remotes with their addresses."""
    remotes = repository.remote.list_all()
    if as_json:
        print_json({"remotes": [known._asdict() for known in remotes]})
        return
    width = max((len(known.name) for known in remotes), default=0)
    for known in remotes:
        click.echo(f"{known.name:<{width}}  {known.address}")
    if not remotes:
        click.echo("There are no remotes; `hangar remote add NAME URL` adds one.", err=True)


@remote.command("remove")
@click.argument("name", shell_complete=completing.remotes)
@with_repository
def remove_remote(repository: Repository, name: str) -> None:
    """Forget the remote NAME. What was fetched from it stays, and so does the bucket."""
    gone = repository.remote.remove(name)
    click.echo(f"Remote {gone.name} ({gone.address}) is removed.")


@remote.command("ping")
@click.argument("name", shell_complete=completing.remotes)
@with_repository
def ping_remote(repository: Repository, name: str) -> None:
    """Measure one round trip to the remote NAME: can it be reached, and with these credentials?"""
    seconds = repository.remote.ping(name)
    click.echo(f"{name} answered in {seconds * 1000:.1f} ms.")
