"""Writing, with hangar-cloud: from an empty repository to the commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hangar_cloud import Repository


def _writer(bench: Any) -> Any:
    # Imports apart: the peer loads all that it needs when it is imported, and we when it is needed first.
    _open(os.path.join(bench.folder, "imports")).commit("imports")
    return _open(os.path.join(bench.folder, "repository"))


def _open(folder: str) -> Any:
    repository = Repository(folder, exists=False)
    repository.init("Bench", "bench@example.org")
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("small", shape=(100,), dtype=np.float64).extend(np.arange(1000.0).reshape(10, 100))
    return writer


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


def _extend(bench: Any, values: Any, add: Callable[[Any], Any]) -> None:
    """Write all values by one call, and commit."""
    writer = _writer(bench)
    column = add(writer)
    with bench.timed(len(values)):
        column.extend(values)
        writer.commit("values")


def images_at_once(bench: Any) -> None:
    images = bench.images()
    _extend(bench, images, lambda writer: writer.add_ndarray_column("images", prototype=images[0]))


def labels_at_once(bench: Any) -> None:
    values = np.arange(50_000) % 10
    _extend(bench, values, lambda writer: writer.add_ndarray_column("labels", shape=(), dtype=values.dtype))


def texts_at_once(bench: Any) -> None:
    _extend(bench, bench.texts(), lambda writer: writer.add_str_column("texts"))


def tensors_at_once(bench: Any) -> None:
    values = bench.tensors()
    _extend(bench, values, lambda writer: writer.add_ndarray_column("tensors", prototype=values[0]))


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
