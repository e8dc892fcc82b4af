"""One piece of work, timed in a process of its own. Needs numpy alone: peers of any age run it too.

    python benchmarks/kit.py FILE FUNCTION FOLDER DATA

prints one line of JSON: seconds for one unit, and the units.
"""

from __future__ import annotations

import gc
import gzip
import importlib.util
import json
import os
import sys
import time
from contextlib import contextmanager

import numpy as np


class Bench:
    """What a piece of work is given.

    Args:
        folder: an empty folder for it.
        data: a folder with the four files of MNIST.
    """

    def __init__(self, folder, data):
        self.folder = folder
        self.data = data
        self.seconds = None
        self.random = np.random.default_rng(0)

    @contextmanager
    def timed(self, count):
        """Time the block, which does `count` units of work. The last one counts where there are several."""
        # What preparations left behind would be cleared away in the midst of it: a tenth of a second after an ingest.
        gc.collect()
        start = time.perf_counter()
        yield
        self.seconds = (time.perf_counter() - start) / count

    def median(self, function, times):
        """Time a function, called several times, by its median."""
        taken = []
        for _ in range(times):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
        self.seconds = sorted(taken)[times // 2]

    def each(self, function, items, rounds=3):
        """Time a function of one item by the median over all items, in the best of some rounds."""
        best = float("inf")
        clock = time.perf_counter
        for _ in range(rounds):
            taken = []
            for item in items:
                start = clock()
                function(item)
                taken.append(clock() - start)
            best = min(best, sorted(taken)[len(taken) // 2])
        self.seconds = best

    def images(self):
        """The 60,000 training images of MNIST, as (60000, 784) uint8."""
        with gzip.open(os.path.join(self.data, "train-images-idx3-ubyte.gz")) as file:
            return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)

    def tensors(self):
        """10,000 tensors of (3, 64, 64) float32."""
        return self.random.standard_normal((10_000, 3, 64, 64), np.float32)

    def texts(self):
        """20,000 short texts."""
        return [f"a caption of the image {n}, which is like the others" for n in range(20_000)]


def main(file, function, folder, data):
    """Run one function of a file, and print what it took."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    spec = importlib.util.spec_from_file_location("work", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bench = Bench(folder, data)
    getattr(module, function)(bench)
    print(json.dumps(bench.seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
