"""Showing a sample."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.names import start_at
from hangar_cloud.cli.plugin_options import PASS_ON, split_options
from hangar_cloud.cli.sample_keys import parse_key, tagged, text_first

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository


@click.command("view", cls=GuardedCommand, context_settings=dict(PASS_ON))
@click.option("-f", "--format", "extension", metavar="<format>", help="Show it as a file of this ending would be.")
@click.option("--plugin", metavar="<plugin>", help="Plugin that shows it.")
@click.option("--subsample", metavar="<subsample>", help="Of a nested column, only this one.")
@click.option("--window", is_flag=True, help="Open a window.")
@click.argument(
    "typed",
    metavar="COLUMN SAMPLE [STARTPOINT]",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=completing.words(completing.columns, completing.nothing, completing.commits),
)
@with_repository
def view_data(
    repository: Repository,
    extension: str | None,
    plugin: str | None,
    subsample: str | None,
    window: bool,
    typed: tuple[str, ...],
) -> None:
    """Show a sample.

    It is SAMPLE of COLUMN, as it was at STARTPOINT: a branch, a tag, or the first digits of a commit. Pictures are
    drawn in the terminal, text is printed, other arrays are told in short. Where the output is no terminal, it is plain
    text.

    Where a number 10 and a text 10 are there, SAMPLE 10 is the text and int:10 the number. Other options go to the
    plugin.
    """
    arguments, options = split_options(typed)
    if not 2 <= len(arguments) <= 3:
        raise click.UsageError("give COLUMN, SAMPLE and perhaps STARTPOINT")
    checkout = repository.checkout(**start_at(repository, arguments[2] if len(arguments) == 3 else None))  # type: ignore[arg-type]
    try:
        for name, value in _values(checkout.columns[arguments[0]], arguments[1], subsample):
            if name is not None:
                click.echo(click.style(f"{name}:", bold=True))
            _show(value, extension, plugin, window, options)
    finally:
        checkout.close()


def _values(column: Any, sample: str, subsample: str | None) -> list[tuple[str | None, Any]]:
    if not column.contains_subsamples and subsample is not None:
        raise click.UsageError(f"--subsample is for nested columns; {column.column} is flat")
    found = column[text_first(parse_key(sample), column)]
    if not column.contains_subsamples:
        return [(None, found)]
    if subsample is not None:
        return [(None, found[text_first(parse_key(subsample), found)])]
    return [(tagged(sub), value) for sub, value in found.items()]


def _show(value: Any, extension: str | None, plugin: str | None, window: bool, options: dict[str, Any]) -> None:
    from hangar_cloud.external.array_text import describe_sample
    from hangar_cloud.external.high_level import show
    from hangar_cloud.external.plugin_registry import BUILT_IN, find_plugin
    from hangar_cloud.external.terminal_picture import draw, looks_like_picture

    asked = plugin or extension
    named = find_plugin("show", plugin, extension) if asked else None
    ours = named is None or type(named).__module__.rpartition(".")[2] in {module for module, _ in BUILT_IN.values()}
    if window or not ours or options:
        show(value, plugin, None if plugin else extension or _ending_for(value), **options)
        return
    is_picture = looks_like_picture(value) and (named is None or type(named).__name__ == "ImagePlugin")
    if is_picture and sys.stdout.isatty():
        size = shutil.get_terminal_size()
        click.echo(draw(value, size.columns, size.lines - 2, _has_all_colours()))
        return
    text = describe_sample(value)
    click.echo(_without_controls(text) if sys.stdout.isatty() else text)


def _ending_for(value: Any) -> str:
    from hangar_cloud.external.terminal_picture import looks_like_picture

    if isinstance(value, str):
        return "txt"
    if isinstance(value, bytes):
        raise click.ClickException("bytes have no window; name the plugin that shows them with --plugin")
    return "png" if looks_like_picture(value) else "npy"


def _has_all_colours() -> bool:
    return os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")


def _without_controls(text: str) -> str:
    """Text that cannot steer a terminal: a dataset may be anybody's."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)
