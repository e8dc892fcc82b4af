"""``--json``: one document on standard output, whose members are part of the command's documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click


class JsonOption(click.Option):
    """The option, with what the document holds.

    Args:
        members: what each member of the document is, by its name.
    """

    def __init__(self, *arguments: Any, members: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.members = dict(members)


def json_option(**members: str) -> Callable[[Any], Any]:
    """Give a command ``--json``; `members` say what the document holds."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        cls=JsonOption,
        members=members,
        help="Print one JSON document instead, for programs.",
    )


def json_members(command: click.Command) -> dict[str, str] | None:
    """What the document of a command holds; None where it has no ``--json``."""
    return next((option.members for option in command.params if isinstance(option, JsonOption)), None)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document. It is ASCII, so that no terminal and no pipe can spoil it."""
    click.echo(json.dumps(document, indent=2))
