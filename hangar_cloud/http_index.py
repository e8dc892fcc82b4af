"""The page that a browser sees of a served repository."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Final

from hangar_cloud.catalog.commits import Commit, commit_path
from hangar_cloud.reports import printable
from hangar_cloud.status import describe

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:.5em 0 2em}td,th{text-align:left;padding:.2em 1.2em .2em 0;"
    "border-bottom:1px solid #ddd;vertical-align:top}code{background:#f3f3f3;padding:.1em .3em}"
)


def index_page(repository: Repository, url: str) -> str:
    """HTML: how to read the repository, its branches and tags, and the columns of each branch.

    Args:
        repository: that is served.
        url: where.
    """
    title = escape(f"Hangar repository at {url}")
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
            f"<h1>{title}</h1>",
            f"<p>Read it in Python with <code>Repository({escape(repr(url))})</code>,",
            f" or copy its history with <code>hangar clone {escape(url)}</code>.</p>",
            *_branches(repository),
            *_tags(repository),
            "</body></html>\n",
        ]
    )


def _branches(repository: Repository) -> Iterator[str]:
    yield "<h2>Branches</h2>"
    for name, head in repository._storage.heads().items():
        if head.commit is None:
            yield f"<h3>{escape(name)}</h3><p>Nothing is committed yet.</p>"
            continue
        commit = repository._storage.commit(head.commit)
        yield f"<h3>{escape(name)}</h3><p>{_link(head.commit)} {_about(commit)}</p>"
        yield "<table><tr><th>column</th><th>holds</th><th>samples</th></tr>"
        for column, entry in commit.columns.items():
            cells = (column, describe(entry.schema), f"{entry.count:,}")
            yield f"<tr>{''.join(f'<td>{escape(printable(cell))}</td>' for cell in cells)}</tr>"
        yield "</table>"


def _tags(repository: Repository) -> Iterator[str]:
    tags = repository.list_tags()
    if tags:
        yield "<h2>Tags</h2><table>"
        for tag in tags:
            said = escape(printable(tag.message))
            yield f"<tr><td>{escape(tag.name)}</td><td>{_link(tag.digest)}</td><td>{said}</td></tr>"
        yield "</table>"


def _link(digest: str) -> str:
    return f'<a href="/{escape(commit_path(digest))}"><code>{escape(digest[:12])}</code></a>'


def _about(commit: Commit) -> str:
    first = commit.message.strip().split("\n")[0]
    return escape(printable(f"{first} ({commit.author}, {commit.time[:16].replace('T', ' ')} UTC)"))
