"""Images of digits for the demo: those of scikit-learn, or MNIST from its files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hangar_cloud.errors import InvalidArgumentError

_MNIST_PARTS: Final = ("train", "t10k")
_UNSIGNED_BYTES: Final = 8
_PLACES: Final = 10
_SIDE: Final = 28


class Digits(NamedTuple):
    """Images, their labels, and where they come from."""

    images: npt.NDArray[np.uint8]
    labels: list[str]
    source: str


def load_digits(folder: Path | None) -> Digits:
    """MNIST from `folder`, or scikit-learn's digits where it is None.

    Raises:
        InvalidArgumentError: files are missing or damaged, or scikit-learn is not installed.
    """
    return bundled_digits() if folder is None else mnist(folder)


def bundled_digits() -> Digits:
    """scikit-learn's 1,797 digits of 8 x 8 pixels: each enlarged, and drawn at ten places of a 28 x 28 image."""
    try:
        from sklearn import datasets
    except ImportError:
        raise InvalidArgumentError(
            "the demo's images come with scikit-learn, which is not installed: pip install 'hangar-cloud[demo]'. "
            "Or give a folder with the four MNIST files: hangar demo --data DIR"
        ) from None
    bundle: Any = datasets.load_digits()
    small = (bundle.images * (255 / 16)).astype(np.uint8)
    enlarged = small.repeat(3, axis=1).repeat(3, axis=2)
    room = _SIDE - enlarged.shape[1]
    images = np.zeros((_PLACES, len(small), _SIDE, _SIDE), np.uint8)
    for place in range(_PLACES):
        down, right = divmod(place * (room + 1) ** 2 // _PLACES, room + 1)
        images[place, :, down : down + enlarged.shape[1], right : right + enlarged.shape[2]] = enlarged
    labels = [str(label) for label in bundle.target] * _PLACES
    return Digits(images.reshape(-1, _SIDE, _SIDE), labels, "scikit-learn's digits, each at ten places")


def mnist(folder: Path) -> Digits:
    """The 60,000 training and 10,000 test images of MNIST, in this order."""
    images = [read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3) for part in _MNIST_PARTS]
    labels = [read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1) for part in _MNIST_PARTS]
    for part, some, names in zip(_MNIST_PARTS, images, labels, strict=True):
        if len(some) != len(names):
            raise InvalidArgumentError(
                f"{folder}: {len(some)} {part} images have {len(names)} labels; fetch the files anew"
            )
    return Digits(np.concatenate(images), [str(label) for label in np.concatenate(labels)], f"MNIST in {folder}")


def read_idx(path: Path, rank: int) -> npt.NDArray[np.uint8]:
    """The array in a gzipped IDX file of unsigned bytes.

    Raises:
        InvalidArgumentError: there is no such file, or it is no such file.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InvalidArgumentError(
            f"there is no {path.name} in {path.parent}; MNIST is four files: train-images-idx3-ubyte.gz, "
            "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidArgumentError(f"{path} is not a whole gzip file ({error}); fetch it anew") from error
    shape = np.frombuffer(data[4 : 4 + 4 * rank], ">u4").tolist()
    expected = int(np.prod(shape, dtype=np.uint64))
    if data[:4] != bytes([0, 0, _UNSIGNED_BYTES, rank]) or len(data) != 4 + 4 * rank + expected:
        raise InvalidArgumentError(f"{path} is not an IDX file of bytes with {rank} dimension(s); fetch it anew")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
