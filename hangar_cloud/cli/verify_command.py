"""Checking that nothing of a repository is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.json_output import json_option, print_json

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.option(
    "--level",
    type=click.Choice(["all", "records"]),
    default="all",
    show_default=True,
    help="How deep to look; `records` is everything but the samples' bytes.",
)
@json_option(
    damaged="true if any finding is damage; the exit code is 1 then",
    findings="a list: kind, object, column, key, commit, message, is_damage",
)
@click.option("--restart", is_flag=True, help="Read everything again, even if a check was interrupted.")
@click.option("--fetch", is_flag=True, help="Read what is not on this machine from the remotes; nothing of it is kept.")
@with_repository
def verify(repository: Repository, level: str, as_json: bool, restart: bool, fetch: bool) -> None:
    """Check that nothing is damaged.

    Everything that a branch reaches is read and compared with its digest. Nothing is changed. The exit code
    is 1 if there is damage. A check that was interrupted goes on where it was.
    """
    from hangar_cloud.integrity import report_lines

    findings = repository.fsck(level=level, resume=not restart, fetch=fetch)
    if as_json:
        from hangar_cloud.cli.documents import verify_document

        print_json(verify_document(findings))
    else:
        for line in report_lines(findings):
            click.echo(line)
    if any(finding.is_damage for finding in findings):
        raise click.exceptions.Exit(1)
    if not as_json:
        click.echo(_all_is_well(level, any(finding.kind == "remote" for finding in findings)))


def _all_is_well(level: str, in_part: bool) -> str:
    verdict = "Nothing that was checked is damaged" if in_part else "Nothing is damaged"
    return f"{verdict}." if level == "all" else f"{verdict}; the samples' bytes were not read."
