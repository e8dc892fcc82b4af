"""Long output goes through a pager where somebody looks at a terminal, and plainly everywhere else."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

import click

NO_PAGER: Final = "hangar.no_pager"
# As git starts it: quit if it fits on the screen, show colours, leave the screen as it is.
_SETTINGS: Final = {"LESS": "FRX", "LV": "-c"}


def page(lines: Iterable[str]) -> None:
    """Print lines, through HANGAR_PAGER, else PAGER, else `less`, if standard output is a terminal.

    An empty value, or ``cat``, means no pager; so does one that is not installed.
    """
    command = _pager()
    if command is None:
        for line in lines:
            click.echo(line)
        return
    context = click.get_current_context(silent=True)
    plain = context is not None and context.color is False
    settings = {**_SETTINGS, **os.environ}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, env=settings, text=True, encoding="utf-8", errors="replace"
    ) as running:
        assert running.stdin is not None
        # Whoever has seen enough quits the pager, and that is no error.
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
            for line in lines:
                running.stdin.write(f"{click.unstyle(line) if plain else line}\n")
        with contextlib.suppress(BrokenPipeError):
            running.stdin.close()
        while True:
            # Control-C is the pager's: it ends a search, and the pager stays.
            with contextlib.suppress(KeyboardInterrupt):
                running.wait()
                break


def _pager() -> list[str] | None:
    context = click.get_current_context(silent=True)
    if not sys.stdout.isatty() or (context is not None and context.find_root().meta.get(NO_PAGER)):
        return None
    wanted = os.environ.get("HANGAR_PAGER", os.environ.get("PAGER", "less"))
    try:
        words = shlex.split(wanted)
    except ValueError:
        return None
    if not words or words == ["cat"] or shutil.which(words[0]) is None:
        return None
    return words
