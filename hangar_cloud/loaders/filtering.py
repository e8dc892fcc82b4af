"""Choosing samples by their labels, without reading them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hangar_cloud.catalog.keys import KeyType
from hangar_cloud.errors import InvalidArgumentError, TransformError
from hangar_cloud.loaders.selection import SampleKey, select


def keys_where(column: Any, predicate: Callable[[Any], Any]) -> list[KeyType]:
    """Keys of the samples whose value fulfils a condition; for the argument `keys` of datasets.

    Only records are read: values have to stand in them, as numbers and short texts do (up to 32 bytes at the least). No
    bytes of samples are fetched.

    >>> keys_where(co["labels"], lambda label: label == 3)  # doctest: +SKIP

    Args:
        column: a flat column of a checkout for reading.
        predicate: called with each value, in key order; true for those that are wanted.

    Raises:
        TypeError: no column.
        PermissionError: a column of a checkout for writing.
        ValueError: the column is nested, or has a value that does not stand in its record; it is named.
        RuntimeError: the predicate failed; the sample is named.
    """
    if not callable(predicate):
        raise InvalidArgumentError(f"predicate must be a function of a value, not {predicate!r}")
    ((_, checked),) = select([column], ()).columns.items()
    if checked.contains_subsamples:
        raise InvalidArgumentError(f"column {checked.column!r} is nested; choose by a flat column")
    found: list[Any] = []
    for leaf in checked._leaves():
        values = leaf.values or [None] * len(leaf)
        for i, (key, value) in enumerate(zip(leaf.keys, values, strict=True)):
            checked._alive()
            if value is None:
                raise InvalidArgumentError(
                    f"column {checked.column!r}, sample {key!r}: its value does not stand in its record, so choosing "
                    "by it would read samples; choose by a column of numbers or short texts"
                )
            shape = tuple(dimension[i] for dimension in leaf.shapes) if leaf.shapes else None
            if _holds(predicate, checked._decode(key, value, shape), checked.column, key):
                found.append(key)
    return found


def _holds(predicate: Callable[[Any], Any], value: Any, column: str, key: SampleKey) -> bool:
    try:
        return bool(predicate(value))
    except Exception as error:
        told = f"the predicate failed on column {column!r}, sample {key!r}: {type(error).__name__}: {error}"
        raise TransformError(told) from error
