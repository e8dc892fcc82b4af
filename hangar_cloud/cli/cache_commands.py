"""The cache of this machine: what was copied from buckets, and can be fetched again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedGroup
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.names import parse_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from hangar_cloud.repository import Repository


@click.group(cls=GuardedGroup)
def cache() -> None:
    """Look at, limit and empty what was copied to this machine.

    Of a bucket, that is all that was read of it; of a clone, the parts of packs that were read from its remotes. What
    is only here, and what `hangar fetch-data` brought into a clone as a whole, is no cache.
    """


@cache.command("show")
@json_option(
    folder="where this repository's files are on this machine",
    nbytes="bytes of disk that the cache takes",
    files="number of files in it",
    limit="bytes that it may take; null for no limit",
)
@with_repository
def cache_show(repository: Repository, as_json: bool) -> None:
    """Show where the cache is, its size and its limit."""
    from hangar_cloud.reports import human_size

    storage = repository._storage
    files, nbytes = _measure(storage.cache_folders)
    limit = storage.config().cache_limit
    if as_json:
        print_json({"folder": str(storage.root), "nbytes": nbytes, "files": files, "limit": limit})
        return
    click.echo(f"Folder: {storage.root}")
    click.echo(f"Cached: {human_size(nbytes)} in {files:,} files")
    click.echo(f"Limit:  {'none' if limit is None else human_size(limit)}")
    if not storage.cache_folders:
        click.echo("Nothing of this repository is cached: its files are on this machine.")


@cache.command("limit")
@click.argument("size", metavar="SIZE|none")
@with_repository
def cache_limit(repository: Repository, size: str) -> None:
    """Limit the cache to SIZE, such as 20GB, from now on; `none` lifts the limit.

    Whoever opens the repository on this machine keeps to it, unless the program says cache_size=... itself. What was
    used longest ago goes first. Programs that have the repository open now go on as they began.
    """
    from hangar_cloud.reports import human_size

    storage = repository._storage
    limit = None if size.lower() == "none" else parse_bytes(size)
    if limit == 0:
        raise click.UsageError("a cache of no bytes cannot be; `hangar cache clear` empties it")
    config = storage.config()
    config.cache_limit = limit
    config.save()
    if limit is not None:
        storage.limit_cache(limit).evict()
    click.echo("The cache has no limit." if limit is None else f"The cache is limited to {human_size(limit)}.")


@cache.command("clear")
@with_repository
def cache_clear(repository: Repository) -> None:
    """Delete what is cached. Nothing is lost: what is read again is fetched again."""
    from hangar_cloud.reports import human_size

    storage = repository._storage
    _, before = _measure(storage.cache_folders)
    if before:
        storage.limit_cache(1).evict()
    _, after = _measure(storage.cache_folders)
    click.echo(f"Freed {human_size(before - after)}.")
    if after:
        click.echo(f"{human_size(after)} stay: other programs are using them at this moment.")


def _measure(folders: list[Path]) -> tuple[int, int]:
    """Number of files, and bytes of disk that they really take."""
    files = [path.lstat() for folder in folders for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(status.st_blocks * 512 for status in files)
