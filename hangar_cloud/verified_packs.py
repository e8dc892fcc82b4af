"""Which packs an integrity check has verified, so that an interrupted one goes on where it was."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Final

from hangar_cloud.backends.store.port import ObjectInfo

# Disks decay: what was verified longer ago than this is read again.
_BELIEVED_SECONDS: Final = 7 * 24 * 3600


class VerifiedPacks:
    """A file with one line for each pack found intact since the last check that came to its end.

    A line speaks for a pack of that size and time, and for the samples that were looked for in it.

    Args:
        path: the file.
        resume: False to start anew.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self._path = path
        self._known: set[tuple[str, int, str, str]] = set()
        if resume:
            self._load()
        else:
            self.clear()

    def __contains__(self, what: tuple[bytes, ObjectInfo, str]) -> bool:
        return _line(*what) in self._known

    def add(self, pack: bytes, info: ObjectInfo, asked: str) -> None:
        """Record a pack as intact; `asked` is the fingerprint of the samples that were looked for."""
        line = _line(pack, info, asked)
        self._known.add(line)
        # A folder that cannot be written to may be verified as well; it only cannot be gone on with.
        with contextlib.suppress(OSError), self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps([time.time(), *line]) + "\n")

    def clear(self) -> None:
        """Forget everything: the check came to its end, and the next one reads it all."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _load(self) -> None:
        oldest = time.time() - _BELIEVED_SECONDS
        with contextlib.suppress(OSError):
            for text in self._path.read_bytes().splitlines():
                # The last line may be cut short, where the machine was.
                with contextlib.suppress(ValueError, TypeError):
                    when, pack, size, modified, asked = json.loads(text)
                    if when >= oldest:
                        self._known.add((pack, size, modified, asked))


def _line(pack: bytes, info: ObjectInfo, asked: str) -> tuple[str, int, str, str]:
    return pack.hex(), info.size, info.modified.isoformat(), asked
