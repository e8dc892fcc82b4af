"""Bringing samples to this machine before they are read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing, fetching_options
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.names import parse_size, start_at
from hangar_cloud.cli.sample_keys import choose_key, parse_place

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository
    from hangar_cloud.storage import Storage


@click.command(cls=GuardedCommand)
@fetching_options.only_columns
@click.option(
    "-k", "--sample", "samples", metavar="PLACE", multiple=True, help="Only this sample, COLUMN:KEY; may be repeated."
)
@click.option("-n", "--nbytes", metavar="<nbytes>", callback=parse_size, help="At most this much, such as 500MB.")
@fetching_options.all_history
@click.option(
    "--remote", metavar="NAME", shell_complete=completing.remotes, help="Where from, if a clone has several remotes."
)
@click.argument("startpoint", required=False, shell_complete=completing.commits)
@with_repository
def prefetch(
    repository: Repository,
    columns: tuple[str, ...],
    samples: tuple[str, ...],
    nbytes: int | None,
    all_history: bool,
    remote: str | None,
    startpoint: str | None,
) -> None:
    """Bring samples here before they are read.

    They are those of STARTPOINT, a branch, a tag, or the first digits of a commit; by default of the branch that is
    written to. In a clone this is what `hangar fetch-data` does, from its only remote; of a bucket, they go to the
    cache of this machine. A sample is COLUMN:KEY, of a nested column also COLUMN:SAMPLE:SUBSAMPLE.
    """
    if samples and (columns or all_history or nbytes is not None):
        raise click.UsageError("--sample names all that is fetched; give it without --column, --nbytes, --all-history")
    start = start_at(repository, startpoint or repository._branches.current(), remote)
    digest = repository._branches.find(next(iter(start.values())))
    if repository._storage.is_bucket:
        _into_cache(repository, digest, columns, samples, nbytes, all_history)
    else:
        name = remote or _only_remote(repository)
        for column, keys in _by_column(repository._storage, digest, samples).items():
            repository.remote.fetch_data_sample(name, column, keys, commit=digest)
        if not samples:
            repository.remote.fetch_data(
                name,
                commit=digest,
                column_names=list(columns) or None,
                max_num_bytes=nbytes,
                retrieve_all_history=all_history,
            )
    whole = f"the samples of {', '.join(columns)}" if columns else "all samples"
    what = "those samples" if samples else whole
    size = " (as far as the size allows)" if nbytes is not None else ""
    click.echo(f"Of commit {digest[:12]}, {what} are here{size}.")


def _into_cache(
    repository: Repository,
    digest: str,
    columns: tuple[str, ...],
    samples: tuple[str, ...],
    nbytes: int | None,
    all_history: bool,
) -> None:
    from hangar_cloud import transfer
    from hangar_cloud.catalog import history

    storage = repository._storage
    storage.refuse_offline("fetch anything")
    for column, keys in _by_column(storage, digest, samples).items():
        transfer.fetch_samples(storage, digest, column, keys)
    if not samples and not storage.reads_in_place:
        commits = list(history.ancestors([digest], storage.commit)) if all_history else [digest]
        transfer.fetch_data(storage, storage.store, commits, list(columns) or None, nbytes)


def _only_remote(repository: Repository) -> str:
    names = [known.name for known in repository.remote.list_all()]
    if "origin" in names or len(names) == 1:
        return "origin" if "origin" in names else names[0]
    if not names:
        raise click.ClickException(
            "there is no remote to fetch from: everything is here already, unless `hangar remote add` names one"
        )
    raise click.UsageError(f"say which remote is meant: --remote {', --remote '.join(names)}")


def _by_column(storage: Storage, digest: str, samples: tuple[str, ...]) -> dict[str, list[Any]]:
    from hangar_cloud import transfer

    found: dict[str, list[Any]] = {}
    for text in samples:
        column, typed = parse_place(text)
        key = choose_key(column, typed, partial(transfer.has_sample, storage, digest, column))
        found.setdefault(column, []).append(key)
    return found
