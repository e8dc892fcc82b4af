"""Which rows differ between two leaves: compared column by column, without a record made of each row (no I/O)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hangar_cloud.catalog.segments import Leaf

Numbers = npt.NDArray[np.intp]
_DIGEST_LENGTH = 32


def differing_rows(before: Leaf, after: Leaf) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Compare two leaves of one schema.

    Returns:
        numbers of the rows whose keys only the first has; only the second; and of those pairs of rows with the same key
        whose identities differ.
    """
    if before.keys == after.keys:
        every = np.arange(len(before))
        return [], [], [(i, i) for i in _differing(before, every, after, every).tolist()]
    theirs, mine = after.positions, before.positions
    removed = [i for i, key in enumerate(before.keys) if key not in theirs]
    added = [i for i, key in enumerate(after.keys) if key not in mine]
    left = np.fromiter((i for i, key in enumerate(before.keys) if key in theirs), np.intp)
    right = np.fromiter((theirs[key] for key in before.keys if key in theirs), np.intp)
    unequal = _differing(before, left, after, right)
    return removed, added, list(zip(left[unequal].tolist(), right[unequal].tolist(), strict=True))


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
        result: npt.NDArray[np.bool_] = (mine[left] != theirs[right]).any(axis=1)
        return result
    ours, others = before.values or [], after.values or []
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return np.fromiter((ours[i] != others[j] for i, j in pairs), np.bool_, len(left))


def _digests_differ(before: Leaf, left: Numbers, after: Leaf, right: Numbers) -> npt.NDArray[np.bool_] | bool:
    if len(left) == 0:
        return False
    result: npt.NDArray[np.bool_] = (_digests(before)[left] != _digests(after)[right]).any(axis=1)
    return result


def _digests(leaf: Leaf) -> npt.NDArray[Any]:
    packed = leaf.packed
    # A row without value and place is damaged: `row` says so.
    data = leaf.row(0).identity if packed is None else packed[0]
    return np.frombuffer(data, np.uint64).reshape(-1, _DIGEST_LENGTH // 8)
