"""Random permutations that are the same on every machine and with every version of numpy (pure)."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]


def permutation(count: int, *name: int | str) -> Positions:
    """The numbers below `count` in an order that follows from the `name` alone.

    numpy promises the stream of Philox, and not what its `permutation` makes of it. So raw numbers are drawn, each gets
    the number that is to be placed as its lowest bits, and they are sorted: no two are equal, so any sort gives this.

    >>> permutation(5, 0, "example").tolist()
    [1, 2, 3, 4, 0]
    """
    if count < 2:
        return np.arange(count, dtype=np.int64)
    seed = blake2b(repr(name).encode(), digest_size=16).digest()
    generator = np.random.Philox(key=int.from_bytes(seed, "little"))
    low = np.uint64(2 ** (count - 1).bit_length() - 1)
    drawn = np.asarray(generator.random_raw(count), np.uint64)
    drawn &= ~low
    drawn |= np.arange(count, dtype=np.uint64)
    drawn.sort()
    drawn &= low
    return drawn.view(np.int64)
