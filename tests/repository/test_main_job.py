"""The main job: a real dataset from arrays to a bucket and back, lazily.

`HANGAR_TEST_MNIST` names the folder of the four MNIST files (``train-images-idx3-ubyte.gz`` …).
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from infra.local import DelayingProxy, SeaweedS3Server
from tests.repository.making import ROOT, files_of, make_repository

MNIST = Path(os.environ.get("HANGAR_TEST_MNIST", ROOT.parent / "shared" / "data" / "mnist"))
COUNT = 60_000


@pytest.fixture(scope="module")
def mnist():
    images, labels = MNIST / "train-images-idx3-ubyte.gz", MNIST / "train-labels-idx1-ubyte.gz"
    if not (images.exists() and labels.exists()):
        pytest.skip("the MNIST files are missing: name their folder in HANGAR_TEST_MNIST")
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16).reshape(COUNT, 28, 28)
    return pixels, np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)


def test_mnist_to_a_bucket_and_back(mnist, tmp_path):
    pixels, labels = mnist
    with SeaweedS3Server() as server:
        url = f"{server.url}/mnist"
        local = make_repository(tmp_path / "local", storage_options=server.storage_options)
        head = ingest(local, pixels, labels)
        local.remote.add("origin", url)
        local.remote.push("origin", "master")
        stored = sum(len(data) for path, data in files_of(local.path).items() if "/store/" in path)

        clone = Repository(tmp_path / "clone", exists=False)
        with DelayingProxy(server.endpoint) as proxy:
            clone.clone("Reader", "reader@example.org", url, storage_options=server.options_for(proxy.url))
            counting = CountingStore(clone._storage.remote_store("origin"))
            clone._storage._remote_stores["origin"] = counting
            checkout = clone.checkout()
            assert checkout["labels", 31_415] == labels[31_415]
            assert np.array_equal(checkout["images", 31_415], pixels[31_415])
            moved, on_the_wire = counting.bytes_received, proxy.bytes_down
            raw = pixels.nbytes + labels.nbytes
            print(
                f"raw {raw}, stored {stored}; one label and image: {moved}; on the wire, with the clone: {on_the_wire}"
            )
            # Nearly all of it is the one leaf of the images' records, whose digests no codec makes smaller.
            assert on_the_wire < raw / 100
            assert moved < stored / 40
            assert np.array_equal(checkout["images"].get_batch(range(COUNT)), pixels)
            assert np.array_equal(checkout["labels"].get_batch(range(COUNT)), labels)
            checkout.close()

        other = Repository(tmp_path / "other", exists=False, storage_options=server.storage_options)
        other.clone("Reader", "reader@example.org", url)
        assert other.remote.fetch_data("origin", "master") == [head]

    offline = Repository(other.path, offline=True)
    checkout = offline.checkout()
    assert checkout.columns.contains_remote_references == {"images": False, "labels": False}
    for number, (key, image) in enumerate(checkout["images"].items()):
        assert key == number
        assert np.array_equal(image, pixels[number])
    assert np.array_equal(np.fromiter(checkout["labels"].values(), np.uint8, COUNT), labels)
    checkout.close()


def ingest(repository, pixels, labels):
    """One commit with an image and a label of every key."""
    writer = repository.checkout(write=True)
    images = writer.add_ndarray_column("images", shape=(28, 28), dtype=np.uint8)
    numbers = writer.add_ndarray_column("labels", shape=(), dtype=np.uint8)
    with images, numbers:
        for key in range(len(pixels)):
            images[key] = pixels[key]
            numbers[key] = labels[key, ...]
    digest = writer.commit("60,000 images and labels")
    writer.close()
    return digest
