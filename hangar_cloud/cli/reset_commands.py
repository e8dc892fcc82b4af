"""Giving up what is staged, all of it or in part."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.sample_keys import choose_key, parse_sample_key

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository
    from hangar_cloud.restoring import Restoring


@click.command(cls=GuardedCommand)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_repository
def reset(repository: Repository, yes: bool) -> None:
    """Give up everything that is staged.

    What was committed stays. To put changes away and not lose them, use `hangar stash save`; to take back some of
    them only, `hangar restore`; to move a branch to another commit, `hangar branch reset`.
    """
    with closing(repository.checkout(write=True)) as writer:
        where = writer.branch_name
        if not yes and writer.diff.status() == "DIRTY":
            _confirm(f"Give up all that is staged on branch {where}?")
        digest = writer.reset_staging_area()
    click.echo(f"Nothing is staged any more. Branch {where} is at {digest[:12] or 'no commit'}.")


@click.command(cls=GuardedCommand)
@click.option(
    "--from",
    "source",
    metavar="COMMIT",
    shell_complete=completing.commits,
    help="What is brought back is as it was there: a branch, a tag, or the first digits of a commit. Default: the "
    "commit that the staged changes are on top of.",
)
@click.argument("column", shell_complete=completing.columns)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@with_repository
def restore(repository: Repository, column: str, keys: tuple[str, ...], source: str | None) -> None:
    """Take a column or samples back to what a commit has.

    COLUMN as a whole is taken back, or each KEY of it. What was staged of it is given up, and what COMMIT does not
    have goes. In a nested column a KEY is a sample with all its subsamples, or SAMPLE:SUBSAMPLE. Where a
    number 7 and a text 7 are there, int:7 and str:7 tell them apart. COLUMN may be metadata too. No data is moved: with
    --from, the samples of an old commit are staged as they are stored.
    """
    from hangar_cloud.restoring import Restoring

    digest = repository._branches.find(source) if source else None
    with closing(repository.checkout(write=True)) as writer:
        restoring = Restoring(repository._storage, writer._working, digest or writer.commit_hash or None)
        if keys:
            count = restoring.samples(column, [_key(restoring, column, text) for text in keys])
            what = f"{count:,} sample{'' if count == 1 else 's'} of column {column}"
        else:
            restoring.column(column)
            what = f"Column {column}"
        state = writer.diff.status()
    left = "nothing is staged any more" if state == "CLEAN" else "`hangar status` shows what is staged now"
    click.echo(f"{what} restored; {left}.")


def _key(restoring: Restoring, column: str, text: str) -> Any:
    typed = parse_sample_key(text)
    if typed is None:
        raise click.UsageError(f"{text!r} names no sample; write KEY, or SAMPLE:SUBSAMPLE")
    return choose_key(column, typed, lambda key: restoring.has(column, key))


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.ClickException("nobody can be asked here whether to go on; give --yes to give it up without asking")
    click.confirm(question, abort=True)
