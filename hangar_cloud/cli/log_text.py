"""What `hangar log` says: the graph, with short digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from hangar_cloud.graph import draw_graph
from hangar_cloud.reports import printable

SHORT = 12


def log_lines(
    contents: Mapping[str, Any], tags: Mapping[str, list[str]], limit: int | None, time: bool, user: bool
) -> Iterator[str]:
    """The lines, coloured; click takes the colour out where it is not wanted.

    Args:
        contents: as `Repository.log` returns them.
        tags: names of tags by digest.
        limit: how many commits at most; None for all.
        time: whether to say when each was made.
        user: whether to say by whom.
    """
    order = contents["order"][:limit]
    labels = {digest: _label(contents, digest, tags.get(digest, []), time, user) for digest in order}
    yield from draw_graph(order, contents["ancestors"], labels)


def _label(contents: Mapping[str, Any], digest: str, tags: list[str], time: bool, user: bool) -> str:
    spec = contents["specs"][digest]
    names = [click.style(f" ({printable(name)})", fg="green") for name in contents["branch_heads"].get(digest, ())]
    names += [click.style(f" (tag: {name})", fg="magenta") for name in tags]
    said = f" ({spec['commit_time'][:19].replace('T', ' ')} UTC)" if time else ""
    said += f" ({spec['commit_user']})" if user else ""
    message = " ".join(spec["commit_message"].splitlines())
    return f"{click.style(digest[:SHORT], fg='yellow')}{''.join(names)}{printable(f'{said} : {message}')}"
