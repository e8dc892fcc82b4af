"""The digest of a leaf, straight from its columns where rows are alike: row objects cost fifty times as much."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from hangar_cloud.backends.values import DIGEST_LENGTH, LITERAL_LIMIT
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.records import leaf_digest

_KEY_LENGTH = 9


def digest_of(leaf: Leaf) -> bytes:
    """What `records.leaf_digest` makes of the leaf's rows."""
    identities = _identities(leaf)
    keys = leaf.keys
    if identities is None or not keys or not (type(keys[0]) is type(keys[-1]) is int):  # numbers come before text
        return leaf_digest(leaf.entries())
    width = identities.shape[1]
    rows = np.empty((len(leaf), 2 + _KEY_LENGTH + 1 + width), np.uint8)
    rows[:, :2] = np.frombuffer(_KEY_LENGTH.to_bytes(2, "little"), np.uint8)
    rows[:, 2] = 1
    rows[:, 3:11] = np.array(keys, ">u8").view(np.uint8).reshape(-1, 8)
    rows[:, 11] = width
    rows[:, 12:] = identities
    return blake3(b"leaf\0" + rows.tobytes()).digest()


def _identities(leaf: Leaf) -> npt.NDArray[np.uint8] | None:
    """The identities of all rows (`values.sample_identity`), None where they are not all of one kind."""
    if leaf.shapes:
        return None
    packed, values = leaf.packed, leaf.values
    if packed is not None and values is None and min(packed[2], default=-1) >= 0:
        return _marked(1, np.frombuffer(packed[0], np.uint8).reshape(-1, DIGEST_LENGTH))
    raw: Any = leaf.raw_values
    if packed is None and values is not None and raw is not None and None not in values:
        return _marked(0, raw) if raw.shape[1] <= LITERAL_LIMIT else None
    return None


def _marked(mark: int, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.concatenate((np.full((len(data), 1), mark, np.uint8), data), axis=1)
