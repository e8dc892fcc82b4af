"""The same work with Lance."""

import lance
import numpy as np
import pyarrow as pa
from serving import served


def _table(bench):
    return pa.table({"image": pa.FixedSizeListArray.from_arrays(pa.array(bench.images().reshape(-1)), 784)})


def _dataset(bench):
    return lance.write_dataset(_table(bench), bench.folder, mode="overwrite")


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


def random_batches(bench):
    """Random batches from far away. It keeps no samples on this machine, so each batch is read from there."""
    with served() as server:
        url = f"s3://{server['bucket']}/images.lance"
        options = {
            "aws_access_key_id": server["key"],
            "aws_secret_access_key": server["secret"],
            "aws_region": "us-east-1",
            "allow_http": "true",
        }
        lance.write_dataset(_table(bench), url, storage_options={**options, "aws_endpoint": server["endpoint"]})
        far = lance.dataset(url, storage_options={**options, "aws_endpoint": server["slow"]})
        keys = [bench.random.integers(0, 60_000, 256).tolist() for _ in range(10)]
        # Ten batches: a hundred would take minutes, and none is quicker for those before it.
        with bench.timed(10 * 256):
            for wanted in keys:
                taken = np.asarray(far.take(wanted)["image"].combine_chunks().flatten()).reshape(-1, 784)
                assert len(taken) == 256
