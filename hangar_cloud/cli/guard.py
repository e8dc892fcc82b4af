"""Commands that end in plain words: no traceback, whatever happens."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

_INTERRUPTED: Final = 130
_PIPE_CLOSED: Final = 141
# What the library's messages advise, for people who do not write Python at this moment.
_IN_THE_SHELL: Final = (
    ("give remove_old=True", "give --overwrite"),
    ("with force_delete=True", "with --force"),
    ("give overwrite=True", "give --overwrite"),
    ("import with clean_names=True", "import with --clean-names"),
    ("import with keep_extensions=True", "import with --keep-extensions"),
    ("with plugin=", "with --plugin"),
    ("with columns=", "with --column"),
    ("in columns=", "with --column"),
    ("with format=", "with --dataset"),
    ("say image=", "say --image"),
    ("say label=", "say --label"),
    ("the first is frame=0", "the first is --frame 0"),
    ("see remote.add", "`hangar remote add` adds one"),
    ("call force_release_writer_lock()", "run `hangar writer-lock --force-release`"),
    ("open another branch for writing first", "`hangar checkout` another branch first"),
    (
        "or give storage_options {'key': ..., 'secret': ...}; for a public bucket {'anon': True}",
        "or give --storage-option key=... --storage-option secret=...; for a public bucket --storage-option anon=true",
    ),
    ("open that branch to commit them or to call reset_staging_area()", "`hangar commit` them"),
    ("commit them, stash them too, or call reset_staging_area(),", "`hangar commit` or `hangar stash save` them"),
)


class _Guarded(click.Command):
    """What happens around every command, whether it is run from `hangar` or alone."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # Not inherited from `hangar`: click keeps the help option of whoever asks a command first.
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        with plain_warnings():
            try:
                code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
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
        except Exception as error:
            if ctx.find_root().meta.get("hangar.debug"):
                click.echo(_without_secrets(traceback.format_exc(), ctx.find_root().obj), err=True, nl=False)
            raise click.ClickException(_told(error, ctx)) from error


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
        return for_the_shell(str(error))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    from hangar_cloud.backends.errors import redact_text

    return (
        f"something unforeseen happened ({redact_text(f'{type(error).__name__}: {error}')}). Please report it, with "
        "what `hangar --debug …` shows"
    )


def for_the_shell(message: str) -> str:
    """A message of the library, its advice in the words of the command line."""
    for python, shell in _IN_THE_SHELL:
        message = message.replace(python, shell)
    return message


def _told(error: Exception, ctx: click.Context) -> str:
    from hangar_cloud.errors import HangarError

    # Messages of ours hold no secret, and a key such as "any" would be struck out of their words.
    words = in_words(error)
    return words if isinstance(error, HangarError) else _without_secrets(words, ctx.find_root().obj)


def _without_secrets(text: str, settings: object) -> str:
    """A traceback without credentials: those given as options, and those in URLs that a driver quotes."""
    from hangar_cloud.backends.store.explaining import without_secrets

    return without_secrets(text, getattr(settings, "storage_options", {}))


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"{click.style('Warning:', fg='yellow')} {message}", err=True)


def _leave_pipe() -> int:
    """Send what is still to be printed nowhere: the interpreter would complain about the pipe as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return _PIPE_CLOSED
