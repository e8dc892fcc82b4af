"""Train a small network on MNIST with Keras, straight from a dataset as examples/train_torch.py makes it.

python examples/train_tf.py s3://my-bucket/mnist
"""

from __future__ import annotations

import sys
import tempfile

import tensorflow as tf

from hangar_cloud import Repository, make_tf_dataset


def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as cache:
        co = Repository(url, cache_dir=cache).checkout()
        train = make_tf_dataset([co["train-images"], co["train-labels"]]).batch(256).prefetch(2)
        test = make_tf_dataset([co["test-images"], co["test-labels"]], shuffle=False).batch(1000)
        network = tf.keras.Sequential(
            [
                tf.keras.layers.Rescaling(1 / 255),
                tf.keras.layers.Flatten(),
                tf.keras.layers.Dense(64, activation="relu"),
                tf.keras.layers.Dense(10),
            ]
        )
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile("adam", loss, metrics=["accuracy"])
        network.fit(train, epochs=2, verbose=2, shuffle=False)  # it is shuffled already
        _, accuracy = network.evaluate(test, verbose=0)
        print(f"right for {100 * accuracy:.2f}% of the test images")
        co.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
