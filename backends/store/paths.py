"""Which object names a store accepts, and the few that it keeps for itself."""

from __future__ import annotations

from hangar_cloud.backends.errors import InvalidPathError

OWN_PREFIX = ".hangar-"
"""Last components that start so belong to the store (temporary files, the probe): never listed, never accepted."""

TEMPORARY_PREFIX = f"{OWN_PREFIX}tmp-"
"""Unfinished files are called so, then by the process that writes them and something random."""

PROBE_PREFIX = f"{OWN_PREFIX}probe-"
"""So, and then likewise, is what a folder is tried with before it is written to."""

PROBE_NAME = f"{OWN_PREFIX}put-if-absent"
"""The object that proves, once per store instance, that a second create of one name fails."""

_MAX_BYTES = 1024


def check_path(path: str) -> str:
    """Return ``path`` if it may name an object, relative to the store's root, ``/``-separated.

    Raises InvalidPathError for empty or absolute names, ``.``, ``..`` and empty components, backslashes,
    control characters, names of more than 1024 UTF-8 bytes, and names that the store keeps for itself.
    """
    reason = _objection(path)
    if reason is not None:
        raise InvalidPathError(f"{path!r} cannot name an object: {reason}. Use names such as 'refs/heads/a/1.json'.")
    return path


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if objects may be listed under it: empty, or a path with or without its last ``/``."""
    if prefix:
        check_path(prefix.removesuffix("/"))
    return prefix


def folder_prefix(prefix: str) -> str:
    """Return ``prefix`` checked and ending in ``/``, or the empty string for the root."""
    check_prefix(prefix)
    return f"{prefix.removesuffix('/')}/" if prefix else ""


def is_own_name(path: str) -> bool:
    """Whether ``path`` is one of the store's own objects, which no listing shows."""
    return path.rpartition("/")[2].startswith(OWN_PREFIX)


def is_listable(path: str) -> bool:
    """Whether a name found in a store is an object that callers could have written; folder markers are not."""
    return _objection(path) is None


def _objection(path: str) -> str | None:
    if not path:
        return "it is empty"
    if path.startswith("/") or path.endswith("/"):
        return "it starts or ends with '/'"
    if "\\" in path:
        return "it contains a backslash"
    if any(component in ("", ".", "..") for component in path.split("/")):
        return "it has an empty, '.' or '..' component"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "it contains a control character"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if size > _MAX_BYTES:
        return f"it has {size} bytes and stores allow {_MAX_BYTES}"
    if is_own_name(path):
        return f"names starting with {OWN_PREFIX!r} belong to the store"
    return None
