"""Erasing a sample from all of history."""

from __future__ import annotations

import sys
from itertools import product
from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.sample_keys import choose_key, parse_key

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command(cls=GuardedCommand)
@click.argument("column", required=False, shell_complete=completing.columns)
@click.argument("key", required=False)
@click.argument("subkey", required=False)
@click.option("--digest", metavar="DIGEST", help="The sample's digest, instead of a column and a key.")
@click.option("--commit", metavar="COMMIT", help="Only the value that KEY has at this commit, branch or tag.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; who reads the sample will see it.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and tell what would be purged.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option(
    dry_run="true if nothing was changed",
    digests="of the samples",
    before="those of them that had been purged before",
    samples="a list of where they were found: column (empty for the metadata), key, digest, commits",
    commits="digests of all commits that hold them",
    branches="living branches whose history holds them",
    tags="likewise",
    rewritten="names of the objects that held their bytes",
    erased="bytes of samples that were erased",
    left="what could not be cleaned on this machine, in words",
)
@with_repository
def purge(
    repository: Repository,
    column: str | None,
    key: str | None,
    subkey: str | None,
    digest: str | None,
    commit: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase a sample from all of history, for good.

    Every value that KEY ever had in COLUMN is erased, and every equal sample under any other key. Commits stay as they
    are, and reading such a sample says when, by whom and why it was purged. Where a number 7 and
    a text 7 are there, int:7 and str:7 tell them apart.
    """
    target: dict[str, Any] = {"digest": digest, "column": column, "commit": commit, "reason": reason}
    target["key"] = None if key is None else _key(repository, column, key, subkey, commit)
    if not (dry_run or yes):
        plan = repository.purge(**target, dry_run=True)
        click.echo(repr(plan), err=as_json)
        if not sys.stdin.isatty():
            raise click.ClickException("nobody can be asked here whether to go on; give --yes to purge without asking")
        click.confirm("Erase this for good?", abort=True)
    report = repository.purge(**target, dry_run=dry_run)
    if as_json:
        from hangar_cloud.cli.documents import purge_document

        print_json(purge_document(report))
    else:
        click.echo(repr(report))


def _key(repository: Repository, column: str | None, key: str, subkey: str | None, commit: str | None) -> Any:
    """The key to purge: where several could be meant, only the one that some commit has."""
    from hangar_cloud.errors import SampleNotFoundError
    from hangar_cloud.purge_targets import Targets, check_target

    typed = parse_key(key) if subkey is None else tuple(product(parse_key(key), parse_key(subkey)))

    def is_there(candidate: Any) -> bool:
        try:
            return bool(Targets(repository._storage).digests(check_target(None, column, candidate, None, commit)))
        except SampleNotFoundError:
            return False

    return choose_key(column or "", typed, is_there)
