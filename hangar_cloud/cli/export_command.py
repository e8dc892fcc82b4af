"""Exporting samples to files, and datasets to other formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.names import parse_size, start_at
from hangar_cloud.cli.plugin_options import PASS_ON, split_options
from hangar_cloud.cli.sample_keys import parse_key, text_first

if TYPE_CHECKING:
    from hangar_cloud.external.transfer_report import ExportReport
    from hangar_cloud.repository import Repository

_FORMATS = ["parquet", "imagefolder", "webdataset", "zarr"]


@click.command("export", cls=GuardedCommand, context_settings=dict(PASS_ON))
@click.option(
    "-o",
    "--out",
    metavar="<outdir>",
    shell_complete=completing.files,
    help="Folder to export to; of a dataset, its file or folder.",
)
@click.option("-s", "--sample", "samples", metavar="<sample>", multiple=True, help="Only this sample; may be repeated.")
@click.option("-f", "--format", "extension", metavar="<format>", help="Ending of the files, such as png.")
@click.option("--plugin", metavar="<plugin>", help="Plugin that writes the files, if not the one for their ending.")
@click.option("--overwrite", is_flag=True, help="Write over what is there.")
@click.option("--dataset", metavar="<format>", type=click.Choice(_FORMATS), help="Export a whole dataset.")
@click.option("--column", "columns", metavar="<column>", multiple=True, help="Of a dataset, only this column.")
@click.option("--image", metavar="<column>", help="Of imagefolder, the column of images.")
@click.option("--label", metavar="<column>", help="Of imagefolder, the column of labels.")
@click.option("--shard-size", metavar="<size>", callback=parse_size, help="Of webdataset, the size of a tar: 1GB.")
@click.argument(
    "typed",
    metavar="[COLUMN] [STARTPOINT]",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=completing.words(completing.columns, completing.commits),
)
@with_repository
def export_data(
    repository: Repository, out: str | None, dataset: str | None, typed: tuple[str, ...], **settings: Any
) -> None:
    """Export samples to files, or a whole dataset.

    Each sample of COLUMN becomes a file called by its key, as it was at STARTPOINT: a branch, a tag, or the first
    digits of a commit. Arrays become .npy files unless -f says otherwise, text becomes .txt, bytes become .bin.

    Where a number 10 and a text 10 are there, <sample> 10 is the text and int:10 the number.

    With --dataset, COLUMN is left out. The formats are parquet, imagefolder, webdataset and zarr.

    Other options go to the plugin, such as --quality 90 for jpg.

    \b
      hangar export images -o pictures -f png
      hangar export --dataset zarr -o digits.zarr
    """
    arguments, options = split_options(typed)
    if dataset is None and not 1 <= len(arguments) <= 2:
        raise click.UsageError("give COLUMN and perhaps STARTPOINT; or a whole dataset: --dataset FORMAT -o PATH")
    if dataset is not None and (len(arguments) > 1 or out is None or options):
        raise click.UsageError("a dataset is exported by --dataset FORMAT -o PATH [STARTPOINT]")
    _check_settings(dataset, settings)
    startpoint = arguments[-1] if len(arguments) == (2 if dataset is None else 1) else None
    checkout = repository.checkout(**start_at(repository, startpoint))  # type: ignore[arg-type]
    try:
        if dataset is None:
            report = _export_files(checkout, arguments[0], out or ".", settings, options)
        else:
            report = _export_dataset(checkout, out or ".", dataset, settings)
    finally:
        checkout.close()
    click.echo(f"Exported {report.samples} sample{'' if report.samples == 1 else 's'} to {_said(report.path)}.")


def _said(path: str) -> str:
    return "this folder" if path == "." else path


def _check_settings(dataset: str | None, settings: dict[str, Any]) -> None:
    wrong = ("columns", "image", "label", "shard_size") if dataset is None else ("samples", "plugin")
    for name in wrong:
        if settings[name]:
            option = "--" + {"columns": "column", "samples": "sample"}.get(name, name).replace("_", "-")
            what = "whole datasets, with --dataset" if dataset is None else "files, without --dataset"
            raise click.UsageError(f"{option} is for {what}")


def _export_files(
    checkout: Any, column: str, out: str, settings: dict[str, Any], options: dict[str, Any]
) -> ExportReport:
    from hangar_cloud.external import export_files

    there = checkout.columns[column]
    return export_files(
        checkout,
        column,
        out,
        extension=settings["extension"],
        plugin=settings["plugin"],
        samples=[text_first(parse_key(sample), there) for sample in settings["samples"]] or None,
        overwrite=settings["overwrite"],
        **options,
    )


def _export_dataset(checkout: Any, out: str, dataset: str, settings: dict[str, Any]) -> ExportReport:
    from hangar_cloud.external import export_dataset

    more = {} if settings["shard_size"] is None else {"shard_bytes": settings["shard_size"]}
    return export_dataset(
        checkout,
        out,
        dataset,
        columns=list(settings["columns"]) or None,
        overwrite=settings["overwrite"],
        image=settings["image"],
        label=settings["label"],
        extension=settings["extension"],
        **more,
    )
