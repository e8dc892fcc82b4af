"""Serving a repository to readers."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import click

from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.option("--overwrite", is_flag=True, help="Of Hangar's server, and does nothing here: this one writes nothing.")
@click.option("--ip", metavar="<ip>", default="localhost", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    metavar="<port>",
    type=click.IntRange(0, 65535),
    default=50051,
    show_default=True,
    help="Port to listen at; 0 takes any that is free.",
)
@click.option(
    "--timeout",
    metavar="<timeout>",
    type=click.FloatRange(0),
    default=86400,
    show_default=True,
    help="Seconds until the server ends by itself; 0 is never.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print each request.")
@with_repository
def server(repository: Repository, overwrite: bool, ip: str, port: int, timeout: float, verbose: bool) -> None:
    """Let others read this repository over HTTP.

    `Repository("http://host:port")`, `hangar clone http://host:port` and browsers can read it, as long as this runs;
    Control-C ends it. Nobody can write through it, and nothing but the repository's objects is given out: nothing
    staged, no settings. There are no passwords and no encryption: who reaches the address can read everything. It
    listens on this machine only, unless --ip says more, such as 0.0.0.0 for everybody in the network.
    """
    from hangar_cloud.http_index import index_page
    from hangar_cloud.http_server import RepositoryServer

    if overwrite:
        click.echo("--overwrite does nothing: this server only reads.", err=True)
    storage = repository._storage
    if not storage.is_bucket and storage.config().remotes:
        click.echo(
            "This repository has a remote: readers get what is on this machine. `hangar fetch-data` brings what is "
            "missing.",
            err=True,
        )
    log = (lambda line: click.echo(line, err=True)) if verbose else None
    running = RepositoryServer(storage.store, lambda: index_page(repository, running.url), ip, port, log)
    if not running.is_private:
        click.echo("Everybody who reaches this machine can read the repository.", err=True)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        click.echo(f"Serving {storage.location} at {running.url} (read-only; Control-C ends it)")
        running.serve(timeout or None)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    click.echo("The server has ended.")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
