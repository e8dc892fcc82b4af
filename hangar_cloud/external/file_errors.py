"""What the system says about files, and drivers about URLs, as errors of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hangar_cloud.backends.errors import redact_text, redact_url
from hangar_cloud.errors import AccessDeniedError, HangarError, ObjectNotFoundError, StoreError, UnsupportedStoreError


@contextmanager
def file_errors(what: str) -> Iterator[None]:
    """Make errors of the system ours: of the same builtin kind, with what failed before the system's own words."""
    try:
        yield
    except HangarError:
        raise
    except OSError as error:
        raise _ours(error, what) from error


@contextmanager
def open_source(path: str, storage_options: Mapping[str, Any] | None) -> Iterator[Any]:
    """A file of this machine or at a URL, open for reading bytes.

    Raises:
        FileNotFoundError, PermissionError, OSError: it cannot be opened.
        ValueError: the URL is of an unknown kind, or its driver is not installed.
    """
    if "://" not in path:
        with open(path, "rb") as file:
            yield file
        return
    import fsspec

    said = redact_url(path)
    try:
        remote = fsspec.open(path, "rb", **dict(storage_options or {})).open()
    except (ValueError, ImportError) as error:
        raise UnsupportedStoreError(f"{said} cannot be opened: {redact_text(str(error))}") from error
    # Each driver has errors of its own.
    except Exception as error:
        raise _ours(error, f"cannot open {said}") from error
    with remote:
        yield remote


def _ours(error: Exception, what: str) -> StoreError:
    missing = isinstance(error, FileNotFoundError)
    # Of a missing file pyarrow gives the name, and nothing more.
    said = getattr(error, "strerror", None) or ("No such file" if missing else redact_text(str(error)))
    name = getattr(error, "filename", None)
    place = f": {os.fsdecode(name)}" if isinstance(name, (str, bytes)) and os.fsdecode(name) not in what else ""
    kind = StoreError
    if missing:
        kind = ObjectNotFoundError
    elif isinstance(error, PermissionError):
        kind = AccessDeniedError
    return kind(f"{what}: {said}{place}")
