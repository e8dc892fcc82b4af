"""Writes docs/cli.md from the command line's own code: ``python -m infra.cli_reference``.

A test fails where the file is not what this makes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from hangar_cloud.cli.cli import main, sections
from hangar_cloud.cli.json_output import JsonOption, json_members

TARGET: Final = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
_AS_IT_IS: Final = "\b"
_HEAD: Final = """\
# The command line

This page is made from the code by `python -m infra.cli_reference`; changes belong there.

`hangar COMMAND --help` says the same in a terminal. Commands work on the repository in the current folder, on the one
that `hangar -C DIR` names, or directly on a bucket or web server: `hangar -C s3://bucket/digits log`.

**Naming commits.** Wherever a commit is named, there may be a branch (`master`), a branch of a remote as last seen
(`origin/master`), a tag, the first digits of a digest (at least 4; where several commits begin so, the error names
them), or what a branch was before (`master@{1}`, see `hangar reflog`). For people, digests are shown with 12 digits;
`--json` has all 64.

**Naming samples.** A key is a number or text. Typed digits, such as 7, mean whichever of the two is there; where both
are, `int:7` is the number and `str:7` the text. `view` and `export` take the text then, as in Hangar; commands that
change something ask for one of the two. 007 is always text, and so is what the shell passes on in quotes: `'"7"'`.

**Exit codes.** 0: done. 1: an error, said in one line on standard error that begins with `Error:`; also damage found
by `hangar verify`, and a difference found by `hangar diff --exit-code`. 2: wrong usage. 130: ended by Control-C. 141:
the program that read the output went away.

**Output.** What a command prints goes to standard output; warnings, errors and progress to standard error. On a
terminal it is coloured, and long output goes through a pager: `HANGAR_PAGER`, else `PAGER`, else `less`;
`--no-pager`, or the value `cat`, means none. Elsewhere it is plain. `NO_COLOR` and `--color never` turn colours off,
`--no-progress` the progress bars.

**JSON.** With `--json`, a command prints one JSON document, an object whose members are listed below. Members may be
added in later versions; those that are there keep their meaning. Keys of samples are numbers or text, as they are in
the repository, and lists of two in nested columns. Digests are whole.

**Environment.** `HANGAR_USER_NAME` and `HANGAR_USER_EMAIL` are who commits, for `init` and `clone`. `HANGAR_PAGER`,
`PAGER`, `NO_COLOR`, `EDITOR` and `VISUAL` are what they are elsewhere. Credentials of buckets come from where each
cloud's own tools look.

**Completion.** `hangar completion bash`, `zsh` or `fish` prints what the shell has to load.

Serving a repository to others has [a page of its own](usage-server.md).
"""


def render() -> str:
    """The text of docs/cli.md."""
    context = click.Context(main, info_name="hangar")
    parts = [_HEAD, "\n## All commands\n"]
    for title, names in sections().items():
        parts.append(f"\n{title}:\n\n")
        for name in names:
            command = main.get_command(context, name)
            assert command is not None
            parts.append(f"- [`hangar {name}`](#hangar-{name}): {command.get_short_help_str(200)}\n")
    parts.append("\n## hangar\n\n")
    parts += _body(main, context)
    for names in sections().values():
        for name in names:
            command = main.get_command(context, name)
            assert command is not None
            parts += _command(command, click.Context(command, info_name=name, parent=context), 2)
    return "".join(parts)


def _command(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} {context.command_path}\n\n"
    yield from _body(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, click.Context(below, info_name=name, parent=context), level + 1)


def _body(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"`{' '.join([context.command_path, *command.collect_usage_pieces(context)])}`\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield _paragraph(paragraph)
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = [(option, option.get_help_record(context)) for option in options]
    shown = [(option, *record) for option, record in records if record is not None]
    if shown:
        yield "\nOptions:\n\n"
        for option, name, text in shown:
            yield f"- `{name}`: {text}\n"
            if isinstance(option, JsonOption):
                yield from (f"    - `{member}`: {what}\n" for member, what in (json_members(command) or {}).items())


def _paragraph(text: str) -> str:
    """A paragraph of help. One that begins with a backspace keeps its lines: it shows commands."""
    if text.startswith(_AS_IT_IS):
        return "\n" + "".join(f"    {line}\n" for line in text.split("\n")[1:])
    return f"\n{' '.join(text.split())}\n"


if __name__ == "__main__":
    TARGET.write_text(render(), "utf-8")
    click.echo(f"wrote {TARGET}")
