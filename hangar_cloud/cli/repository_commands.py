"""Making repositories, and freeing their lock."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli.context import with_place, with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.names import full_address

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


def _ask(_ctx: click.Context, parameter: click.Parameter, value: str | None) -> str:
    """The option's value; asked for where it was not given."""
    if value is not None:
        return value
    try:
        answer: str = click.prompt(f"Your {parameter.name}", err=True)
    except click.Abort as abort:
        if isinstance(abort.__context__, EOFError):
            click.echo(err=True)
            variable = f"HANGAR_USER_{(parameter.name or '').upper()}"
            raise click.UsageError(
                f"give --{parameter.name}, or set {variable}: it is recorded in every commit"
            ) from None
        raise
    return answer


def _identity(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say who commits from here."""
    helps = {"email": "Your email address, recorded likewise.", "name": "Your name, recorded in every commit."}
    for option, text in helps.items():
        variable = f"HANGAR_USER_{option.upper()}"
        command = click.option(
            f"--{option}",
            metavar=f"<{option}>",
            envvar=variable,
            callback=_ask,
            help=f"{text} Default: {variable} in the environment, else it is asked for.",
        )(command)
    return command


@click.command(cls=GuardedCommand)
@_identity
@click.option("--overwrite", is_flag=True, help="Delete a repository that is here already, with all its data.")
@with_place
def init(repository: Repository, name: str, email: str, overwrite: bool) -> None:
    """Make an empty repository in this folder.

    With -C, in another folder or directly in a bucket.
    """
    repository.init(user_name=name, user_email=email, remove_old=overwrite)


@click.command(cls=GuardedCommand)
@_identity
@click.option("--overwrite", is_flag=True, help="Delete a repository that is here already, with all its data.")
@click.argument("remote")
@with_place
def clone(repository: Repository, name: str, email: str, overwrite: bool, remote: str) -> None:
    """Copy a repository's history into this folder.

    REMOTE is the URL of its bucket. Samples stay in the bucket: each comes when it is read. To bring many at
    once, see `hangar fetch-data`.
    """
    branch = repository.clone(name, email, full_address(remote), remove_old=overwrite)
    click.echo(f"On branch {branch}. Samples come when they are read; `hangar fetch-data origin {branch}` brings all.")


@click.command("writer-lock", cls=GuardedCommand)
@click.option(
    "--force-release",
    is_flag=True,
    help="Take the lock from whoever holds it. That process can write no more; what it has staged stays.",
)
@with_repository
def writer_lock_held(repository: Repository, force_release: bool) -> None:
    """Say whether a writer is open.

    The lock is held while a process on this machine has the repository open for writing. A process that dies
    frees the lock by itself.
    """
    if force_release:
        with warnings.catch_warnings():
            # The person who typed the option knows.
            warnings.simplefilter("ignore", ResourceWarning)
            repository.force_release_writer_lock()
        click.echo("The writer lock is released.")
    elif repository.writer_lock_held:
        click.echo("The writer lock is held: a process has the repository open for writing.")
    else:
        click.echo("The writer lock is free.")
