"""Reading, with hangar-cloud, from a local repository whose samples were read before."""

from __future__ import annotations

from typing import Any

import numpy as np

from hangar_cloud import Repository


def _column(bench: Any, values: Any, *, codec: str | None = None) -> Any:
    """A reader's column of some values, keyed by number."""
    repository = Repository(bench.folder, exists=False)
    repository.init("Bench", "bench@example.org")
    writer = repository.checkout(write=True)
    if isinstance(values[0], str):
        column = writer.add_str_column("values")
    else:
        options = None if codec is None else {"codec": codec}
        column = writer.add_ndarray_column("values", prototype=values[0], backend_options=options)
    column.update(enumerate(values))
    writer.commit("values")
    writer.close()
    return repository.checkout()["values"]


def _random(bench: Any, values: Any, **options: Any) -> None:
    column = _column(bench, values, **options)
    for _ in column.values():
        pass
    keys = bench.random.integers(0, len(values), 20_000).tolist()
    bench.each(column.__getitem__, keys)


def random_compressed(bench: Any) -> None:
    _random(bench, bench.images())


def random_uncompressed(bench: Any) -> None:
    _random(bench, bench.images(), codec="raw")


def random_label(bench: Any) -> None:
    _random(bench, [np.array(n % 10) for n in range(50_000)])


def random_text(bench: Any) -> None:
    _random(bench, bench.texts())


def _batches(bench: Any, **options: Any) -> None:
    images = bench.images()
    column = _column(bench, images, **options)
    for _ in column.values():
        pass
    keys = [bench.random.integers(0, len(images), 256) for _ in range(200)]
    bench.each(column.get_batch, keys)


def batch_uncompressed(bench: Any) -> None:
    _batches(bench, codec="raw")


def batch_compressed(bench: Any) -> None:
    _batches(bench, codec="lz4")


def codec_alone(bench: Any) -> None:
    """Decoding as many images, each compressed alone: what a reader does that keeps nothing decoded."""
    import pyarrow as pa

    images = bench.images()
    codec = pa.Codec("lz4_raw")
    encoded = [codec.compress(image.tobytes(), asbytes=True) for image in images]
    keys = [bench.random.integers(0, len(images), 256).tolist() for _ in range(100)]
    bench.each(lambda wanted: [codec.decompress(encoded[key], 784) for key in wanted], keys)


def all_batches(bench: Any) -> None:
    images = bench.images()
    column = _column(bench, images)

    def read() -> None:
        for _ in column.iter_batches(256):
            pass

    read()
    bench.median(read, 5)
    bench.seconds /= len(images)


def all_values(bench: Any) -> None:
    images = bench.images()
    column = _column(bench, images)

    def read() -> None:
        for _ in column.values():
            pass

    read()
    bench.median(read, 3)
    bench.seconds /= len(images)


def all_tensors(bench: Any) -> None:
    values = bench.tensors()
    column = _column(bench, values)

    def read() -> None:
        for _ in column.values():
            pass

    bench.median(read, 3)
    bench.seconds /= len(values)
