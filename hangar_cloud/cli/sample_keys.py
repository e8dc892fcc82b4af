"""Keys of samples as people type them: which sample is meant by 7, where there may be a number 7 and a text "7"."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from itertools import product
from typing import Any, Final

import click

Typed = tuple[Any, ...]
"""What a typed key may mean, the likeliest first: keys of samples, or pairs of keys in nested columns."""

_NUMBER: Final = re.compile("0|[1-9][0-9]{0,18}")
_PART: Final = r"""(?:int:|str:)?(?:"[^"]*"|'[^']*'|[^:]+)"""
_PARTS: Final = re.compile(rf"({_PART})(?::({_PART}))?")


def parse_key(text: str) -> Typed:
    """The keys that a text may mean.

    ``int:7`` is a number; ``str:7`` and ``"7"`` in quotes are text. Without either, digits may be both, and where they
    begin with a zero, as in 007, or are too many for a key, they are text.

    Raises:
        click.UsageError: what follows ``int:`` is no number.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "int":
        if re.fullmatch("[0-9]{1,19}", rest) is None:
            raise click.UsageError(f"{text!r} is no sample: after int: there must be a whole number below 2**63")
        return (int(rest),)
    if colon and kind == "str":
        return (_unquoted(rest),)
    return (int(text), text) if _NUMBER.fullmatch(text) and int(text) < 2**63 else (_unquoted(text),)


def parse_sample_key(text: str) -> Typed | None:
    """The keys that ``KEY`` or ``SAMPLE:SUBSAMPLE`` may mean; None if it is neither."""
    match = _PARTS.fullmatch(text)
    if match is None:
        return None
    first = parse_key(match[1])
    return first if match[2] is None else tuple(product(first, parse_key(match[2])))


def parse_place(text: str) -> tuple[str, Typed]:
    """A sample as it is typed, ``COLUMN:KEY`` or ``COLUMN:SAMPLE:SUBSAMPLE``: its column, and what its key may mean."""
    column, _, rest = text.partition(":")
    keys = parse_sample_key(rest)
    if not column or keys is None:
        raise click.UsageError(f"{text!r} names no sample; write COLUMN:KEY, or COLUMN:SAMPLE:SUBSAMPLE")
    return column, keys


def choose_key(column: str, typed: Typed, is_there: Callable[[Any], bool]) -> Any:
    """The one key that is meant: of several, the one that is there.

    Where none is there, it is the first, so that whoever looks for it says that it is missing.

    Raises:
        click.ClickException: several are there.
    """
    if len(typed) == 1:
        return typed[0]
    there = [key for key in typed if is_there(key)]
    if len(there) > 1:
        raise both_there(column, there)
    return there[0] if there else typed[0]


def text_first(typed: Typed, there: Container[Any]) -> Any:
    """The one key that is meant where nothing can go wrong by it: as in Hangar, text goes before a number."""
    by_text = sorted(typed, key=lambda key: isinstance(key, int))
    return next((key for key in by_text if key in there), by_text[0])


def both_there(column: str, keys: list[Any]) -> click.ClickException:
    """The error for a key that means several samples."""
    names = " or ".join(map(tagged, keys))
    return click.ClickException(
        f"column {column!r} has several samples that this may mean, with numbers and with text as keys; type {names}"
    )


def tagged(key: Any) -> str:
    """A key as it can be typed without doubt: ``int:7``, ``str:7``, ``int:7:str:a``."""
    if isinstance(key, tuple):
        return ":".join(map(tagged, key))
    return f"{'int' if isinstance(key, int) else 'str'}:{key}"


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text
