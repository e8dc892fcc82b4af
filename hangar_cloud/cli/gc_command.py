"""Deleting what nothing refers to any more."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.json_output import json_option, print_json

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_DURATION: Final = re.compile(r"(\d{1,6}) ?([smhdw])", re.ASCII)


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    match = _DURATION.fullmatch(value.strip())
    if match is None and value.strip() != "0":
        raise click.BadParameter(f"{value!r} is not a time such as 90s, 15m, 24h, 30d or 2w")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]] if match else 0)


@click.command(cls=GuardedCommand)
@click.option("--dry-run", is_flag=True, help="Delete nothing, and tell what would be deleted.")
@click.option(
    "--grace",
    callback=_duration,
    metavar="TIME",
    default="24h",
    show_default=True,
    help="Keep what is younger, by the clock of the store.",
)
@click.option(
    "--keep-reflog",
    callback=_duration,
    metavar="TIME",
    default="30d",
    show_default=True,
    help="How long deleted and moved branches can be brought back.",
)
@click.option("--names", is_flag=True, help="Print the name of each object too.")
@json_option(
    dry_run="true if nothing was deleted",
    removed="objects and bytes that were deleted (or would be), by kind: commits, records, packs",
    total="of all kinds together",
    names="names of these objects",
    young="objects and bytes that nothing refers to and that are younger than the grace time",
    rescued="names of what nothing referred to at first, and a writer then did",
    unknown="number of objects that no version known here writes",
    reachable="number of objects that are referred to, by kind",
)
@with_repository
def gc(
    repository: Repository, dry_run: bool, grace: timedelta, keep_reflog: timedelta, names: bool, as_json: bool
) -> None:
    """Delete what nothing refers to any more.

    What a branch or a tag reaches stays, and so do staged changes and stashes. Others may write to a bucket
    meanwhile. TIME is a number and s, m, h, d or w.
    """
    report = repository.gc(dry_run, grace=grace, keep_reflog=keep_reflog)
    if as_json:
        from hangar_cloud.cli.documents import gc_document

        print_json(gc_document(report))
        return
    if names:
        for name in report.names:
            click.echo(name)
    click.echo(repr(report))
