"""The digest of a decoded leaf, made of whole columns where its rows are alike (pure)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.byte_rows import ByteRows
from hangar_cloud.backends.values import LITERAL_LIMIT
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_building import digest_of_rows

_LITERAL: Final = 0


def digest_of_leaf(leaf: Leaf) -> bytes:
    """What `records.leaf_digest` gives for the leaf's entries, 32 bytes; made some ten times as fast for most leaves.

    Raises:
        CorruptDataError: a row has neither a value nor a place.
    """
    keys, identities = leaf.key_bytes, _identities(leaf)
    return digest_of_rows(
        leaf.encoded_keys if keys is None else ByteRows.of(keys),
        leaf.identities() if identities is None else ByteRows.of(identities),
    )


def _identities(leaf: Leaf) -> npt.NDArray[np.uint8] | None:
    """The identity of each row, if all have one of the same kind and length."""
    if leaf.uniform is None:
        return None
    kind, found = leaf.uniform
    if kind == _LITERAL and found.shape[1] > LITERAL_LIMIT:
        return None
    identities = np.empty((len(leaf), 1 + found.shape[1]), np.uint8)
    identities[:, 0] = kind
    identities[:, 1:] = found
    return identities
