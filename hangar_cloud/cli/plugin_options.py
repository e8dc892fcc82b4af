"""Options on the command line that are not `hangar`'s own: they go to the plugin."""

from __future__ import annotations

from typing import Any

import click

from hangar_cloud.cli.git_habits import is_general

# Everything that is no option of the command is given to it as it was typed.
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


def split_options(typed: tuple[str, ...]) -> tuple[list[str], dict[str, Any]]:
    """What was typed as arguments, and as options for a plugin: ``--quality 90``, ``--quality=90``, ``--whole``.

    Whole numbers, numbers, true and false are made such.
    """
    arguments: list[str] = []
    options: dict[str, Any] = {}
    rest = list(typed)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        if not word.startswith("--"):
            raise click.NoSuchOption(word)
        name, equals, text = word[2:].partition("=")
        context = click.get_current_context(silent=True)
        if context is not None and is_general(f"--{name}", context):
            raise click.NoSuchOption(f"--{name}")
        if not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("-") else "true"
        options[name.replace("-", "_")] = _value(text)
    return arguments, options


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
