"""Write the golden repository of the current format version: `python -m tests.golden.make_golden`.

Run once for each format version, and the result is committed. It is never written again: what it holds
is what some user's bucket holds.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository

FOLDER = Path(__file__).parent / "v1"


def expected() -> dict[str, dict[Any, Any]]:
    """What the golden repository's branch "master" holds, made without the library."""
    random = np.random.default_rng(7)
    images = {i: (np.arange(1200, dtype=np.uint8).reshape(30, 40) * i % 251).astype(np.uint8) for i in range(12)}
    images["0"] = images[3]
    noise = {f"scan/{i}.raw": random.normal(size=(50 + i, 30)).astype(np.float32) for i in range(4)}
    return {
        "images": images,
        "labels": {i: np.array(i % 3, np.int64) for i in range(500)},
        "flags": {i: np.array([i % 2 == 0]) for i in range(5)},
        "scores": {
            0: np.array([-0.0]),
            1: np.array([0.0]),
            2: np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\x7f", np.float64),
            3: np.array([np.inf]),
        },
        "big_endian": {0: np.arange(40, dtype=">f4").reshape(5, 8)},
        "complex": {1: np.array([1 + 2j, -0j], np.complex64)},
        "noise": noise,
        "captions": {"short": "zwölf Boxkämpfer", "empty": "", "lone": "\ud800", "long": "lang " * 100},
        "blobs": {"nothing": b"", "zeros": bytes(1000), "short": b"\x00\xff"},
        "large": {0: np.arange(1_200_000, dtype=np.float64).reshape(1000, 1200) // 1000},
    }


def main() -> None:
    """Write the repository, as three commits on "master" and a branch "side"."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    work = FOLDER.parent / "work"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repository = Repository(f"file://{FOLDER}", cache_dir=work)
    repository.init("Golden", "golden@example.org")
    checkout = repository.checkout(write=True)
    contents = expected()
    for name, samples in contents.items():
        first = next(iter(samples.values()))
        if isinstance(first, np.ndarray):
            shape = (60, 30) if name == "noise" else first.shape
            checkout.add_ndarray_column(name, shape=shape, dtype=first.dtype, variable_shape=name == "noise")
        elif isinstance(first, str):
            checkout.add_str_column(name)
        else:
            checkout.add_bytes_column(name)
    checkout["images"][99] = np.zeros((30, 40), np.uint8)
    for name in ("images", "labels", "captions"):
        checkout[name].update(contents[name])
    checkout.commit("first")
    del checkout["images"][99]
    for name in contents:
        checkout[name].update(contents[name])
    digest = checkout.commit("second")
    repository.create_branch("side", digest)
    checkout.close()
    side = repository.checkout(write=True, branch="side")
    side["labels"][1000] = np.array(7, np.int64)
    side.commit("on the side")
    side.close()
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
