"""What the tests of integrity fill their repositories with."""

from __future__ import annotations

import numpy as np


def noise(number, size=300):
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def fill(repository, *, big=True):
    """Two commits with inline and packed samples: small ones that share blocks, and one that has blocks of its own."""
    writer = repository.checkout(write=True)
    shared = writer.add_ndarray_column("shared", prototype=noise(0))
    shared.update({n: noise(n) for n in range(30)})
    labels = writer.add_str_column("labels")
    labels.update({n: f"label {n}" for n in range(30)})
    writer.metadata["licence"] = "CC0"
    writer.commit("first")
    many = writer.add_ndarray_column("many", shape=(3000, 2000), dtype=np.uint8, variable_shape=True)
    many["small"] = np.zeros((2, 2), np.uint8)
    if big:
        many["big"] = np.random.default_rng(9).integers(0, 256, (3000, 1500), np.uint8)
    shared[5] = noise(500)
    del labels[7]
    writer.commit("second")
    writer.close()
    return repository
