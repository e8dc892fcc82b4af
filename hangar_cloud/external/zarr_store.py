"""Zarr, its versions 2 and 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hangar_cloud.backends.errors import redact_url
from hangar_cloud.errors import ObjectNotFoundError, UnreadableFileError
from hangar_cloud.external.optional_packages import require

# What numcodecs would run programs for.
_UNSAFE: Final = {"pickle"}


def open_group(path: str, mode: str, storage_options: Mapping[str, Any] | None = None) -> Any:
    """A Zarr group.

    Raises:
        FileNotFoundError, ValueError: there is none at `path`.
        OSError: it cannot be written.
        ImportError: Zarr is not installed.
    """
    zarr = require("zarr", "zarr", "Zarr")
    options = {"storage_options": dict(storage_options)} if storage_options and "://" in path else {}
    try:
        return zarr.open_group(path, mode=mode, **options)
    except FileNotFoundError:
        raise ObjectNotFoundError(f"there is no Zarr group at {redact_url(path)}") from None
    except OSError as error:
        if mode != "r":
            # A full disk says nothing about the group; the caller says what failed.
            raise
        raise UnreadableFileError(f"{redact_url(path)}: this is no Zarr group: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFileError(f"{redact_url(path)}: this is no Zarr group: {error}") from error


def make_array(group: Any, name: str, shape: tuple[int, ...], dtype: Any, chunk: tuple[int, ...]) -> Any:
    """A new array in a group, in which chunks of zeros are written as all others: one that is lost is noticed then."""
    if hasattr(group, "create_array"):
        every = {"write_empty_chunks": True}
        return group.create_array(name, shape=shape, dtype=dtype, chunks=chunk, config=every)
    return group.create_dataset(name, shape=shape, dtype=dtype, chunks=chunk, write_empty_chunks=True)


def refuse_missing_chunks(array: Any, where: str) -> None:
    """Raises UnreadableFileError for an array of `make_array` that lacks chunks: they would be read as zeros."""
    if not getattr(array.store, "supports_listing", True):
        return
    missing = array.nchunks - array.nchunks_initialized
    if missing > 0:
        raise UnreadableFileError(
            f"{where}: {missing:,} of its {array.nchunks:,} chunks are missing; copy the whole folder again"
        )


def refuse_unsafe(array: Any, where: str) -> None:
    """Raises UnreadableFileError for an array whose chunks would be unpickled: that may run programs."""
    found = {str(name) for name in _codec_names(array)} & _UNSAFE
    if found or (array.dtype == object and not _is_text_of_version_2(array)):
        raise UnreadableFileError(f"{where}: it holds Python objects, which are not read: they may run programs")


def _codec_names(array: Any) -> list[Any]:
    metadata = getattr(array, "metadata", None)
    if metadata is None:
        codecs = [array.filters or (), array.compressor]
    else:
        said = metadata.to_dict()
        codecs = [said.get("filters") or (), said.get("codecs") or (), said.get("compressor")]
    names = []
    for one in _flat(codecs):
        config = one if isinstance(one, dict) else getattr(one, "get_config", dict)()
        names += [config.get("id"), str(config.get("name", "")).removeprefix("numcodecs.")]
        names.append(getattr(one, "codec_id", None))
    return names


def _is_text_of_version_2(array: Any) -> bool:
    return "vlen-utf8" in {str(name) for name in _codec_names(array)}


def _flat(items: Any) -> list[Any]:
    found = []
    for one in items:
        found += _flat(one) if isinstance(one, (list, tuple)) else [one]
    return [one for one in found if one is not None]
