"""``--storage-option key=value``, turned into what an fsspec driver takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

_WORDS: Final = {"true": True, "false": False}


def parse_storage_options(_ctx: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    """Nested settings from ``a.b=value`` texts. Their values appear in no message: some are secrets."""
    options: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        names = path.split(".")
        if not equals or not all(names):
            raise click.BadParameter("it takes KEY=VALUE, such as anon=true or client_kwargs.region_name=eu-west-1")
        inner = options
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise click.BadParameter(f"{name} is given both a value and settings below it")
        inner[names[-1]] = _WORDS.get(value.lower(), value)
    return options
