"""Renamed columns, found by what they hold (pure; looks at roots only).

A commit does not record renames. A side has renamed a column if it lacks one that a merge base has and has a new
one with just the same schema and samples. Empty columns hold nothing to know them by, and a column that was
renamed and changed is not found: for a merge these are one column removed and one added.
"""

from __future__ import annotations

from collections.abc import Sequence

from hangar_cloud.catalog.commits import METADATA, ColumnEntry

Columns = dict[str, ColumnEntry]


def follow_renames(bases: Sequence[Columns], ours: Columns, theirs: Columns) -> tuple[list[Columns], Columns, Columns]:
    """Bases and both sides, with each column that one side renamed under its new name in all of them.

    A column that the other side removed, or for whose new name the other side has something else, stays as it is.
    """
    versions = [dict(columns) for columns in (*bases, ours, theirs)]
    *renamed_bases, here, there = versions
    for side, other in ((here, there), (there, here)):
        for old, new in _renamed(renamed_bases, side).items():
            if (old in other) != (new in other):
                for columns in (*renamed_bases, other):
                    if old in columns:
                        columns[new] = columns.pop(old)
    return renamed_bases, here, there


def same_column(one: ColumnEntry | None, other: ColumnEntry | None) -> bool:
    """True if both have the same schema and samples, or both are absent."""
    if one is None or other is None:
        return one is other
    digests = [None if entry.root is None else entry.root.digest for entry in (one, other)]
    return one.schema == other.schema and digests[0] == digests[1]


def _renamed(bases: Sequence[Columns], side: Columns) -> dict[str, str]:
    """New names by old ones, where there is one way only to read what happened."""
    before = {name for base in bases for name in base} - {METADATA}
    gone, come = before - set(side), set(side) - before - {METADATA}
    pairs = [(old, new) for old in gone for new in come if _holds(bases, old, side[new])]
    olds, news = [old for old, _ in pairs], [new for _, new in pairs]
    return {old: new for old, new in pairs if olds.count(old) == news.count(new) == 1}


def _holds(bases: Sequence[Columns], old: str, entry: ColumnEntry) -> bool:
    return entry.root is not None and any(same_column(base.get(old), entry) for base in bases)
