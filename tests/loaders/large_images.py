"""A bucket of large random images, and what was read of it and asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.repository.making import make_repository

_MOST_BYTES, _MOST_IMAGES = 500_000, 160
_BASE = np.frombuffer(np.random.default_rng(0).bytes(_MOST_BYTES + _MOST_IMAGES), np.uint8)


def image(number: int, nbytes: int) -> Any:
    """The image of a number."""
    return _BASE[number : number + nbytes]


def _write_images(server, url, cache_dir, count: int, nbytes: int, has_texts: bool = False) -> str:
    """Write a bucket of images by their numbers, with these beside them, and texts if asked for; its URL."""
    writer = make_repository(url, storage_options=server.storage_options, cache_dir=cache_dir)
    checkout = writer.checkout(write=True)
    images = checkout.add_ndarray_column("image", prototype=image(0, nbytes))
    images.update({key: image(key, nbytes) for key in range(count)})
    if has_texts:
        checkout.add_str_column("text").update({key: f"text {key} " * 2000 for key in range(count)})
    numbers = checkout.add_ndarray_column("number", shape=(), dtype=np.int64)
    numbers.update({key: np.array(key) for key in range(count)})
    checkout.commit("all")
    checkout.close()
    return url


def bucket_of(name: str, count: int, nbytes: int, has_texts: bool = False) -> Any:
    """A fixture of a module: the URL of a bucket of images by their numbers, with these beside them, and texts if asked
    for."""

    @pytest.fixture(scope="module")
    def url(s3_server, tmp_path_factory):
        made = tmp_path_factory.mktemp("made")
        return _write_images(s3_server, f"{s3_server.url}/{name}", made, count, nbytes, has_texts)

    return url


def numbers_of(batches, nbytes: int) -> list[int]:
    """The numbers of the samples, in the order in which they came, after their bytes were compared."""
    seen = []
    for batch in batches:
        for number, found in zip(batch["number"].tolist(), np.asarray(batch["image"]), strict=True):
            assert found.tobytes() == image(number, nbytes).tobytes()
            seen.append(number)
    return seen


def requests_for_packs(proxy) -> list[str]:
    """What was asked for of packs."""
    return [target for method, target in proxy.targets if method == "GET" and "/packs/" in target]
