"""What staged changes come to: the difference between the base and the working set, in as few events as can be.

The log of what was staged may not mean the same on another base: a column that was made, removed and made again
meets one of that name there. In this form it does: each column's fate once, then its rows, each key once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.staging import ColumnEvent, SampleEvents
from hangar_cloud.catalog.working_set import WorkingColumn, WorkingSet, entry_event


def normal_form(working: WorkingSet) -> Iterator[ColumnEvent | SampleEvents]:
    """The difference between the base of a working set and what is in it, as events to be staged on that base."""
    base, columns = working.base, working.columns
    staying = {name for name, column in columns.items() if name in base and _stays(column, base[name])}
    moved = {
        name: column.origin
        for name, column in columns.items()
        if name not in staying and column.origin != name and column.entry.root is not None
    }
    # Columns may have changed names with each other, so those whose new name the base has go by way of a free one.
    free = dict(zip(sorted(moved), _free_names({*base, *columns}), strict=False))
    passing = {name: free[name] if name in base else name for name in sorted(moved)}
    for name, first in passing.items():
        yield ColumnEvent(first, "rename", {"from": moved[name]})
    for name in sorted(set(base) - staying - set(moved.values())):
        yield ColumnEvent(name, "remove", {})
    for name, first in passing.items():
        if first != name:
            yield ColumnEvent(name, "rename", {"from": first})
    for name in sorted(columns):
        entry = columns[name].entry
        if name not in staying and name not in moved:
            yield ColumnEvent(name, "create", entry_event(entry))
        elif not same_setup(base[moved.get(name, name)], entry):
            yield ColumnEvent(name, "change", entry_event(entry))
        if columns[name].staged:
            yield SampleEvents(name, list(columns[name].staged.items()))


def same_setup(one: ColumnEntry, other: ColumnEntry) -> bool:
    """True if schema and backend are equal."""
    return (one.schema, one.backend, one.backend_options) == (other.schema, other.backend, other.backend_options)


def _stays(column: WorkingColumn, base: ColumnEntry) -> bool:
    return column.entry.root == base.root and base.schema.has_same_rows(column.entry.schema)


def _free_names(used: set[str]) -> Iterator[str]:
    return (name for name in map("passing.{}".format, count()) if name not in used)
