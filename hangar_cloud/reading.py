"""How much reading may keep in memory and fetch ahead, in this process."""

from __future__ import annotations

from typing import Final

from hangar_cloud.errors import InvalidArgumentError

READ_AHEAD_BYTES: Final = 32 * 1024 * 1024
READ_MEMORY_BYTES: Final = 128 * 1024 * 1024

_settings = {"ahead": READ_AHEAD_BYTES, "memory": READ_MEMORY_BYTES}


def set_read_ahead(nbytes: int) -> None:
    """How many bytes may be fetched before they are asked for where a column is read in order; 32 MiB by default.

    It is a bound for each column that is being read, in this process and of all repositories. 0 turns reading ahead
    off; `prefetch` fetches nevertheless.

    Raises:
        ValueError: not a whole number from 0 on.
    """
    _settings["ahead"] = _checked(nbytes, 0)


def set_read_memory(nbytes: int) -> None:
    """How much memory a repository keeps decoded samples in; 128 MiB by default.

    The same bound holds for what each column knows of where its rows are: some 8 bytes a row, 120 where keys are text.
    It counts for repositories from which nothing was read yet, in this process.

    Raises:
        ValueError: not a whole number from 1 on.
    """
    _settings["memory"] = _checked(nbytes, 1)


def read_ahead_bytes() -> int:
    """The bound that `set_read_ahead` set."""
    return _settings["ahead"]


def read_memory_bytes() -> int:
    """The bound that `set_read_memory` set."""
    return _settings["memory"]


def _checked(nbytes: int, least: int) -> int:
    if not isinstance(nbytes, int) or isinstance(nbytes, bool) or nbytes < least:
        raise InvalidArgumentError(f"a number of bytes: a whole number from {least} on, not {nbytes!r}")
    return nbytes
