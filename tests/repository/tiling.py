"""Columns of volumes in tiles, and indices to read boxes of them by."""

from __future__ import annotations

from typing import Any

import numpy as np

from hangar_cloud import Repository

SHAPE = (48, 40, 50)
TILE = (16, 16, 16)
OPTIONS = {"tile": list(TILE), "filters": ["byteshuffle", "zstd"]}

INDICES = [
    np.s_[10:26, :20, 5:30],
    np.s_[3],
    np.s_[-1, -2, -3],
    np.s_[5, 7:9],
    np.s_[..., 4],
    np.s_[2, ..., 4],
    np.s_[0, 0, 0, ...],
    np.s_[:],
    np.s_[...],
    (),
    np.s_[::-1, 40:3:-7, ::5],
    np.s_[-5:, -100:100, :-45],
    np.s_[7:7],
    np.s_[40:, 100:, 3],
    np.s_[5:2, ...],
    (np.int64(3), slice(np.uint8(2), None)),
]


def volume(seed: int, shape: tuple[int, ...] = SHAPE, dtype: Any = np.uint16) -> np.ndarray:
    """Noise over a ramp: different everywhere, and compressible."""
    ramp = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape) // 7
    noise = np.random.default_rng(seed).integers(0, 16, shape)
    return (ramp + noise).astype(dtype)


def add_volumes(checkout: Any, name: str = "volumes", **options: Any) -> Any:
    """A column of volumes in tiles."""
    options = {"shape": SHAPE, "dtype": np.uint16, "backend": "t0", "backend_options": OPTIONS, **options}
    return checkout.add_ndarray_column(name, **options)


def commit_volumes(repository: Repository, samples: dict[Any, Any], **options: Any) -> str:
    """One commit of a column "volumes"."""
    checkout = repository.checkout(write=True)
    column = checkout["volumes"] if "volumes" in checkout else add_volumes(checkout, **options)
    column.update(samples)
    digest = checkout.commit(f"{len(samples)} volumes")
    checkout.close()
    return digest


def same_boxes(column: Any, key: Any, value: np.ndarray, indices: Any = INDICES) -> bool:
    """Whether boxes of a sample are what numpy takes of the value: dtype, shape and every bit."""
    for index in indices:
        found, wanted = column.read_slice(key, index), value[index]
        assert type(found) is type(wanted), index
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), index
        assert found.tobytes() == wanted.tobytes(), index
    return True
