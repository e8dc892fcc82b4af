"""Commands that end in plain words: no traceback, whatever happens."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

_INTERRUPTED: Final = 130
_PIPE_CLOSED: Final = 141


class _Guarded(click.Command):
    """What happens around every command, whether it is run from `hangar` or alone."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **options: Any) -> Any:
        if not standalone_mode:
            return super().main(*arguments, standalone_mode=False, **options)
        with plain_warnings():
            try:
                code = super().main(*arguments, standalone_mode=False, **options)
                sys.stdout.flush()
            except BrokenPipeError:
                code = _leave_pipe()
            except click.ClickException as error:
                error.show()
                code = error.exit_code
            except click.Abort:
                code = _INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Before click sees it, which would exit with 1.
            raise click.exceptions.Exit(_leave_pipe()) from None
        except Exception as error:  # noqa: BLE001 - a person is told in words, and a traceback on request
            if ctx.find_root().meta.get("hangar.debug"):
                traceback.print_exc()
            raise click.ClickException(in_words(error)) from error


class GuardedCommand(_Guarded):
    """A command whose errors are told in words."""


class GuardedGroup(_Guarded, click.Group):
    """A group of such commands."""

    command_class = GuardedCommand


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning for users as one line, without the place in the code that it comes from."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        yield


def in_words(error: Exception) -> str:
    """An error for people, without secrets."""
    from hangar_cloud.errors import HangarError

    if isinstance(error, HangarError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    from hangar_cloud.backends.errors import redact_text

    return (
        f"something unforeseen happened ({redact_text(f'{type(error).__name__}: {error}')}). Please report it, with "
        "what `hangar --debug …` shows"
    )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"{click.style('Warning:', fg='yellow')} {message}", err=True)


def _leave_pipe() -> int:
    """Send what is still to be printed nowhere: the interpreter would complain about the pipe as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return _PIPE_CLOSED
