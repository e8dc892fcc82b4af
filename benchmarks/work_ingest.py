"""Writing, with hangar-cloud: from an empty repository to the commit."""

from __future__ import annotations

from typing import Any

import numpy as np

from hangar_cloud import Repository


def _writer(bench: Any) -> Any:
    repository = Repository(bench.folder, exists=False)
    repository.init("Bench", "bench@example.org")
    return repository.checkout(write=True)


def images_one_by_one(bench: Any) -> None:
    images = bench.images()
    writer = _writer(bench)
    column = writer.add_ndarray_column("images", prototype=images[0])
    with bench.timed(len(images)):
        with column:
            for key, image in enumerate(images):
                column[key] = image
        writer.commit("images")


def labels(bench: Any) -> None:
    values = [np.array(n % 10) for n in range(50_000)]
    writer = _writer(bench)
    column = writer.add_ndarray_column("labels", prototype=values[0])
    with bench.timed(len(values)):
        with column:
            for key, value in enumerate(values):
                column[key] = value
        writer.commit("labels")


def texts(bench: Any) -> None:
    values = bench.texts()
    writer = _writer(bench)
    column = writer.add_str_column("texts")
    with bench.timed(len(values)):
        with column:
            for key, value in enumerate(values):
                column[key] = value
        writer.commit("texts")


def tensors(bench: Any) -> None:
    values = bench.tensors()
    writer = _writer(bench)
    column = writer.add_ndarray_column("tensors", prototype=values[0])
    with bench.timed(len(values)):
        with column:
            for key, value in enumerate(values):
                column[key] = value
        writer.commit("tensors")


def naked(bench: Any) -> None:
    images = bench.images()[:300]
    writer = _writer(bench)
    column = writer.add_ndarray_column("images", prototype=images[0])
    with bench.timed(len(images)):
        for key, image in enumerate(images):
            column[key] = image
    writer.commit("images")
