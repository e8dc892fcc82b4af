"""A dataset from arrays to a bucket and back, on this machine.

    python examples/quickstart.py [FOLDER]

Makes FOLDER/dataset, FOLDER/bucket and FOLDER/copy. Without FOLDER, in a temporary folder that is removed again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from hangar_cloud import Repository


def main(folder: Path) -> None:
    rng = np.random.default_rng(7)
    bucket = (folder / "bucket").as_uri()  # or s3://…, gs://…

    # A repository with two columns. Leaving the `with` block makes everything in it durable.
    repo = Repository(folder / "dataset", exists=False)
    repo.init(user_name="Ada", user_email="ada@example.org")
    co = repo.checkout(write=True)
    images = co.add_ndarray_column("images", shape=(64, 64), dtype=np.uint8)
    labels = co.add_str_column("labels")
    with images, labels:
        for i in range(2000):
            images[i] = rng.integers(0, 256, (64, 64), dtype=np.uint8)
            labels[i] = "noise"
    co.commit("two thousand images of noise")
    co.close()

    # A branch, and a change on it. The branch `master` stays as it is.
    repo.create_branch("review")
    co = repo.checkout(write=True, branch="review")
    co["labels", 42] = "a face, with some good will"
    del co["images"][13], co["labels"][13]
    co.commit("one label corrected, one sample removed")
    co.close()

    # Share both branches.
    repo.remote.add("origin", bucket)
    for branch in ("master", "review"):
        repo.remote.push("origin", branch)

    # Somewhere else: only history is copied. A sample comes when it is read.
    copy = Repository(folder / "copy", exists=False)
    copy.clone("Ben", "ben@example.org", bucket)
    copy.remote.fetch("origin", "review")
    reader = copy.checkout(branch="origin/review")
    print("label 42:", reader["labels", 42])
    print("image 42 has mean", reader["images", 42].mean().round(1))
    print("one batch:", reader["images"].get_batch([3, 1, 2]).shape)
    print("samples that are here:", sum(1 for _ in reader["images"].keys(local=True)), "of", len(reader["images"]))
    reader.close()
    copy.remote.fetch_data("origin", branch="master")  # now all of them

    # No clone is needed at all: a bucket can be read as it is.
    reader = Repository(bucket).checkout(branch="review")
    print("straight from the bucket:", reader["labels", 42])
    reader.close()
    repo.log("review")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
