"""Reading everything that a repository says, in the form of the plain model."""

from __future__ import annotations

from typing import Any

from hangar_cloud.diff import Changes, Conflicts, Diff
from tests.model.plain import METADATA, PlainChanges, PlainDiff, Rows, Snapshot, ordered
from tests.model.plain_merge import PlainMerge
from tests.model.values import same_value


def assert_contents(checkout: Any, wanted: Snapshot) -> None:
    """A checkout holds these columns and samples, bit for bit, however it is asked."""
    names = sorted(name for name in wanted if name != METADATA)
    assert list(checkout) == names
    for name in names:
        kind = wanted[name].kind
        if kind.type == "ndarray":
            # Of a column without samples this is all there is to see.
            schema = checkout[name]._entry.schema
            assert (schema.dtype, schema.shape) == (kind.dtype, kind.shape)
            assert schema.schema_type == ("variable_shape" if kind.variable else "fixed_shape")
        _assert_column(checkout[name], wanted[name].rows, kind.nested)
    texts = wanted[METADATA].rows if METADATA in wanted else {}
    assert list(checkout.metadata.items()) == [(key, texts[key]) for key in ordered(texts)]


def _assert_column(column: Any, rows: Rows, nested: bool) -> None:
    if not nested:
        found = dict(column.items())
        assert list(found) == ordered(rows)
        assert len(column) == len(rows)
    else:
        found = {}
        samples = list(dict.fromkeys(key[0] for key in ordered(rows) if isinstance(key, tuple)))
        assert list(column) == samples
        assert len(column) == len(samples)
        assert column.num_subsamples == len(rows)
        for sample, accessor in column.items():
            found |= {(sample, sub): value for sub, value in accessor.items()}
        assert list(found) == ordered(rows)
    different = [key for key, value in rows.items() if not same_value(found[key], value)]
    assert not different
    for key in list(rows)[:2]:
        assert key in column
        assert same_value(column[key], rows[key])


def holds(checkout: Any, wanted: Snapshot) -> bool:
    """Whether a checkout holds exactly that."""
    try:
        assert_contents(checkout, wanted)
    except (AssertionError, KeyError):
        return False
    return True


def _plain(changes: Changes) -> PlainChanges:
    samples: list[tuple[str, Any]] = [(METADATA, record.key) for record in changes.metadata]
    samples += [
        (record.column, record[1] if len(record) == 2 else (record[1], record[2])) for record in changes.samples
    ]
    return PlainChanges([record.column for record in changes.schema], samples)


def assert_diff(found: Diff, wanted: PlainDiff) -> None:
    """A diff names exactly these columns and samples, in order."""
    assert PlainDiff(*map(_plain, found)) == wanted


def assert_conflicts(found: Conflicts, wanted: PlainMerge | None) -> None:
    """The conflicts are exactly those of a merge (None: there are none)."""
    for kind in ("t1", "t21", "t22", "t3"):
        changes = _plain(getattr(found, kind))
        columns = set() if wanted is None else {name for name, how in wanted.columns.items() if how == kind}
        samples = set() if wanted is None else {place for place, how in wanted.samples.items() if how == kind}
        assert set(changes.columns) == columns - {METADATA}
        assert set(changes.samples) == samples
        assert len(changes.samples) == len(samples)
    assert found.conflict == (wanted is not None and wanted.conflict)


def places_of(found: Conflicts) -> set[Any]:
    """Columns and (column, row key) that are in conflict."""
    kinds = [_plain(changes) for changes in (found.t1, found.t21, found.t22, found.t3)]
    return {place for changes in kinds for place in (*changes.columns, *changes.samples)}
