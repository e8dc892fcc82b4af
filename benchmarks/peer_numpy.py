"""What the machine itself can do: a memory map, read by numpy."""

import os

import numpy as np


def batch(bench):
    images = bench.images()
    path = os.path.join(bench.folder, "images.bin")
    images.tofile(path)
    mapped = np.memmap(path, np.uint8, "r", shape=images.shape)
    mapped.sum()
    keys = [bench.random.integers(0, len(images), 256) for _ in range(200)]
    bench.each(lambda wanted: np.asarray(mapped[wanted]), keys)
