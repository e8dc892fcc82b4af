"""The same epochs with litdata."""

import os
import sys
from functools import partial

from serving import served, upload


def _optimize(bench):
    """Chunks of MNIST in a folder, made by a process of their own: litdata's workers import the main module again."""
    import subprocess

    folder = os.path.join(bench.folder, "chunks")
    subprocess.run([sys.executable, os.path.abspath(__file__), bench.data, folder], check=True, stdout=sys.stderr)
    return folder


def _loader(source, **options):
    from litdata import StreamingDataLoader, StreamingDataset

    dataset = StreamingDataset(source, shuffle=True, drop_last=False, **options)
    return StreamingDataLoader(dataset, batch_size=256, num_workers=0)


def _epoch(loader):
    assert sum(len(batch["image"]) for batch in loader) == 60_000


def warm(bench):
    loader = _loader(_optimize(bench))
    _epoch(loader)
    with bench.timed(60_000):
        _epoch(loader)


def cold(bench):
    folder = _optimize(bench)
    with served() as server:
        upload(server, folder, "chunks")
        os.environ.update(AWS_ACCESS_KEY_ID=server["key"], AWS_SECRET_ACCESS_KEY=server["secret"])
        os.environ.update(AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1")
        _allow_http()
        options = {
            "aws_access_key_id": server["key"],
            "aws_secret_access_key": server["secret"],
            "endpoint_url": server["slow"],
        }
        with bench.timed(60_000):
            url, cache = f"s3://{server['bucket']}/chunks", os.path.join(bench.folder, "cache")
            _epoch(_loader(url, cache_dir=cache, storage_options=options))


def _allow_http():
    """It has no setting for servers without TLS, as the one here is."""
    from litdata.streaming import downloader

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True


def _main(data, folder):
    from kit import Bench
    from litdata import optimize

    images = Bench(folder, data).images()
    optimize(partial(_sample, images), list(range(len(images))), output_dir=folder, chunk_bytes="16MB", num_workers=1)


def _sample(images, number):
    return {"image": images[number], "label": number % 10}


if __name__ == "__main__":
    _main(*sys.argv[1:])
