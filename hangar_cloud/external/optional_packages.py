"""Packages that only some formats need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hangar_cloud.errors import MissingPackageError


def require(module: str, extra: str, what: str) -> Any:
    """The module of an optional package.

    Args:
        module: its import name.
        extra: the extra of hangar-cloud that brings it.
        what: what it is needed for; begins the message.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded.
    """
    try:
        return import_module(module)
    # A missing system library is an OSError: soundfile raises it where libsndfile is not there.
    except (ImportError, OSError) as error:
        raise MissingPackageError(
            f"{what} needs the package {module.partition('.')[0]!r}, which cannot be loaded ({error}); install it with "
            f"pip install 'hangar-cloud[{extra}]'"
        ) from error
