"""Write the golden repository of purged short values, whose leaves cannot be hashed any more, in format 1.

``python -m tests.golden.make_golden_short``, run once, and the result is committed: see `make_golden`.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np

from hangar_cloud import Repository
from hangar_cloud.catalog import condemned

FOLDER = Path(__file__).parent / "v1-short"
REASON = "erasure asked for"
PURGED = {"name": 3, "label": 4}


def main() -> None:
    """Write the repository: equal short values under many keys, two purged, and a commit on top of that."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    condemned.SETTLE_SECONDS = 0.1
    work = FOLDER.parent / "work"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repository = Repository(f"file://{FOLDER}", cache_dir=work)
    repository.init("Golden", "golden@example.org")
    writer = repository.checkout(write=True)
    writer.add_str_column("name").update(dict.fromkeys(range(8), "Ada"))
    writer.add_ndarray_column("label", prototype=np.array(0)).update({n: np.array(n % 2) for n in range(8)})
    writer.commit("eight of each")
    writer.close()
    for column, key in PURGED.items():
        repository.purge(column=column, key=key, reason=REASON)
    writer = repository.checkout(write=True)
    writer["label", 5] = np.array(7)
    writer.commit("beside a purged one")
    writer.close()
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
