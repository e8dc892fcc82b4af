"""Moving staged changes onto a head that another writer moved meanwhile.

Changes to different keys never conflict, and neither do equal changes. The same key changed to different
values, a changed column that the other writer removed or gave another schema, and the like, do. A larger maximum
of a variable shape does not: what fitted still fits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.normal_form import normal_form, same_setup
from hangar_cloud.catalog.records import NodeRef, Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.working_set import WorkingColumn, WorkingSet

_SHOWN: Final = 5


class Conflict(NamedTuple):
    """A column (`key` None) or a sample that both writers changed, each in its own way."""

    column: str
    key: RowKey | None


def find_conflicts(working: WorkingSet, head: dict[str, ColumnEntry], nodes: NodeReader) -> list[Conflict]:
    """What staged changes and the changes from `working.base` to `head` do to each other. Reads no sample.

    Staged rows that say what the base says are no changes, and forgotten.
    """
    working.drop_unchanged()
    conflicts: list[Conflict] = []
    for name in sorted({*working.base, *working.columns, *head}):
        conflicts += _column_conflicts(name, working.base.get(name), working.columns.get(name), head.get(name), nodes)
    for column in working.columns.values():
        # A renamed column holds what its old name held, so that must still be there, as it was.
        renamed = column.origin != column.name and column.entry.root is not None
        alike = not column.staged and _same(column.entry, head.get(column.name))
        if renamed and not alike and not _same(working.base.get(column.origin), head.get(column.origin)):
            conflicts.append(Conflict(column.origin, None))
    return list(dict.fromkeys(conflicts))


def describe(conflicts: list[Conflict]) -> str:
    """The first few conflicts in words."""
    names = ("metadata" if c.column == METADATA else f"column {c.column!r}" for c in conflicts[:_SHOWN])
    shown = [name + ("" if c.key is None else f" sample {c.key!r}") for name, c in zip(names, conflicts, strict=False)]
    more = f" and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
    return ", ".join(shown) + more


def advice(conflicts: list[Conflict], branch: str, base: str | None) -> str:
    """What a user can do about conflicts of a commit with what is on its branch by now."""
    look = f"Read what the other writer made of it with checkout(branch={branch!r})"
    if any(conflict.key is None for conflict in conflicts):
        return (
            f"{look}. No on_conflict settles changes of whole columns. To give yours up, call reset_staging_area(). To "
            f"keep them, stash them, bring them back on a branch made from commit {(base or 'none')[:12]}, and commit "
            "them there"
        )
    return (
        f"{look}. To keep that, set or delete the samples here likewise and commit again, or commit with "
        "on_conflict='theirs'; to keep yours, commit with on_conflict='ours'"
    )


def adds_nothing(working: WorkingSet, head: dict[str, ColumnEntry], nodes: NodeReader) -> bool:
    """True if all that is staged is in another commit's columns already. Reads no sample."""
    for name in set(working.base) - set(working.columns):
        if name in head:
            return False
    for name, column in working.columns.items():
        theirs = head.get(name)
        if theirs is None or theirs.schema != column.entry.schema:
            return False
        if _backend(column.entry) not in (_backend(theirs), _backend(working.base.get(name))):
            return False
        if any(
            _identity(nodes.find(theirs.root, theirs.schema, key)) != _identity(row)
            for key, row in column.staged.items()
        ):
            return False
    return True


def _backend(entry: ColumnEntry | None) -> tuple[str, dict[str, Any]] | None:
    """Where new values of a column go."""
    return None if entry is None else (entry.backend, entry.backend_options)


def equals_base(working: WorkingSet, trees: Mapping[str, tuple[ColumnSchema, NodeRef | None]]) -> bool:
    """True if a commit with these schemas and roots would equal the one that is staged upon."""
    if set(trees) != set(working.base):
        return False
    for name, (schema, root) in trees.items():
        before, after = working.base[name], working.columns[name].entry
        if (schema, _digest(root)) != (before.schema, _digest(before.root)):
            return False
        if (after.backend, after.backend_options) != (before.backend, before.backend_options):
            return False
    return True


