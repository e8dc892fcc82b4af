"""What `hangar diff` says, in lines for people and in JSON for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import click

from hangar_cloud.diff import Changes, Conflicts, Diff
from hangar_cloud.status import describe

_KEYS_SHOWN: Final = 10
_CONFLICTS_SHOWN: Final = 10
_METADATA: Final = ""
_WAYS: Final = (("added", "+", "green"), ("mutated", "~", "yellow"), ("deleted", "-", "red"))
_WORDS: Final = {"added": "added", "mutated": "changed", "deleted": "removed"}
_COLUMNS: Final = {"added": "new column", "mutated": "altered column", "deleted": "removed column"}
_KINDS: Final = {
    "t1": "added on both sides",
    "t21": "removed in MASTER, changed in DEV",
    "t22": "changed in MASTER, removed in DEV",
    "t3": "changed on both sides",
}


def diff_lines(diff: Diff) -> Iterator[str]:
    """A line for each column that differs, and the first keys below it; coloured, which click takes out in pipes."""
    keys = {way: _keys_by_column(getattr(diff, way)) for way, _, _ in _WAYS}
    headings = {}
    for way, _, colour in _WAYS:
        for column, schema in getattr(diff, way).schema.items():
            headings[column.column] = (_COLUMNS[way], colour, f"{column.column} ({describe(schema)})")
    for name in sorted({*headings, *(name for found in keys.values() for name in found)}):
        what, colour, title = headings.get(name, ("changed column", "yellow", name))
        counts = [f"{len(keys[way][name]):,} {_WORDS[way]}" for way, _, _ in _WAYS if name in keys[way]]
        line = "  metadata" if name == _METADATA else f"  {click.style(f'{what:<15}', fg=colour)}  {title}"
        yield f"{line}: {', '.join(counts)}" if counts else line
        for way, sign, colour in _WAYS:
            if name in keys[way]:
                yield "      " + click.style(f"{sign} {_first_keys(keys[way][name])}", fg=colour)


def conflict_lines(conflicts: Conflicts, dev: str) -> Iterator[str]:
    """What a merge of `dev` could not settle by itself, and how to settle it."""
    found = [(kind, record) for kind in _KINDS for record in _records(getattr(conflicts, kind))]
    if not found:
        return
    yield ""
    yield f"A merge would meet {len(found):,} conflict{'s' if len(found) > 1 else ''}:"
    for kind, record in found[:_CONFLICTS_SHOWN]:
        yield f"  {kind:<3}  {_place(record)} ({_KINDS[kind]})"
    if len(found) > _CONFLICTS_SHOWN:
        yield f"  and {len(found) - _CONFLICTS_SHOWN:,} more; --json shows them all"
    yield f"`hangar merge {dev}` with --strategy ours or theirs settles all of them, with --ours COLUMN:KEY one"


def as_records(diff: Diff, **more: Any) -> Iterator[dict[str, Any]]:
    """Every difference as data; `more` goes into each."""
    for way, _, _ in _WAYS:
        for record in _records(getattr(diff, way)):
            yield {"change": way, **record, **more}


def conflict_records(conflicts: Conflicts) -> Iterator[dict[str, Any]]:
    """Every conflict as data."""
    for kind in _KINDS:
        for record in _records(getattr(conflicts, kind)):
            yield {"conflict": kind, **record}


def _records(changes: Changes) -> Iterator[dict[str, Any]]:
    for column, schema in changes.schema.items():
        yield {"kind": "column", **column._asdict(), "schema": schema.to_json()}
    for sample in changes.samples:
        yield {"kind": "sample", **sample._asdict()}
    for entry in changes.metadata:
        yield {"kind": "metadata", **entry._asdict()}


def _keys_by_column(changes: Changes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for sample in changes.samples:
        key = tuple(sample[1:])
        found[sample.column].append(key if len(key) > 1 else key[0])
    for entry in changes.metadata:
        found[_METADATA].append(entry.key)
    return dict(found)


def _first_keys(keys: list[Any]) -> str:
    shown = ", ".join(map(repr, islice(keys, _KEYS_SHOWN)))
    return f"{shown} and {len(keys) - _KEYS_SHOWN:,} more" if len(keys) > _KEYS_SHOWN else shown


def _place(record: dict[str, Any]) -> str:
    if record["kind"] == "column":
        return f"column {record['column']}"
    if record["kind"] == "metadata":
        return f"metadata {record['key']!r}"
    below = f", subsample {record['subsample']!r}" if "subsample" in record else ""
    return f"column {record['column']}, sample {record['sample']!r}{below}"
