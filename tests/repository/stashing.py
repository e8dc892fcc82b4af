"""Staged changes of every kind, to be stashed."""

from __future__ import annotations

import numpy as np

BIG = np.arange(9000, dtype=np.float32)


def contents(checkout):
    return {name: dict(column.items()) for name, column in checkout.items()}


def change_everything(writer):
    """Staged changes of every kind; returns what the checkout holds then."""
    writer["array", 0] = np.full(3, 77, np.float32)
    del writer["array"][1]
    writer["array", "new"] = np.full(3, 78, np.float32)
    del writer.columns["blob"]
    writer.columns.rename("text", "words")
    writer["words", 3] = "three"
    writer.add_ndarray_column("big", prototype=BIG).update({key: BIG + key for key in range(5)})
    writer.columns.alter("big", variable_shape=True)
    writer.metadata["licence"] = "CC0"
    return contents(writer)
