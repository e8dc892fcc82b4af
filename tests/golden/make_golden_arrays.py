"""Write the golden repository of arrays in tiles in format 1.

``python -m tests.golden.make_golden_arrays``, run once, and the result is committed: see `make_golden`.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned

FOLDER = Path(__file__).parent / "v1-arrays"
REASON = "erasure asked for"
PURGED = 2
DTYPES = ["|b1", "|i1", ">u2", "<f2", "<f4", "<c8", "<c16"]


def volume(number: int) -> Any:
    """What sample `number` of "volumes" holds: 880 kB, in an array of its own."""
    return (np.arange(110 * 80 * 50, dtype=np.uint16) // 50 + number).reshape(110, 80, 50)


def small(number: int) -> Any:
    """What sample `number` of "small" holds; all are in one array."""
    return np.random.default_rng(number).integers(0, 4, (20, 30, 2 + number), np.uint8)


def scene(dtype: str) -> Any:
    """What the subsample of that dtype's column holds."""
    return (np.arange(70 * 60) % 120).reshape(70, 60).astype(dtype)


def main() -> None:
    """Write the repository: arrays of their own and shared ones, of every width, repacked, and one purged."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    condemned.SETTLE_SECONDS = 0.1
    work = FOLDER.parent / "work"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repository = Repository(f"file://{FOLDER}", cache_dir=work)
    repository.init("Golden", "golden@example.org")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("volumes", shape=(110, 80, 50), dtype=np.uint16, backend="t0")
    options = {"tile": (8, 8, 2), "filters": ["bitshuffle", ["gzip", 3]]}
    samples: dict[int | str, Any] = {0: small(0), 1: small(2), **{i: small(i) for i in range(2, 8)}}
    samples["twin"] = small(PURGED) + np.uint8(1)
    writer.add_ndarray_column(
        "small", shape=(20, 30, 9), dtype=np.uint8, variable_shape=True, backend="t0", backend_options=options
    )
    for i, dtype in enumerate(DTYPES):
        column = writer.add_ndarray_column(
            f"dtype-{i}",
            shape=(70, 60),
            dtype=dtype,
            contains_subsamples=True,
            backend="t0",
            backend_options={"tile": (32, 32)},
        )
        column["scene", "only"] = scene(dtype)
    writer["volumes"].update({0: volume(0), "0": volume(1)})
    writer.commit("volumes and scenes")
    writer["small"].update(samples)
    writer.commit("small ones")
    writer.close()
    repository.repack()
    repository.gc(grace=0)
    repository.purge(column="small", key=PURGED, reason=REASON)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
