"""Rows under another schema of their column, from the records alone: no sample is read.

This is how a merge brings samples that one side changed into a column that the other side altered. Another kind or
maximum of shape changes records only. Another dtype changes the bytes, so it works where the value stands in the
record itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from hangar_cloud.backends.pack_reader import PackedSample
from hangar_cloud.backends.values import sample_identity
from hangar_cloud.catalog.alter import Altering, describe
from hangar_cloud.catalog.commits import ColumnEntry
from hangar_cloud.catalog.errors import InvalidSchemaError
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.tree_diff import diff_trees


class Uncarried(Enum):
    """Why a row has no counterpart under another schema."""

    NEEDS_SAMPLE = "would have to be read to be cast"
    DOES_NOT_FIT = "does not fit it"


class CarriedChange(NamedTuple):
    """A key that one side changed and what it has under the other side's schema; None where there is nothing.

    `before` is what the base has, `after` what the side that changed it has, `altered` what the side that altered
    the column has.
    """

    key: RowKey
    before: Row | Uncarried | None
    after: Row | None
    altered: Row | None


class UncarriedError(Exception):
    """A change cannot be carried into an altered column; says which, for people. Callers make a conflict of it."""


class _SampleNeededError(Exception):
    """A sample would have to be read."""


def is_carriable(old: ColumnSchema, new: ColumnSchema) -> bool:
    """True if a column of the one schema can be altered to the other, as far as schemas can tell."""
    if old.column_type != "ndarray" or new.column_type != "ndarray" or old.column_layout != new.column_layout:
        return False
    return len(old.shape or ()) == len(new.shape or ())


def carry(old: ColumnSchema, new: ColumnSchema, key: RowKey, row: Row | None) -> Row | Uncarried | None:
    """A row of one schema under another; None for None."""
    if row is None or old == new:
        return row
    if not is_carriable(old, new):
        return Uncarried.DOES_NOT_FIT
    try:
        kept, written = next(Altering("", old, new, _refuse).convert([(key, row)]))
    except _SampleNeededError:
        return Uncarried.NEEDS_SAMPLE
    except InvalidSchemaError:
        return Uncarried.DOES_NOT_FIT
    if kept:
        return kept[0][1]
    prefix, data, shape = written[0][1]
    return Row(sample_identity(prefix, data, shape), None, data, shape)


def carried_changes(
    nodes: NodeReader, base: ColumnEntry, changed: ColumnEntry, altered: ColumnEntry
) -> Iterator[CarriedChange]:
    """What a side that kept the schema changed since the base, under the schema of the side that altered it.

    Raises:
        UncarriedError: some value cannot be carried over.
    """
    old, new = base.schema, altered.schema
    changes = list(diff_trees(nodes, (old, base.root), (old, changed.root)))
    nodes.prefetch_keys(altered.root, new, [change.key for change in changes])
    for key, was, now in changes:
        after = carry(old, new, key, now)
        if isinstance(after, Uncarried):
            raise UncarriedError(f"to {describe(new)}, and its sample {key!r}, which {after.value}, was changed")
        yield CarriedChange(key, carry(old, new, key, was), after, nodes.find(altered.root, new, key))


def _refuse(_: Sequence[PackedSample]) -> Sequence[memoryview | bytes]:
    raise _SampleNeededError
