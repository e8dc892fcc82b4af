"""Train a small network on MNIST, straight from a bucket, with a break in the middle of an epoch.

    python examples/train_torch.py s3://my-bucket/mnist                   # a dataset with the columns below
    python examples/train_torch.py s3://my-bucket/mnist --data MNIST_DIR  # makes it first, from the four files of MNIST
    python examples/train_torch.py --local-server --data MNIST_DIR        # with an S3 server of its own

The dataset has the columns "train-images" and "test-images" (28 x 28 uint8), "train-labels" and "test-labels" (int64).
Credentials come from the usual places; --endpoint names a server that is not Amazon's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from hangar_cloud import Repository, make_torch_stream
from hangar_cloud.demo_data import read_idx

BATCH = 128


def fill(url: str, options: dict[str, Any], data: Path) -> None:
    repo = Repository(url, exists=False, storage_options=options)
    repo.init(user_name="Ada", user_email="ada@example.org")
    co = repo.checkout(write=True)
    for part, files in (("train", "train"), ("test", "t10k")):
        images = read_idx(data / f"{files}-images-idx3-ubyte.gz", 3)
        labels = read_idx(data / f"{files}-labels-idx1-ubyte.gz", 1).astype(np.int64)
        co.add_ndarray_column(f"{part}-images", prototype=images[0]).update(enumerate(images))
        column = co.add_ndarray_column(f"{part}-labels", shape=(), dtype=np.int64)
        column.update((number, np.array(label)) for number, label in enumerate(labels))
    co.commit("MNIST")
    co.close()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


class Training:
    """A network, what trains it, and where in the data it stands: all that a checkpoint holds."""

    def __init__(self, checkout: Any, workers: int) -> None:
        columns = {"image": checkout["train-images"], "label": checkout["train-labels"]}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(0)
        self.network = network().to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=2e-3)
        self.stream = make_torch_stream(columns, batch_size=BATCH, seed=1)
        # The stream makes the batches: batch_size=None.
        self.loader = DataLoader(self.stream, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    def epoch(self, at_most: int | None = None) -> int:
        """Train on the rest of an epoch, or on so many batches of it; returns how many there were."""
        self.network.train()
        batches = 0
        for batch in self.loader:
            images = batch["image"].to(self.device, non_blocking=True).unsqueeze(1).float() / 255
            loss = nn.functional.cross_entropy(self.network(images), batch["label"].to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            batches += 1
            if batches == at_most:
                break
        return batches

    def save(self, path: Path, batches: int) -> None:
        """Keep everything, `batches` into the epoch: workers read ahead, so the stream has to be told."""
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "stream": self.stream.state_dict(batches=batches)}, path)

    def load(self, path: Path) -> None:
        """Go on where `save` was called. Nothing of the epoch is read again."""
        state = torch.load(path)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stream.load_state_dict(state["stream"])


def accuracy(training: Training, checkout: Any) -> float:
    columns = {"image": checkout["test-images"], "label": checkout["test-labels"]}
    training.network.eval()
    right = seen = 0
    with torch.no_grad():
        for batch in make_torch_stream(columns, batch_size=1000, shuffle=False):
            images = batch["image"].to(training.device).unsqueeze(1).float() / 255
            right += int((training.network(images).argmax(1).cpu() == batch["label"]).sum())
            seen += len(images)
    return right / seen


def main(given: argparse.Namespace, url: str, options: dict[str, Any], folder: Path) -> None:
    if given.data is not None:
        fill(url, options, given.data)
    checkpoint = folder / "checkpoint.pt"
    checkout = Repository(url, storage_options=options, cache_dir=folder / "cache").checkout()

    training = Training(checkout, given.workers)
    stop = len(training.stream) // 2
    start = time.perf_counter()
    training.epoch(at_most=stop)
    training.save(checkpoint, stop)
    print(f"stopped after {stop} of {len(training.stream)} batches, {time.perf_counter() - start:.1f} s")

    # As after a crash, or on another machine: nothing is left but the checkpoint.
    training = Training(checkout, given.workers)
    training.load(checkpoint)
    for number in range(given.epochs):
        start = time.perf_counter()
        batches = training.epoch()
        right = 100 * accuracy(training, checkout)
        took = time.perf_counter() - start
        print(f"epoch {number}: {batches} batches in {took:.1f} s; right for {right:.2f}% of the test images")
    checkout.close()


def run_with_local_server(given: argparse.Namespace, folder: Path) -> None:
    # The server comes from this project's own folder, which is not installed: python -m infra.local --help
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from infra.local import SeaweedS3Server

    with SeaweedS3Server() as server:
        main(given, f"{server.url}/mnist", server.storage_options, folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default=os.environ.get("HANGAR_S3_URL"), help="default: $HANGAR_S3_URL")
    parser.add_argument("--endpoint", help="where a server that is not Amazon's is; default: $AWS_ENDPOINT_URL")
    parser.add_argument("--data", type=Path, help="folder with the four files of MNIST, to make the dataset from")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="processes that read; default: none, which is enough")
    parser.add_argument("--local-server", action="store_true", help="start a SeaweedFS server for the time being")
    given = parser.parse_args()
    if not given.url and not given.local_server:
        parser.error("give the URL of a folder in a bucket, or --local-server")
    return given


if __name__ == "__main__":
    given = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        if given.local_server:
            run_with_local_server(given, Path(temporary))
        else:
            found = {} if given.endpoint is None else {"endpoint_url": given.endpoint}
            main(given, given.url, found, Path(temporary))
