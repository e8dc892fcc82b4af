"""The same work with Hangar 0.5.2, which knows numpy 1.23 and Python 3.11 at most."""

import numpy as np
from hangar import Repository


def _writer(bench):
    repository = Repository(bench.folder, exists=False)
    repository.init(user_name="Bench", user_email="bench@example.org", remove_old=True)
    return repository, repository.checkout(write=True)


def _write(bench, values, add):
    _, writer = _writer(bench)
    column = add(writer)
    with bench.timed(len(values)):
        with column:
            for key, value in enumerate(values):
                column[key] = value
        writer.commit("values")
    writer.close()


def images_one_by_one(bench):
    images = bench.images()
    _write(bench, images, lambda writer: writer.add_ndarray_column("images", prototype=images[0]))


def labels(bench):
    values = [np.array([n % 10]) for n in range(50_000)]
    _write(bench, values, lambda writer: writer.add_ndarray_column("labels", prototype=values[0]))


def texts(bench):
    _write(bench, bench.texts(), lambda writer: writer.add_str_column("texts"))


def tensors(bench):
    values = bench.tensors()
    _write(bench, values, lambda writer: writer.add_ndarray_column("tensors", prototype=values[0]))


def naked(bench):
    images = bench.images()[:300]
    _, writer = _writer(bench)
    column = writer.add_ndarray_column("images", prototype=images[0])
    with bench.timed(len(images)):
        for key, image in enumerate(images):
            column[key] = image
    writer.commit("images")
    writer.close()


def all_tensors(bench):
    values = bench.tensors()
    repository, writer = _writer(bench)
    column = writer.add_ndarray_column("tensors", prototype=values[0])
    with column:
        for key, value in enumerate(values):
            column[key] = value
    writer.commit("tensors")
    writer.close()
    column = repository.checkout()["tensors"]

    def read():
        with column:
            for key in range(len(values)):
                column[key]

    bench.median(read, 3)
    bench.seconds /= len(values)
