"""What to type in place of a command or option of git's that `hangar` does not have (pure)."""

from __future__ import annotations

from typing import Final

import click

_COMMANDS: Final = {
    "add": "`hangar import COLUMN PATH` stages files; what is written in Python is staged by itself",
    "cherry-pick": "`hangar restore COLUMN KEY --from COMMIT` stages samples as they are there",
    "fsck": "it is `hangar verify`",
    "ls": "`hangar column list` lists the columns",
    "ls-files": "`hangar column list` lists the columns",
    "mv": "`hangar column rename` renames a column",
    "prune": "it is `hangar gc`",
    "pull": "`hangar fetch REMOTE BRANCH`, then `hangar merge REMOTE/BRANCH`",
    "revert": "`hangar restore COLUMN --from COMMIT` stages what was there; `hangar branch reset` moves a branch back",
    "rm": "`hangar column remove` removes a column",
    "show": "`hangar summary COMMIT` shows a commit, `hangar view COLUMN KEY` a sample",
    "switch": "it is `hangar checkout BRANCH`",
}
_OPTIONS: Final = {
    ("branch", "-D"): "`hangar branch delete --force NAME` removes a branch",
    ("branch", "-a"): "`hangar branch list` lists all",
    ("branch", "-d"): "`hangar branch delete NAME` removes a branch",
    ("checkout", "-b"): "`hangar branch create NAME` makes a branch, and `hangar checkout NAME` goes to it",
    ("commit", "-a"): "all that is staged is committed anyway",
    ("commit", "--amend"): "a commit stays; `hangar branch reset BRANCH BRANCH@{1}` takes the branch back before it",
    ("tag", "-a"): "`hangar tag create NAME` makes a tag",
}


def command_hint(name: str) -> str:
    """What follows `No such command`; empty where nothing is known."""
    return f" {_sentence(_COMMANDS[name])}" if name in _COMMANDS else ""


def option_hint(name: str, context: click.Context | None) -> str:
    """What follows `No such option`, of the command that was called; empty where nothing is known."""
    if context is None or context.parent is None:
        return ""
    if (str(context.info_name), name) in _OPTIONS:
        return f" {_sentence(_OPTIONS[str(context.info_name), name])}"
    root = context.find_root()
    if is_general(name, context):
        return f" It goes before the command: `{root.info_name} {name} … {context.info_name}`."
    return ""


def is_general(name: str, context: click.Context) -> bool:
    """Whether this is an option of `hangar` as a whole."""
    return any(name in option.opts for option in context.find_root().command.params)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
