"""Moving history and samples between this repository and its remotes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing, fetching_options
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.names import parse_size, start_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.option("--force", is_flag=True, help="Move the remote's branch even where that takes commits off it.")
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "merge", "ours", "theirs"]),
    default="fail",
    show_default=True,
    help="If the remote has commits that BRANCH has not: fail, or merge them into BRANCH and push that; ours and "
    "theirs also settle samples in conflict.",
)
@click.argument("remote", shell_complete=completing.remotes)
@click.argument("branch", shell_complete=completing.branches)
@with_repository
def push(repository: Repository, remote: str, branch: str, force: bool, on_conflict: str) -> None:
    """Upload a branch to a remote.

    REMOTE gets the commits and samples of BRANCH that it lacks. An upload that was cut off goes on where it
    was when the command is run again.
    """
    if force and on_conflict != "fail":
        raise click.UsageError("--force pushes whatever the remote has; give it without --on-conflict")
    push_it = repository.remote.push
    done, moved = _with_warnings(lambda: push_it(remote, branch, force=force, on_conflict=on_conflict))
    if moved:
        click.echo(f"Pushed {done} to {remote}.")


@click.command("fetch", cls=GuardedCommand)
@click.argument("remote", shell_complete=completing.remotes)
@click.argument("branch", shell_complete=completing.branches)
@with_repository
def fetch_records(repository: Repository, remote: str, branch: str) -> None:
    """Get the history of a remote's branch.

    What BRANCH is on REMOTE becomes the branch REMOTE/BRANCH here. Samples stay in the bucket until they are
    read; see `hangar fetch-data`.
    """
    done, moved = _with_warnings(lambda: repository.remote.fetch(remote, branch))
    if moved:
        click.echo(f"Fetched {done}.")


@click.command("fetch-data", cls=GuardedCommand)
@fetching_options.only_columns
@click.option(
    "-n", "--nbytes", metavar="<nbytes>", callback=parse_size, help="At most this much, such as 500MB or 1.5GB."
)
@fetching_options.all_history
@click.argument("remote", shell_complete=completing.remotes)
@click.argument("startpoint", shell_complete=completing.commits)
@with_repository
def fetch_data(
    repository: Repository,
    columns: tuple[str, ...],
    nbytes: int | None,
    all_history: bool,
    remote: str,
    startpoint: str,
) -> None:
    """Bring the samples of a commit here.

    They come from REMOTE. STARTPOINT is a branch, or the first digits of a commit.
    """
    commits = repository.remote.fetch_data(
        remote,
        **start_at(repository, startpoint, remote),
        column_names=list(columns) or None,
        max_num_bytes=nbytes,
        retrieve_all_history=all_history,
    )
    what = f"commit {commits[0][:12]}" if len(commits) == 1 else f"{len(commits)} commits"
    click.echo(f"The samples of {what} are here{' (as far as the size allows)' if nbytes is not None else ''}.")


def _with_warnings(action: Callable[[], Any]) -> tuple[Any, bool]:
    """What an action returns, and whether it did so without a warning that nothing was to be done."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = action()
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return result, not any(issubclass(warning.category, UserWarning) for warning in caught)