def rebase(working: WorkingSet, staging: StagingArea, head: dict[str, ColumnEntry], **settings: str | None) -> None:
    """Put staged changes, which do not conflict, on top of another commit's columns; durable on return.

    Attempts to commit that were about to land are forgotten: a branch that moved on does not take them any more.

    Args:
        working: what is staged; nothing waits in memory.
        staging: where that is recorded.
        head: columns of the commit.
        settings: recorded together with the changes, such as the commit ("base").

    Raises:
        StagingError: it could not be recorded; everything is on top of the old base still.
    """
    old = working.base
    try:
        _rebase_in_memory(working, head)
        working.drop_unchanged()
        rows = sum(len(column.staged) for column in working.columns.values())
        if staging.size() == (0, rows):
            staging.set_settings(**settings, landing=None)
        else:
            staging.replace(normal_form(working), **settings, landing=None)
    except BaseException:
        with contextlib.suppress(StagingError):
            working.reload(old)
        raise


def _rebase_in_memory(working: WorkingSet, head: dict[str, ColumnEntry]) -> None:
    old = working.base
    for name, entry in head.items():
        column = working.columns.get(name)
        if column is not None:
            column.move_base(_merged_entry(column.entry, old.get(name), entry))
        elif name not in old:
            working.adopt(name, entry)
    for name in set(working.columns) & (set(old) - set(head)):
        del working.columns[name]
    for name, column in working.columns.items():
        if name in head and column.entry.root == head[name].root:
            column.origin = name
    working.base = dict(head)


def _column_conflicts(
    name: str, base: ColumnEntry | None, ours: WorkingColumn | None, theirs: ColumnEntry | None, nodes: NodeReader
) -> list[Conflict]:
    if ours is None:
        removed_by_us = base is not None
        changed_by_them = theirs is not None and not _same(base, theirs)
        return [Conflict(name, None)] if removed_by_us and changed_by_them else []
    untouched = base is not None and not ours.staged and same_setup(base, ours.entry) and ours.entry.root == base.root
    if untouched or (theirs is not None and _same(base, theirs)):
        return []
    if theirs is None:
        return [Conflict(name, None)] if base is not None else []
    if base is None and not ours.staged and _same(ours.entry, theirs):
        return []
    if not _schemas_agree(None if base is None else base.schema, ours.entry.schema, theirs.schema):
        return [Conflict(name, None)]
    root = None if base is None else base.root
    if ours.entry.root != root:  # removed and made anew
        return [] if _same(base, theirs) else [Conflict(name, None)]
    return [
        Conflict(name, key)
        for key, row in ours.staged.items()
        if _differ(nodes.find(root, theirs.schema, key), nodes.find(theirs.root, theirs.schema, key), row)
    ]


def _differ(base: Row | None, theirs: Row | None, ours: Row | None) -> bool:
    return _identity(base) != _identity(theirs) and _identity(theirs) != _identity(ours)


def _identity(row: Row | None) -> bytes | None:
    return None if row is None else row.identity


def _same(one: ColumnEntry | None, other: ColumnEntry | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.schema == other.schema and _digest(one.root) == _digest(other.root)


def _digest(root: NodeRef | None) -> bytes | None:
    return None if root is None else root.digest


def _schemas_agree(base: ColumnSchema | None, ours: ColumnSchema, theirs: ColumnSchema) -> bool:
    """True if all are the same, or one side only raised the maximum of the shapes."""
    if base is None or base not in (ours, theirs):
        return base is None and ours == theirs
    new = theirs if ours == base else ours
    return base.has_same_rows(new) and all(n <= most for n, most in zip(base.shape or (), new.shape or (), strict=True))


def _merged_entry(ours: ColumnEntry, base: ColumnEntry | None, theirs: ColumnEntry) -> ColumnEntry:
    """Their root, and our backend where we changed it."""
    if base is not None and ours.root != base.root:
        return ours
    if base is not None and same_setup(base, ours):
        return theirs
    schema = theirs.schema if base is not None and ours.schema == base.schema else ours.schema
    return ColumnEntry(schema, theirs.root, ours.backend, ours.backend_options)
