"""How a command gets its repository: the one it is given as click's ``obj``, or the one in the folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hangar_cloud.repository import Repository
    from hangar_cloud.writer_checkout import WriterCheckout


@dataclass(frozen=True)
class Settings:
    """What the options before the command say about the repository."""

    location: str = "."
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    offline: bool = False
    branch: str | None = None


def place_of(ctx: click.Context) -> Repository:
    """The repository that a command is about, whether it was made already or not."""
    from hangar_cloud.repository import Repository

    given = ctx.obj if ctx.obj is not None else Settings()
    if not isinstance(given, Settings):
        repository: Repository = given
        return repository
    options = given.storage_options
    repository = Repository(given.location, exists=False, storage_options=options, offline=given.offline)
    if given.branch is not None:
        if not repository._storage.is_bucket:
            raise click.UsageError(
                f"--branch is for buckets and URLs; `hangar checkout {given.branch}` chooses the branch of a folder"
            )
        repository._branches.chosen = given.branch
    return repository


def with_place(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its repository as the first argument, though there may be nothing there yet."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **arguments: Any) -> None:
        command(place_of(ctx), **arguments)

    return run


def with_repository(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its repository as the first argument; an error where there is none."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **arguments: Any) -> None:
        repository = place_of(ctx)
        if not repository.initialized:
            repository._storage.refuse_lost_file()
            raise click.ClickException(_nothing_here(repository._storage.location))
        if repository._branches.chosen is not None:
            repository._branches.pointer(repository._branches.chosen)
        command(repository, **arguments)

    return run


def writing(repository: Repository, branch: str = "") -> AbstractContextManager[WriterCheckout]:
    """A writer checkout that is closed after the block."""
    return closing(repository.checkout(write=True, branch=branch))


def _nothing_here(location: str) -> str:
    message = f"there is no Hangar repository at {location}; `hangar init` makes one, `hangar clone URL` copies one"
    if "://" not in location and Path(location, "hangar.json").is_file():
        return (
            f"{location} is a store that was pushed to; open it as `hangar -C {Path(location).as_uri()}`, or clone it"
        )
    if "://" not in location:
        above = next((folder for folder in Path(location).parents if (folder / ".hangar").is_dir()), None)
        if above is not None:
            message += f". There is one in {above}: go there, or use `hangar -C {above}`"
    return message
