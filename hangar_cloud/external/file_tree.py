"""The files below a folder, with the keys and labels that their places give them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hangar_cloud.errors import InvalidArgumentError, ObjectNotFoundError


class SourceFile(NamedTuple):
    """A file to import.

    Attributes:
        path: where it is.
        folder: its folder below the one imported, with forward slashes; empty for that one itself.
    """

    path: Path
    folder: str

    @property
    def name(self) -> str:
        """Its path below the folder that is imported."""
        return joined(self.folder, self.path.name)

    @property
    def label(self) -> str:
        """The name of the folder that it lies in; empty for the one that is imported."""
        return self.folder.rpartition("/")[2]


def joined(folder: str, name: str) -> str:
    """A name below a folder; an empty folder adds nothing."""
    return f"{folder}/{name}" if folder else name


def list_files(path: str | os.PathLike[str]) -> list[SourceFile]:
    """Every file below a folder, in the order of their names; or the one file that `path` is.

    Files and folders whose names begin with a dot are left out: systems leave them behind. Links to files are
    followed, links to folders are not: they may lead around in circles.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: there are no files in it, or it is a URL.
    """
    text = os.fspath(path)
    if "://" in text:
        raise InvalidArgumentError(f"{text} is a URL; files are imported from folders: download them first")
    top = Path(text)
    if not top.exists():
        raise ObjectNotFoundError(f"there is no file or folder {text}")
    if not top.is_dir():
        return [SourceFile(top, "")]
    found = list(_walk(top))
    if not found:
        raise InvalidArgumentError(f"there are no files in {text} (those whose names begin with a dot do not count)")
    return found


def _walk(top: Path) -> Iterator[SourceFile]:
    for here, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(here).relative_to(top).as_posix()
        folder = "" if relative == "." else relative
        for name in sorted(names):
            if not name.startswith("."):
                yield SourceFile(Path(here, name), folder)
