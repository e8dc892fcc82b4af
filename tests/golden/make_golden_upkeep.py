"""Write the golden repository of tags, logs, receipts, moves and purged samples in format 1.

``python -m tests.golden.make_golden_upkeep``, run once, and the result is committed: see `make_golden`.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned

FOLDER = Path(__file__).parent / "v1-upkeep"
KEY = "2026-11-21-batch-7"
REASON = "erasure asked for"
PURGED = {"images": 3, "notes": 4}


def image(number: int) -> Any:
    """What sample `number` of "images" holds."""
    return np.random.default_rng(number).integers(0, 255, (20, 20), np.uint8)


def note(number: int) -> str:
    """What sample `number` of "notes" holds."""
    return f"{number}: a text that is too long to stand for itself in history"


def main() -> None:
    """Write the repository: many small commits that are repacked and collected, and two samples that are purged."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    condemned.SETTLE_SECONDS = 0.1
    work = FOLDER.parent / "work"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repository = Repository(f"file://{FOLDER}", cache_dir=work)
    repository.init("Golden", "golden@example.org")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("images", shape=(20, 20), dtype=np.uint8)
    writer.add_str_column("notes")
    for number in range(8):
        writer["images"][number] = image(number)
        writer["notes"][number] = note(number)
        writer.commit(f"commit {number}", idempotency_key=KEY if number == 7 else None)
        if number == 2:
            repository.create_tag("v1", message="the first three")
            repository.create_branch("gone")
            repository.create_branch("moved")
    writer.close()
    repository.reset_branch("moved", "master")
    repository.remove_branch("gone")
    repository.create_tag("mistake")
    repository.delete_tag("mistake")
    repository.repack()
    repository.gc(grace=0)
    for column, key in PURGED.items():
        repository.purge(column=column, key=key, reason=REASON)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
