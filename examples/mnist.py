"""MNIST as a versioned dataset: 70,000 images and their labels, committed, pushed and read in batches.

python examples/mnist.py --data FOLDER      # with the four *-ubyte.gz files
python examples/mnist.py                    # the digits that come with scikit-learn instead
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from pathlib import Path

import numpy as np

from hangar_cloud import Repository


def read_idx(path: Path) -> np.ndarray:
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    shape = np.frombuffer(data[4 : 4 + 4 * rank], ">u4")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels by part: "train" and "test"."""
    if folder is not None:
        parts = {}
        for part, prefix in (("train", "train"), ("test", "t10k")):
            images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
            parts[part] = images, read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        return parts
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target.astype(np.uint8)
    return {"train": (images[:1500], labels[:1500]), "test": (images[1500:], labels[1500:])}


def main(parts: dict[str, tuple[np.ndarray, np.ndarray]], folder: Path) -> None:
    repo = Repository(folder / "mnist", exists=False)
    repo.init(user_name="Ada", user_email="ada@example.org")
    start = time.perf_counter()
    co = repo.checkout(write=True)
    for part, (images, labels) in parts.items():
        image_column = co.add_ndarray_column(f"{part}-images", prototype=images[0])
        label_column = co.add_ndarray_column(f"{part}-labels", shape=(), dtype=np.uint8)
        with image_column, label_column:
            for i in range(len(images)):
                image_column[i] = images[i]
                label_column[i] = np.array(labels[i])
    co.commit("MNIST")
    co.close()
    print(f"written and committed in {time.perf_counter() - start:.1f} s; it takes {repo.size_human}")

    bucket = (folder / "bucket").as_uri()
    repo.remote.add("origin", bucket)
    repo.remote.push("origin", "master")

    # Training reads straight from the bucket, in shuffled batches.
    reader = Repository(bucket).checkout()
    images, labels = reader["train-images"], reader["train-labels"]
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    start = time.perf_counter()
    sums = np.zeros((10, *images.shape))
    counts = np.zeros(10)
    for first in range(0, len(order), 256):
        keys = order[first : first + 256]
        batch, targets = images.get_batch(keys), labels.get_batch(keys)
        np.add.at(sums, targets, batch)
        np.add.at(counts, targets, 1)
    seconds = time.perf_counter() - start
    print(f"a shuffled epoch of {len(order):,} images in {seconds:.1f} s")

    # The simplest of classifiers: the nearest mean image.
    means = (sums / counts[:, None, None]).reshape(10, -1)
    test = reader["test-images"]
    keys = list(test.keys())
    vectors = test.get_batch(keys).reshape(len(keys), -1).astype(float)
    distances = (means**2).sum(1) - 2 * vectors @ means.T
    right = distances.argmin(1) == reader["test-labels"].get_batch(keys)
    print(f"nearest mean image is right for {right.mean():.1%} of {len(keys):,} test images")
    reader.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the four MNIST files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        main(load(given.data), Path(temporary))
