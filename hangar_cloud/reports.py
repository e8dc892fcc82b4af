"""What `log` and `summary` print, and the data behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hangar_cloud.catalog import history
from hangar_cloud.catalog.commits import ColumnEntry, Commit
from hangar_cloud.graph import draw_graph
from hangar_cloud.storage import Storage

# Control characters, those that turn the direction of text, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def log_contents(storage: Storage, head: str, heads: dict[str, str]) -> dict[str, Any]:
    """The history behind a commit, as data.

    Returns:
        ``head``; ``ancestors`` (parents by digest); ``specs`` (message, time, user and email by digest);
        ``order`` (digests, children before parents); ``branch_heads`` (branch names by digest).
    """
    commits = history.ancestors([head], storage.commit)
    branch_heads: dict[str, list[str]] = {}
    for name, digest in heads.items():
        branch_heads.setdefault(digest, []).append(name)
    return {
        "head": head,
        "ancestors": {digest: list(commit.parents) for digest, commit in commits.items()},
        "specs": {digest: _spec(commit) for digest, commit in commits.items()},
        "order": list(commits),
        "branch_heads": branch_heads,
    }


def log_lines(contents: dict[str, Any], show_time: bool = False, show_user: bool = False) -> Iterator[str]:
    """The graph that `log` prints."""
    labels = {}
    for digest in contents["order"]:
        spec = contents["specs"][digest]
        names = "".join(f" ({name})" for name in contents["branch_heads"].get(digest, ()))
        time = f" ({spec['commit_time']})" if show_time else ""
        user = f" ({spec['commit_user']})" if show_user else ""
        message = " ".join(spec["commit_message"].splitlines())
        labels[digest] = printable(f"{digest}{names}{time}{user} : {message}")
    yield from draw_graph(contents["order"], contents["ancestors"], labels)


def summary_lines(storage: Storage, size: str, digest: str | None) -> Iterator[str]:
    """What `summary` prints: the place, the commit, and each column."""
    yield "Summary of Contents Contained in Data Repository"
    yield " "
    yield "=================="
    yield "| Repository Info"
    yield "|-----------------"
    yield f"|  Base Directory: {storage.location}"
    yield f"|  Disk Usage: {size}"
    yield " "
    if digest is None:
        yield "No commits have been made yet."
        return
    commit = storage.commit(digest)
    yield "==================="
    yield "| Commit Details"
    yield "-------------------"
    yield f"|  Commit: {digest}"
    yield f"|  Created: {printable(commit.time)}"
    yield f"|  By: {printable(commit.author)}"
    yield f"|  Email: {printable(commit.email)}"
    yield f"|  Message: {_lines(commit.message)}"
    yield " "
    yield "=================="
    yield "| DataSets"
    yield "|-----------------"
    yield f"|  Number of Named Columns: {len(commit.columns)}"
    for name, entry in commit.columns.items():
        yield from _column_lines(name, entry)


def printable(text: str) -> str:
    """Text on one line that does nothing to a terminal: control characters and lone surrogates are shown by number."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def human_size(count: int) -> str:
    """A number of bytes with two decimals and a decimal unit, as in "1.23 GB"."""
    size = float(count)
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.2f} {unit}"


def _spec(commit: Commit) -> dict[str, str]:
    return {
        "commit_message": commit.message,
        "commit_time": commit.time,
        "commit_user": commit.author,
        "commit_email": commit.email,
    }


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _column_lines(name: str, entry: ColumnEntry) -> Iterator[str]:
    schema = entry.schema
    yield "|"
    yield f'|  * Column Name: ColumnSchemaKey(column="{name}", layout="{schema.column_layout}")'
    yield f"|    Num Data Pieces: {entry.count}"
    yield "|    Details:"
    details: dict[str, object] = {
        "column_layout": schema.column_layout,
        "column_type": schema.column_type,
        "schema_type": schema.schema_type,
    }
    if schema.column_type == "ndarray":
        details |= {"shape": schema.shape, "dtype": schema.numpy_dtype.name}
    details |= {"backend": entry.backend, "backend_options": entry.backend_options}
    for field, value in details.items():
        yield f"|    - {field}: {printable(str(value))}"
