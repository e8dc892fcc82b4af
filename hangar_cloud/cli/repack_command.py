"""Merging small objects into large ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.option("--dry-run", is_flag=True, help="Write nothing, and tell what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
@with_repository
def repack(repository: Repository, dry_run: bool, as_json: bool) -> None:
    """Merge small packs and record files.

    Those of which less than half is in use are copied too, without their dead bytes. No commit changes, and others may
    read and write meanwhile. The old objects stay until `hangar gc` finds that nothing needs them any more.
    """
    report = repository.repack(dry_run)
    if as_json:
        import json

        counts = {name: getattr(report, name) for name in ("before", "merged", "made", "after")}
        told = {name: {kind: count._asdict() for kind, count in by.items()} for name, by in counts.items()}
        click.echo(json.dumps({"dry_run": report.dry_run, **told, "freed": report.freed._asdict()}))
    else:
        click.echo(repr(report))
