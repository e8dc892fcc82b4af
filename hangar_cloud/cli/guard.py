"""Commands that end in plain words: no traceback, whatever happens."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from hangar_cloud.cli.git_habits import command_hint, option_hint
from hangar_cloud.cli.shell_advice import advice_in_shell

_INTERRUPTED: Final = 130
_PIPE_CLOSED: Final = 141
_NEAR: Final = 0.55


class _Guarded(click.Command):
    """What happens around every command, whether it is run from `hangar` or alone."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        # Not what the context says: click keeps the help option of whoever asks a command first, and shell
        # completion and the reference ask with contexts that know nothing of the command's settings.
        taken = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return [name for name in ("-h", "--help") if name not in taken]

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if parent is None and os.environ.get("NO_COLOR"):
            extra.setdefault("color", False)
        return super().make_context(info_name, args, parent, **extra)

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
        if sys.stdout is None:
            # Started with standard output closed, as some job runners do; what is printed goes nowhere.
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
        with plain_warnings():
            try:
                code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
                sys.stdout.flush()
            except BrokenPipeError:
                code = _leave_pipe()
            except OSError as error:
                # Outside of any command: the help text, or the last of the output, on a disk that is full.
                _leave_pipe()
                click.echo(f"Error: {in_words(error)}", err=True)
                code = 1
            except click.ClickException as error:
                if isinstance(error, click.NoSuchOption) and not error.possibilities:
                    words = error.message + option_hint(error.option_name, error.ctx)
                    error = click.NoSuchOption(error.option_name, words, ctx=error.ctx)
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=_NEAR)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{command_hint(name) or guess}")
        return super().resolve_command(ctx, args)


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
        return advice_in_shell(str(error))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    from hangar_cloud.backends.errors import redact_text

    return (
        f"something unforeseen happened ({redact_text(f'{type(error).__name__}: {error}')}). Please report it, with "
        "what `hangar --debug …` shows"
    )


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
