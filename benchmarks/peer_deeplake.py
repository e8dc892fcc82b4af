"""The same work with Deep Lake."""

import os

import deeplake


def _new(bench, name):
    dataset = deeplake.create(f"file://{os.path.join(bench.folder, name)}")
    dataset.add_column("images", deeplake.types.Array("uint8", shape=[784]))
    dataset.commit("column")
    return dataset


def images_at_once(bench):
    """As they are: it neither compresses nor hashes them."""
    images = bench.images()
    first = _new(bench, "first")
    first.append({"images": images[:10]})
    first.commit("what is loaded when it is needed first")
    dataset = _new(bench, "images")
    with bench.timed(len(images)):
        dataset.append({"images": images})
        dataset.commit("images")


def batch(bench):
    images = bench.images()
    dataset = _new(bench, "images")
    dataset.append({"images": images})
    dataset.commit("images")
    # A column is of no use once its dataset is garbage.
    opened = deeplake.open(f"file://{os.path.join(bench.folder, 'images')}")
    column = opened["images"]
    keys = [bench.random.integers(0, len(images), 256).tolist() for _ in range(50)]
    bench.each(lambda wanted: column[wanted], keys)
