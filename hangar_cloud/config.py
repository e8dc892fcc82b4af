"""The settings of one repository on this machine: `config.toml`, with the user and the remotes.

Credentials are never written here: remotes keep their address only.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hangar_cloud.backends.store.durable_files import read_regular, replace_file
from hangar_cloud.errors import CorruptDataError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


_MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass
class Config:
    """User and remotes of a repository; `save` after changing them."""

    path: Path
    user_name: str = ""
    user_email: str = ""
    remotes: dict[str, str] = field(default_factory=dict)
    cache_limit: int | None = None
    """Bytes that the cache may take where the program that opens the repository sets no limit."""

    @staticmethod
    def load(path: Path) -> Config:
        """The settings in a file; empty ones where there is none.

        Raises:
            CorruptDataError: the file is not the TOML that `save` writes.
        """
        config = Config(path)
        try:
            data: dict[str, Any] = tomllib.loads(read_regular(path, _MAX_BYTES).decode("utf-8"))
            user = data.get("user", {})
            config.user_name, config.user_email = str(user.get("name", "")), str(user.get("email", ""))
            limit = data.get("cache", {}).get("limit")
            if limit is not None and (not isinstance(limit, int) or limit <= 0):
                raise ValueError(f"the limit of the cache is {limit!r}, not a number of bytes")
            config.cache_limit = limit
            config.remotes = {str(name): str(remote["address"]) for name, remote in data.get("remotes", {}).items()}
        except FileNotFoundError:
            pass
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError, OSError) as error:
            raise CorruptDataError(f"{path} is not readable ({error}); correct it or remove it") from error
        return config

    def save(self) -> None:
        """Write the settings, whole or not at all."""
        lines = ["[user]", f"name = {_quoted(self.user_name)}", f"email = {_quoted(self.user_email)}"]
        if self.cache_limit is not None:
            lines += ["", "[cache]", f"limit = {self.cache_limit}"]
        for name, address in sorted(self.remotes.items()):
            lines += ["", f"[remotes.{_quoted(name)}]", f"address = {_quoted(address)}"]
        replace_file(self.path, ("\n".join(lines) + "\n").encode("utf-8"))


def is_writable_text(text: str) -> bool:
    """False for lone surrogates, which no UTF-8 file and no terminal takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _quoted(text: str) -> str:
    # JSON strings in ASCII are TOML basic strings, surrogate pairs apart; those are kept as characters.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
