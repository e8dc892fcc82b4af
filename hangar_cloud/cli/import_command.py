"""Importing files and datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.plugin_options import PASS_ON, split_options
from hangar_cloud.cli.shell_advice import advice_in_shell

if TYPE_CHECKING:
    from hangar_cloud.external.transfer_report import ImportReport
    from hangar_cloud.repository import Repository

_FORMATS = ["auto", "parquet", "huggingface", "imagefolder", "webdataset", "zarr"]


@click.command("import", cls=GuardedCommand, context_settings=dict(PASS_ON))
@click.option("--branch", metavar="<branch>", default="", help="Branch to import to, if not the one written to last.")
@click.option("--plugin", metavar="<plugin>", help="Plugin that reads the files, if not the one for their ending.")
@click.option("--overwrite", is_flag=True, help="Write over samples that are there.")
@click.option("--labels", metavar="<column>", help="Column for the names of the folders that the files lie in.")
@click.option("--keep-extensions", is_flag=True, help="Keep the ending of a file in its key.")
@click.option("--clean-names", is_flag=True, help="Put _ into names for what they cannot hold, such as spaces.")
@click.option("--workers", metavar="<n>", type=click.IntRange(1), help="Threads that decode.")
@click.option("--dataset", metavar="<format>", type=click.Choice(_FORMATS), help="Import a whole dataset.")
@click.option("--column", "columns", metavar="<column>", multiple=True, help="Of a dataset, only this column.")
@click.option("--key", metavar="<column>", help="Of a table, the column that holds the keys.")
@json_option(
    branch="that it was staged on",
    added="number of samples written, in all columns together",
    skipped="number of samples that were there already",
    refused="what could not be imported: a list of `source` and `reason`",
    columns="names of the columns that were written to",
    made="names of those that the import made",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if anything was refused.")
@click.argument(
    "typed",
    metavar="[COLUMN] PATH",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=completing.words(completing.columns, completing.files),
)
@with_repository
def import_data(
    repository: Repository,
    branch: str,
    dataset: str | None,
    typed: tuple[str, ...],
    strict: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Import files into a column, or a whole dataset.

    Every file at PATH, or below it where it is a folder, becomes a sample of COLUMN, which is made if it is
    missing. Keys are the paths below PATH without ending. What is there already is left as it is: run the command
    again after it was cut off. What cannot be imported is named with the reason.

    With --dataset, PATH is a dataset, and COLUMN is left out. The formats are auto, parquet (and Arrow), huggingface,
    imagefolder, webdataset and zarr.

    Other options go to the plugin, such as --mode RGB for images.

    \b
      hangar import images photos/ --labels labels
      hangar import --dataset parquet digits.parquet
    """
    arguments, options = split_options(typed)
    _check_arguments(arguments, options, dataset, settings)
    with writing(repository, branch) as writer:
        if dataset is None:
            report = _import_files(writer, arguments, settings, options)
        else:
            report = _import_dataset(repository, writer, arguments[0], dataset, settings)
        where = writer.branch_name
    if as_json:
        print_json(_as_json(report, where))
    else:
        _tell(report, where)
    if report.refused and (strict or not (report.added or report.skipped)):
        raise click.exceptions.Exit(1)


def _check_arguments(
    arguments: list[str], options: dict[str, Any], dataset: str | None, settings: dict[str, Any]
) -> None:
    if dataset is None and len(arguments) != 2:
        one = "one PATH, a file or a folder of files" if len(arguments) > 2 else "PATH"
        raise click.UsageError(f"give COLUMN and {one}; or a whole dataset: --dataset FORMAT PATH")
    if dataset is not None and len(arguments) != 1:
        raise click.UsageError("give one PATH with --dataset; the dataset has columns of its own")
    of_files = {"--plugin": "plugin", "--labels": "labels", "--keep-extensions": "keep_extensions"}
    of_datasets = {"--column": "columns", "--key": "key"}
    for option, name in (of_datasets if dataset is None else of_files).items():
        if settings[name]:
            what = "is for whole datasets, with --dataset" if dataset is None else "is for files, without --dataset"
            raise click.UsageError(f"{option} {what}")
    if dataset is not None and options:
        raise click.NoSuchOption(f"--{next(iter(options)).replace('_', '-')}")


def _import_files(writer: Any, arguments: list[str], settings: dict[str, Any], options: dict[str, Any]) -> ImportReport:
    from hangar_cloud.external import import_files

    names = ("plugin", "overwrite", "labels", "keep_extensions", "clean_names", "workers")
    column, path = arguments
    return import_files(writer, column, path, **{name: settings[name] for name in names}, **options)


def _import_dataset(
    repository: Repository, writer: Any, path: str, dataset: str, settings: dict[str, Any]
) -> ImportReport:
    from hangar_cloud.external import import_dataset

    return import_dataset(
        writer,
        path,
        dataset,
        columns=list(settings["columns"]) or None,
        key=settings["key"],
        overwrite=settings["overwrite"],
        clean_names=settings["clean_names"],
        workers=settings["workers"],
        storage_options=_options_for(repository, path),
    )


def _options_for(repository: Repository, path: str) -> dict[str, Any] | None:
    """The settings for buckets, where the dataset lies in one."""
    given = click.get_current_context().find_root().obj
    return getattr(given, "storage_options", None) or None if "://" in path else None


def _as_json(report: ImportReport, branch: str) -> dict[str, Any]:
    refused = [{"source": one.source, "reason": one.reason} for one in report.refused]
    counts = {"branch": branch, "added": report.added, "skipped": report.skipped, "refused": refused}
    return counts | {"columns": list(report.columns), "made": list(report.made)}


def _tell(report: ImportReport, branch: str) -> None:
    for one in report.refused:
        click.echo(f"{click.style('Refused:', fg='yellow')} {one.source}: {advice_in_shell(one.reason)}", err=True)
    if report.made:
        click.echo(f"Made {'column' if len(report.made) == 1 else 'columns'} {', '.join(report.made)}.")
    samples = f"{report.added} sample{'' if report.added == 1 else 's'}"
    there = f", {report.skipped} there already" if report.skipped else ""
    refused = f", {len(report.refused)} refused" if report.refused else ""
    advice = "; `hangar commit` records them" if report.added or report.made else ""
    if report.skipped and not report.added:
        # Who has changed the files would else take it that the changes were imported.
        advice = "; --overwrite takes the files as they are now"
    click.echo(f"Imported {samples} to branch {branch}{there}{refused}{advice}.")
