"""TensorFlow and JAX, where they are installed: `make frameworks`."""

from __future__ import annotations

import numpy as np
import pytest

from hangar_cloud import make_numpy_dataset, make_tf_dataset
from tests.examples.test_examples import make_mnist, run
from tests.loaders.conftest import COUNT
from tests.repository.making import make_repository

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A repository as examples/train_torch.py makes it, of images that are told apart easily."""
    from hangar_cloud.demo_data import read_idx

    folder = tmp_path_factory.mktemp("mnist")
    make_mnist(folder / "data", train=6000, test=500)
    writer = make_repository(folder / "repository").checkout(write=True)
    for part, files in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / "data" / f"{files}-images-idx3-ubyte.gz", 3)
        labels = read_idx(folder / "data" / f"{files}-labels-idx1-ubyte.gz", 1).astype(np.int64)
        writer.add_ndarray_column(f"{part}-images", prototype=images[0]).update(enumerate(images))
        column = writer.add_ndarray_column(f"{part}-labels", shape=(), dtype=np.int64)
        column.update((number, np.array(label)) for number, label in enumerate(labels))
    writer.commit("MNIST")
    writer.close()
    return folder / "repository"


def test_a_tensorflow_dataset_gives_tuples_of_tensors(co):
    dataset = make_tf_dataset([co["image"], co["label"], co["name"], co["blob"]])
    assert [spec.dtype.name for spec in dataset.element_spec] == ["int32", "int64", "string", "string"]
    assert dataset.element_spec[0].shape == (4, 5)
    assert int(dataset.cardinality()) == COUNT
    epochs = []
    for _ in range(2):
        found = []
        for image, label, name, blob in dataset:
            key = int(image.numpy()[0, 0])
            found.append(key)
            assert int(label) == key % 10
            assert name.numpy() == f"digit {key}".encode()
            assert blob.numpy() == bytes([key % 256]) * (key % 90)
        assert sorted(found) == [*range(COUNT)]
        epochs.append(found)
    assert epochs[0] != epochs[1]


def test_a_tensorflow_dataset_of_one_column_of_some_samples_in_order(co):
    found = [int(image.numpy()[0, 0]) for (image,) in make_tf_dataset(co["image"], [5, "0", 3], shuffle=False)]
    assert found == [5, 1000, 3]
    ranged = make_tf_dataset(co["image"], index_range=slice(2, 5), shuffle=False)
    assert [int(image.numpy()[0, 0]) for (image,) in ranged] == [2, 3, 4]


def test_shapes_that_vary_are_padded_as_the_manual_does(co):
    dataset = make_tf_dataset([co["varying"], co["label"]], range(10), shuffle=False)
    assert dataset.element_spec[0].shape.as_list() == [None, None]
    ((values, labels),) = dataset.padded_batch(10, padded_shapes=([None, None], []))
    assert values.shape == (10, 10, 2)
    assert labels.numpy().tolist() == [*range(10)]


def test_subsamples_make_tensors_and_nested_samples_do_not(co):
    pairs = make_tf_dataset([co["scan"], co["label"]], [(5, 2), (4, 0)], shuffle=False)
    assert [(scan.numpy().tolist(), int(label)) for scan, label in pairs] == [([7] * 3, 5), ([4] * 3, 4)]
    with pytest.raises(ValueError, match="'scan' is nested"):
        make_tf_dataset(co["scan"])


def test_jax_takes_the_arrays_as_they_are(co):
    import jax.numpy as jnp

    for batch in make_numpy_dataset([co["image"], co["label"]], range(40), 8):
        image, label = jnp.asarray(batch["image"]), jnp.asarray(batch["label"])
        assert (image[:, 0, 0] % 10 == label).all()


@pytest.mark.parametrize("name", ["train_jax.py", "train_tf.py"])
def test_examples(name, mnist, tmp_path):
    said = run(name, str(mnist), cwd=tmp_path, environment={"PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert "right for 100.00% of" in said
