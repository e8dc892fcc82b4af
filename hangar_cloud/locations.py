"""Where on this machine a repository and its cache lie, from what the user gave."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from hangar_cloud.config import is_writable_text
from hangar_cloud.errors import InvalidArgumentError

_BROKEN_URL: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/[^/]")


def cache_name(url: str, options: Mapping[str, Any]) -> str:
    """The folder name of a bucket's cache. One URL at two endpoints is two buckets."""
    endpoint = options.get("endpoint_url") or dict(options.get("client_kwargs") or {}).get("endpoint_url") or ""
    return blake3(f"{url}\n{endpoint}".encode()).hexdigest(length=12)


def cache_root(cache_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of all caches; the user's cache directory by default."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("hangar-cloud", appauthor=False))


def check_types(storage_options: object, cache_size: object) -> None:
    """Raises InvalidArgumentError where one of them cannot be meant."""
    if not isinstance(storage_options, (Mapping, type(None))):
        raise InvalidArgumentError(f"storage_options must be a mapping, not {type(storage_options).__name__}")
    if cache_size is not None and (not isinstance(cache_size, int) or cache_size <= 0):
        raise InvalidArgumentError(f"cache_size must be a positive number of bytes, not {cache_size!r}")


def check_folder(text: str) -> Path:
    """The absolute path of a local repository's folder. Raises InvalidArgumentError where it cannot be one."""
    if not text or "\0" in text or not is_writable_text(text):
        raise InvalidArgumentError(f"{text!r} is not a path")
    if _BROKEN_URL.match(text):
        raise InvalidArgumentError(
            f"{text!r} looks like the path of a URL that lost a slash, as pathlib.Path does to it; give URLs as str, "
            "and a folder of that name as './...'"
        )
    try:
        folder = Path(text).expanduser().absolute()
        is_file = folder.exists() and not folder.is_dir()
    except (OSError, RuntimeError) as error:
        raise InvalidArgumentError(f"{text[:80]!r} cannot be used as a path: {error}"[:300]) from error
    if is_file:
        raise InvalidArgumentError(f"{folder} is a file; a repository needs a folder")
    return folder
