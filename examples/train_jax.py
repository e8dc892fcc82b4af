"""Train a linear classifier on MNIST with JAX, straight from a dataset as examples/train_torch.py makes it.

python examples/train_jax.py s3://my-bucket/mnist
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from hangar_cloud import Repository, make_numpy_dataset


def loss(weights: Any, images: Any, labels: Any) -> Any:
    scores = images.reshape(len(images), -1) / 255 @ weights["w"] + weights["b"]
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], 1).mean()


@partial(jax.jit, donate_argnums=0)
def step(weights: Any, images: Any, labels: Any) -> Any:
    return jax.tree.map(lambda w, g: w - 0.2 * g, weights, jax.grad(loss)(weights, images, labels))


def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as cache:
        co = Repository(url, cache_dir=cache).checkout()
        train = make_numpy_dataset(
            {"image": co["train-images"], "label": co["train-labels"]},
            batch_size=256,
            seed=1,
            drop_last=True,  # so that each step has the same shapes, and is compiled once
            rank=jax.process_index(),
            world_size=jax.process_count(),
        )
        weights = {"w": jnp.zeros((784, 10)), "b": jnp.zeros(10)}
        for _ in range(3):
            for batch in train:
                # The arrays go to the default device: a GPU or TPU where there is one.
                weights = step(weights, jnp.asarray(batch["image"]), jnp.asarray(batch["label"]))
        right = seen = 0
        columns = {"image": co["test-images"], "label": co["test-labels"]}
        for batch in make_numpy_dataset(columns, batch_size=1000, shuffle=False):
            images = batch["image"].reshape(len(batch["image"]), -1) / 255
            right += int(((images @ weights["w"] + weights["b"]).argmax(1) == batch["label"]).sum())
            seen += len(images)
        print(f"right for {100 * right / seen:.2f}% of {seen} test images, on {jax.devices()[0].platform}")
        co.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
