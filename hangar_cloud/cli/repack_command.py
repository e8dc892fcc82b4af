"""Merging small objects into large ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.json_output import json_option, print_json

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.option("--dry-run", is_flag=True, help="Write nothing, and tell what would be done.")
@json_option(
    dry_run="true if nothing was written",
    before="objects and bytes in use, by kind: records, packs",
    merged="those of them that were small or mostly dead, and were copied (or would be)",
    made="the new objects; in a dry run an estimate",
    after="what will be in use once the old ones were collected",
    freed="objects and bytes that `hangar gc` has to delete afterwards",
)
@with_repository
def repack(repository: Repository, dry_run: bool, as_json: bool) -> None:
    """Merge small packs and record files.

    Those of which less than half is in use are copied too, without their dead bytes. No commit changes, and others may
    read and write meanwhile. The old objects stay until `hangar gc` finds that nothing needs them any more.
    """
    report = repository.repack(dry_run)
    if as_json:
        from hangar_cloud.cli.documents import repack_document

        print_json(repack_document(report))
    else:
        click.echo(repr(report))
