"""Which rows differ between two leaves: compared column by column, without a record made of each row (no I/O)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.leaf import Leaf

Numbers = npt.NDArray[np.intp]


def differing_rows(before: Leaf, after: Leaf) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Compare two leaves of one schema.

    Returns:
        numbers of the rows whose keys only the first has; only the second; and of those pairs of rows with the same key
        whose identities differ.
    """
    if _same_keys(before, after):
        if before.uniform is not None and after.uniform is not None and before.uniform[0] == after.uniform[0]:
            changed = np.flatnonzero(_rows_differ(before.uniform[1], after.uniform[1])).tolist()
            return [], [], list(zip(changed, changed, strict=True))
        every = np.arange(len(before))
        return [], [], [(i, i) for i in _differing(before, every, after, every).tolist()]
    left, right = _common(before, after)
    removed, added = _others(len(before), left), _others(len(after), right)
    unequal = _differing(before, left, after, right)
    return removed, added, list(zip(left[unequal].tolist(), right[unequal].tolist(), strict=True))


def _same_keys(before: Leaf, after: Leaf) -> bool:
    if before.key_numbers is None or after.key_numbers is None:
        return before.keys == after.keys
    return all(np.array_equal(one, other) for one, other in zip(before.key_numbers, after.key_numbers, strict=True))


def _common(before: Leaf, after: Leaf) -> tuple[Numbers, Numbers]:
    """Numbers of the rows, in each of the two, whose keys both have."""
    if before.key_numbers is not None and after.key_numbers is not None and before.is_ascending and after.is_ascending:
        _, left, right = np.intersect1d(
            before.key_numbers[0], after.key_numbers[0], assume_unique=True, return_indices=True
        )
        return left, right
    theirs = after.positions
    pairs = [(i, theirs[key]) for i, key in enumerate(before.keys) if key in theirs]
    return np.array([i for i, _ in pairs], np.intp), np.array([j for _, j in pairs], np.intp)


def _others(count: int, numbers: Numbers) -> list[int]:
    left = np.ones(count, np.bool_)
    left[numbers] = False
    return np.flatnonzero(left).tolist()


def _differing(before: Leaf, left: Numbers, after: Leaf, right: Numbers) -> Numbers:
    """Which of the pairs of rows have identities that differ."""
    if len(left) == 0:
        return left
    unequal = np.zeros(len(left), np.bool_)
    for one, other in zip(before.shapes, after.shapes, strict=True):
        unequal |= np.asarray(one)[left] != np.asarray(other)[right]
    inline, other_inline = before.is_inline[left], after.is_inline[right]
    both, neither = np.flatnonzero(inline & other_inline), np.flatnonzero(~inline & ~other_inline)
    unequal[both] |= _values_differ(before, left[both], after, right[both])
    unequal[neither] |= _digests_differ(before, left[neither], after, right[neither])
    # The same sample may stand in one leaf and lie in a pack for the other.
    for i in np.flatnonzero(inline != other_inline).tolist():
        unequal[i] |= before.row(int(left[i])).identity != after.row(int(right[i])).identity
    found: Numbers = np.flatnonzero(unequal)
    return found


def _values_differ(before: Leaf, left: Numbers, after: Leaf, right: Numbers) -> npt.NDArray[np.bool_] | bool:
    if len(left) == 0:
        return False
    mine, theirs = before.raw_values, after.raw_values
    if mine is not None and theirs is not None:
        return _rows_differ(mine[left], theirs[right])
    ours, others = before.values or [], after.values or []
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return np.fromiter((ours[i] != others[j] for i, j in pairs), np.bool_, len(left))


def _digests_differ(before: Leaf, left: Numbers, after: Leaf, right: Numbers) -> npt.NDArray[np.bool_] | bool:
    if len(left) == 0:
        return False
    return _rows_differ(_digests(before)[left], _digests(after)[right])


def _rows_differ(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether rows of bytes differ; compared as one number each where they are as wide as one."""
    width = one.shape[1]
    if width in (1, 2, 4, 8) or width % 8 == 0:
        number = np.dtype(f"u{min(width, 8)}")
        one, other = one.view(number), other.view(number)
    unequal = one != other
    result: npt.NDArray[np.bool_] = unequal[:, 0] if unequal.shape[1] == 1 else unequal.any(axis=1)
    return result


def _digests(leaf: Leaf) -> npt.NDArray[np.uint8]:
    if leaf.places is None:
        leaf.row(int(np.argmin(leaf.is_inline)))  # has neither value nor place, and says so
        raise AssertionError("unreachable")
    digests: npt.NDArray[np.uint8] = leaf.places[0]
    return digests
