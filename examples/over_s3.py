"""A dataset from arrays to S3 and back.

    python examples/over_s3.py s3://my-bucket/some/folder      # credentials from the usual places
    python examples/over_s3.py s3://my-bucket/x --endpoint http://127.0.0.1:8333 --key … --secret …
    python examples/over_s3.py --local-server                  # with a server of its own, on this machine

The folder in the bucket has to be new: what is pushed there stays.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hangar_cloud import Repository


def main(url: str, options: dict[str, Any], folder: Path) -> None:
    # Credentials are given where they are used and stay in memory: nothing writes them to disk.
    repo = Repository(folder / "dataset", exists=False, storage_options=options)
    repo.init(user_name="Ada", user_email="ada@example.org")
    co = repo.checkout(write=True)
    signals = co.add_ndarray_column("signals", shape=(1000,), dtype=np.float32)
    with signals:
        for i in range(5000):
            signals[i] = np.sin(np.arange(1000, dtype=np.float32) * i / 500)
    co.commit("five thousand waves")
    co.close()

    repo.remote.add("origin", url)
    print(f"the bucket answers in {repo.remote.ping('origin') * 1000:.0f} ms")
    repo.remote.push("origin", "master")
    print("pushed:", repo.size_human)

    # A clone holds history only, until something is read.
    clone = Repository(folder / "clone", exists=False, storage_options=options)
    clone.clone("Ben", "ben@example.org", url)
    before = clone.size_nbytes
    reader = clone.checkout()
    wave = reader["signals", 4711]
    reader.close()
    print(f"one wave of {len(wave)} points; with it came {clone.size_nbytes - before:,} bytes")

    # A commit straight into the bucket, without a local repository.
    direct = Repository(url, storage_options=options, cache_dir=folder / "cache")
    co = direct.checkout(write=True)
    co["signals", 5000] = np.zeros(1000, np.float32)
    co.commit("and silence")
    co.close()
    direct.log()

    # The clone learns of it.
    print("fetched", clone.remote.fetch("origin", "master"))
    reader = clone.checkout(branch="origin/master")
    print("the new sample is silence:", not reader["signals", 5000].any())
    reader.close()


def run_with_local_server(folder: Path) -> None:
    # The server comes from this project's own folder, which is not installed: python -m infra.local --help
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from infra.local import SeaweedS3Server

    with SeaweedS3Server() as server:
        main(f"{server.url}/over-s3", server.storage_options, folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default=os.environ.get("HANGAR_S3_URL"), help="default: $HANGAR_S3_URL")
    parser.add_argument("--endpoint", help="where a server that is not Amazon's is; default: $AWS_ENDPOINT_URL")
    parser.add_argument("--key", help="default: as every AWS program finds it")
    parser.add_argument("--secret")
    parser.add_argument("--local-server", action="store_true", help="start a SeaweedFS server for the time being")
    given = parser.parse_args()
    if not given.url and not given.local_server:
        parser.error("give the URL of a folder in a bucket, or --local-server")
    return given


if __name__ == "__main__":
    given = arguments()
    # What is not given is left to the driver, which looks into the environment and ~/.aws by itself.
    found = {"endpoint_url": given.endpoint, "key": given.key, "secret": given.secret}
    with tempfile.TemporaryDirectory() as temporary:
        if given.local_server:
            run_with_local_server(Path(temporary))
        else:
            main(given.url, {name: value for name, value in found.items() if value}, Path(temporary))
