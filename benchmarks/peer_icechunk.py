"""The same work with Icechunk: a Zarr array in a bucket, with commits."""

import icechunk
import numpy as np
import zarr
from serving import served

CHUNK = 256
"""Images in a chunk: 200 kB, of which few are read in vain, and and a batch is no more than 235 requests."""


def _repository(server, endpoint, opened):
    storage = icechunk.s3_storage(
        bucket=server["bucket"],
        prefix="icechunk",
        region="us-east-1",
        endpoint_url=endpoint,
        access_key_id=server["key"],
        secret_access_key=server["secret"],
        allow_http=True,
        force_path_style=True,
    )
    return opened(storage)


def random_batches(bench):
    """Random batches from far away. It keeps no samples on this machine, so each batch is read from there."""
    images = bench.images()
    with served() as server:
        session = _repository(server, server["endpoint"], icechunk.Repository.create).writable_session("main")
        array = zarr.create_array(session.store, name="image", shape=images.shape, chunks=(CHUNK, 784), dtype=np.uint8)
        array[:] = images
        session.commit("images")
        far = _repository(server, server["slow"], icechunk.Repository.open).readonly_session("main")
        array = zarr.open_array(far.store, path="image", mode="r")
        # Ten batches: a hundred would take a minute, and none is quicker for those before it.
        keys = [np.unique(bench.random.integers(0, 60_000, 256)) for _ in range(10)]
        with bench.timed(sum(map(len, keys))):
            for wanted in keys:
                assert len(array.oindex[wanted]) == len(wanted)
