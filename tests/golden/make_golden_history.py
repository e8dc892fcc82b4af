"""Write the golden repository of nested columns, metadata, merges and changed columns in format 1.

``python -m tests.golden.make_golden_history``, run once, and the result is committed: see `make_golden`.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository

FOLDER = Path(__file__).parent / "v1-history"


def expected() -> dict[str, dict[Any, Any]]:
    """What branch "master" holds, made without the library."""
    return {
        "scans": {
            "p7": {0: _scan(0), "0": _scan(1), 1: _scan(2)},
            3: {"a/b": _scan(3)},
            **{number: {0: _scan(number)} for number in range(10, 40)},
        },
        "notes": {"p7": {0: "links", 1: "ä" * 300}, "new": {"x": ""}},
        "raw": {0: {0: bytes(3000), "tail": b"\xff"}},
        "counts": {number: np.array([number, 2 * number], np.int32) for number in range(5)},
        "pictures": {number: np.full((40, 40), number, np.uint16) for number in range(4)},
    }


METADATA = {"licence": "CC0", "homepage": "https://example.org", "card": "lang " * 50}


def main() -> None:
    """Write the repository: a branch that is merged, a column renamed, one altered, a sample removed."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    work = FOLDER.parent / "work"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repository = Repository(f"file://{FOLDER}", cache_dir=work)
    repository.init("Golden", "golden@example.org")
    contents = expected()
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("scans", shape=(30, 50), dtype=np.float32, variable_shape=True, contains_subsamples=True)
    writer.add_str_column("notes", contains_subsamples=True)
    writer.add_bytes_column("raw", contains_subsamples=True)
    writer.add_ndarray_column("counts", shape=(2,), dtype=np.int16)
    writer.add_ndarray_column("images", shape=(40, 40), dtype=np.uint8)
    for name in ("scans", "raw"):
        writer[name].update(contents[name])
    writer["notes"]["p7"] = contents["notes"]["p7"]
    writer["notes"]["gone"] = {0: "removed on the branch"}
    writer["counts"].update({key: value.astype(np.int16) for key, value in contents["counts"].items()})
    writer["images"].update({key: value.astype(np.uint8) for key, value in contents["pictures"].items()})
    writer.metadata.update({"licence": "unknown", "homepage": METADATA["homepage"]})
    repository.create_branch("dev", writer.commit("everything"))
    writer.metadata["licence"] = METADATA["licence"]
    writer.columns.rename("images", "pictures")
    writer.commit("renamed")
    writer.columns.alter("counts", dtype=np.int32)
    writer.columns.alter("pictures", dtype=np.uint16)
    writer.commit("altered")
    writer.close()
    writer = repository.checkout(write=True, branch="dev")
    writer["notes"]["new"] = contents["notes"]["new"]
    del writer["notes"]["gone"]
    writer.metadata["card"] = METADATA["card"]
    writer.commit("on the branch")
    writer.close()
    repository.merge("both", "master", "dev")
    shutil.rmtree(work)


def _scan(number: int) -> Any:
    return np.random.default_rng(number).normal(size=(1 + number % 30, 20 + number % 7)).astype(np.float32)


if __name__ == "__main__":
    main()
