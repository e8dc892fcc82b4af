"""Writing, with hangar-cloud: from an empty repository to the commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hangar_cloud import Repository


def _writer(bench: Any) -> Any:
    repository = Repository(bench.folder, exists=False)
    repository.init("Bench", "bench@example.org")
    return repository.checkout(write=True)


def _write(bench: Any, values: Sequence[Any], add: Callable[[Any], Any]) -> None:
    """Write values one by one in a ``with`` block, and commit."""
    writer = _writer(bench)
    column = add(writer)
    with bench.timed(len(values)):
        with column:
            for key, value in enumerate(values):
                column[key] = value
        writer.commit("values")


def images_one_by_one(bench: Any) -> None:
    images = bench.images()
    _write(bench, images, lambda writer: writer.add_ndarray_column("images", prototype=images[0]))


def labels(bench: Any) -> None:
    values = [np.array(n % 10) for n in range(50_000)]
    _write(bench, values, lambda writer: writer.add_ndarray_column("labels", prototype=values[0]))


def texts(bench: Any) -> None:
    _write(bench, bench.texts(), lambda writer: writer.add_str_column("texts"))


def tensors(bench: Any) -> None:
    values = bench.tensors()
    _write(bench, values, lambda writer: writer.add_ndarray_column("tensors", prototype=values[0]))


def naked(bench: Any) -> None:
    images = bench.images()[:300]
    writer = _writer(bench)
    column = writer.add_ndarray_column("images", prototype=images[0])
    with bench.timed(len(images)):
        for key, image in enumerate(images):
            column[key] = image
    writer.commit("images")
