"""A local S3 server, and before it a network that is slow to answer, for work that may run in a peer's environment.

Started by `served`, in the environment of hangar-cloud; ends when what started it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

DELAY = 0.03


def cores_apart():
    """Cores for a server, and others for its client, as they have on a network; all for both where that cannot be."""
    if not hasattr(os, "sched_getaffinity"):  # Linux alone lets a process choose
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    return (cores[:half], cores[half:]) if half else (cores, cores)


def keep_to(cores):
    """Have this process, and those that it starts from now on, use these cores alone."""
    if cores is not None:
        os.sched_setaffinity(0, cores)


@contextmanager
def served(cores=None):
    """A server: a dict of `bucket`, `endpoint`, `slow` (the endpoint behind 30 ms), `key` and `secret`.

    It keeps to `cores`, if they are given.
    """
    python, root = os.environ["BENCH_PYTHON"], os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen(
        [python, os.path.abspath(__file__), json.dumps(cores)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def client(server, endpoint):
    """A boto3 client of the server, at one of its endpoints."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=server["key"],
        aws_secret_access_key=server["secret"],
        region_name="us-east-1",
    )


def upload(server, folder, prefix):
    """Put the files of a folder below a prefix of the bucket, not delayed."""
    s3 = client(server, server["endpoint"])
    for name in sorted(os.listdir(folder)):
        s3.upload_file(os.path.join(folder, name), server["bucket"], f"{prefix}/{name}")


def main():
    """Serve until standard input ends."""
    from infra.local import DelayingProxy, SeaweedS3Server

    keep_to(json.loads(sys.argv[1]))
    with SeaweedS3Server() as server, DelayingProxy(server.endpoint, delay=DELAY) as proxy:
        options = server.storage_options
        told = {"bucket": server.bucket, "endpoint": server.endpoint, "slow": proxy.url}
        print(json.dumps({**told, "key": options["key"], "secret": options["secret"]}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
