"""Codecs of pack blocks, by permanent number, and the choice among them by trying.

A codec is a compressor and a filter. The filter is a byte shuffle: byte 0 of every element, then
byte 1 of every element, and so on (the transposition that Blosc and HDF5 call "shuffle"); it pays
where the high bytes of neighbouring numbers are alike. The compressors are LZ4 (raw block format)
and Zstandard, both from Arrow, which the catalog needs anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from hangar_cloud.backends.errors import CorruptDataError, UnsupportedFormatError

RAW: Final = 0
LZ4: Final = 1
ZSTD: Final = 2
CODEC_NAMES: Final = {RAW: "raw", LZ4: "lz4", ZSTD: "zstd"}
CODEC_NUMBERS: Final = {name: number for number, name in CODEC_NAMES.items()}
# Numbers 128-255 are kept for encrypted blocks of a later format.

_ARROW_NAMES: Final = {LZ4: "lz4_raw", ZSTD: "zstd"}
_DEFAULT_ZSTD_LEVEL: Final = 1
_TRIAL_BYTES: Final = 1 << 18


class Codec(NamedTuple):
    """A compressor number, and the element size in bytes to shuffle by (0: no shuffle)."""

    number: int
    shuffle: int = 0
    level: int | None = None


def compress(codec: Codec, raw: bytes | memoryview) -> bytes:
    """Encode one block's raw bytes."""
    if codec.number == RAW:
        return bytes(raw)
    data = shuffle_bytes(raw, codec.shuffle) if codec.shuffle > 1 else raw
    return bytes(_compressor(codec.number, codec.level).compress(data, asbytes=True))


def compress_each(codec: Codec, raws: Iterable[bytes | memoryview]) -> list[bytes | memoryview]:
    """What `compress` gives for each; what codec "raw" keeps is no copy."""
    if codec.number == RAW:
        return list(raws)
    call = _compressor(codec.number, codec.level).compress
    if codec.shuffle > 1:
        raws = (shuffle_bytes(raw, codec.shuffle) for raw in raws)
    # Nothing else in this loop: threads that do it would wait for each other.
    return [call(raw, asbytes=True) for raw in raws]


def decompress(number: int, shuffle: int, encoded: bytes | memoryview, raw_length: int) -> memoryview:
    """Decode one block to exactly `raw_length` bytes.

    Raises:
        UnsupportedFormatError: the codec number is not known to this version.
        CorruptDataError: the bytes do not decode, or to another length.
    """
    if number == RAW:
        if len(encoded) != raw_length:
            raise CorruptDataError(f"an uncompressed block holds {len(encoded)} bytes where {raw_length} are declared")
        return memoryview(encoded)
    if number not in _ARROW_NAMES:
        raise UnsupportedFormatError(
            f"block codec {number} is not known to this version of hangar-cloud; upgrade hangar-cloud to read it"
        )
    try:
        decoded = memoryview(_compressor(number, None).decompress(encoded, raw_length)).toreadonly()
    except (OSError, ValueError) as error:
        raise CorruptDataError(f"a {CODEC_NAMES[number]} block does not decode: {error}") from error
    if len(decoded) != raw_length:
        raise CorruptDataError(f"a block decoded to {len(decoded)} bytes where {raw_length} are declared")
    return unshuffle_bytes(decoded, shuffle) if shuffle > 1 else decoded


def shuffle_bytes(raw: bytes | memoryview, size: int) -> bytes:
    """Transpose elements of `size` bytes; a tail that fills no element is kept as it is."""
    whole = len(raw) - len(raw) % size
    elements = np.frombuffer(raw, np.uint8, whole).reshape(-1, size)
    return elements.T.tobytes() + bytes(raw[whole:])


def unshuffle_bytes(data: memoryview, size: int) -> memoryview:
    """The inverse of `shuffle_bytes`."""
    whole = len(data) - len(data) % size
    planes = np.frombuffer(data, np.uint8, whole).reshape(size, -1)
    return memoryview(planes.T.tobytes() + bytes(data[whole:]))


def choose_codec(sample_bytes: bytes | memoryview, item_size: int) -> Codec:
    """Try the codecs on some of a column's real bytes and keep the best.

    Reading is what users wait for, so LZ4 (which decodes some four times as fast) is kept unless
    Zstandard is at least a third smaller, and nothing is compressed that shrinks by under a tenth.

    Args:
        sample_bytes: raw bytes of the first samples; at most 256 KiB of them are tried.
        item_size: bytes of one array element; 1 for text and bytes.
    """
    trial = sample_bytes[:_TRIAL_BYTES]
    shuffles = [0] if item_size <= 1 or item_size > 255 else [0, item_size]
    fast = min((_encoded_size(Codec(LZ4, s), trial), s) for s in shuffles)
    dense = min((_encoded_size(Codec(ZSTD, s), trial), s) for s in shuffles)
    if dense[0] * 3 <= fast[0] * 2 and dense[0] * 10 <= len(trial) * 9:
        return Codec(ZSTD, dense[1])
    if fast[0] * 10 <= len(trial) * 9:
        return Codec(LZ4, fast[1])
    return Codec(RAW)


def codec_from_options(options: dict[str, Any], item_size: int) -> Codec | None:
    """The codec that a column's `backend_options` name; None means "choose by trying".

    Raises:
        ValueError: an option or a value of it is not known.
    """
    unknown = sorted(map(str, set(options) - {"codec", "shuffle", "level"}))
    if unknown:
        raise ValueError(f"unknown backend option(s) {unknown}; pack columns take 'codec', 'shuffle' and 'level'")
    name, level = options.get("codec", "auto"), options.get("level")
    if name == "auto" and level is None:
        return None
    if not isinstance(name, str) or name not in {"auto", *CODEC_NUMBERS}:
        raise ValueError(f"backend option codec={name!r} is not one of 'auto', {sorted(CODEC_NUMBERS)}")
    if level is not None and (not isinstance(level, int) or not 1 <= level <= 19 or name != "zstd"):
        raise ValueError(f"backend option level={level!r} must be a whole number from 1 to 19, and needs codec='zstd'")
    shuffle = item_size if options.get("shuffle") and 1 < item_size <= 255 else 0
    return Codec(CODEC_NUMBERS[name], shuffle if name != "raw" else 0, level)


def _encoded_size(codec: Codec, raw: bytes | memoryview) -> int:
    return len(compress(codec, raw))


@lru_cache(maxsize=64)
def _compressor(number: int, level: int | None) -> Any:
    import pyarrow

    if number == ZSTD:
        return pyarrow.Codec("zstd", _DEFAULT_ZSTD_LEVEL if level is None else level)
    return pyarrow.Codec(_ARROW_NAMES[number])
