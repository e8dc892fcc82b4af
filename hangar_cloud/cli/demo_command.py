"""`hangar demo`."""

from __future__ import annotations

from pathlib import Path

import click

from hangar_cloud.cli.context import Settings
from hangar_cloud.cli.guard import GuardedCommand


@click.command(cls=GuardedCommand)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with the four MNIST files (*-ubyte.gz). Default: the digits that come with scikit-learn.",
)
@click.option(
    "--bucket",
    metavar="URL",
    help="Push to a new folder in this bucket, such as s3://my-bucket. Default: a folder on this machine.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what the demo makes, in this new folder. Default: all of it is removed at the end.",
)
@click.pass_context
def demo(ctx: click.Context, data: Path | None, bucket: str | None, keep: Path | None) -> None:
    """Show in half a minute what this is about.

    Real images of digits go into a repository, are committed, changed on a branch, and pushed to a bucket. A
    clone of that bucket then reads a single image, and the bytes that this moves are counted.
    """
    from hangar_cloud.demo import Demo

    options = ctx.obj.storage_options if isinstance(ctx.obj, Settings) else {}
    Demo(data, bucket, keep, options).run()
