"""The same work with Lance."""

import lance
import numpy as np
import pyarrow as pa


def _dataset(bench):
    images = bench.images()
    values = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), 784)
    return lance.write_dataset(pa.table({"image": values}), bench.folder, mode="overwrite")


def batch(bench):
    dataset = _dataset(bench)
    dataset.to_table()
    keys = [bench.random.integers(0, 60_000, 256).tolist() for _ in range(50)]
    bench.each(lambda wanted: np.asarray(dataset.take(wanted)["image"].combine_chunks().flatten()), keys)


def scan(bench):
    dataset = _dataset(bench)

    def read():
        for batch in dataset.to_batches(batch_size=256):
            batch["image"].flatten().to_numpy(zero_copy_only=False).reshape(-1, 784)

    read()
    bench.median(read, 5)
    bench.seconds /= 60_000


def warm(bench):
    dataset = _dataset(bench)
    dataset.to_table()
    order = bench.random.permutation(60_000)
    with bench.timed(60_000):
        for start in range(0, 60_000, 256):
            table = dataset.take(order[start : start + 256].tolist())
            np.asarray(table["image"].combine_chunks().flatten()).reshape(-1, 784)
