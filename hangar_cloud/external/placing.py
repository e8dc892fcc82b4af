"""Writing files so that each appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hangar_cloud.errors import ExportExistsError, InvalidArgumentError

REPOSITORY_FOLDER = ".hangar"
_ADVICE = "give overwrite=True to write over it, or another path"


def refuse_inside_repository(path: str | os.PathLike[str]) -> None:
    """Raises InvalidArgumentError for a path in the folder in which a repository keeps its own files."""
    if REPOSITORY_FOLDER in Path(os.path.realpath(path)).parts:
        raise InvalidArgumentError(
            f"{os.fspath(path)} is among a repository's own files, where an export could replace one; give another path"
        )


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises ExportExistsError where there is something at `path`, unless `overwrite`."""
    if not overwrite and os.path.lexists(path):
        raise ExportExistsError(f"there is a {path} already; {_ADVICE}")


@contextmanager
def placed_file(path: str | os.PathLike[str], overwrite: bool = False, *, sync: bool = False) -> Iterator[Path]:
    """Gives the name of a temporary file beside `path`, which becomes `path` when the block ends well.

    Args:
        path: where it is to be.
        overwrite: replace what is there.
        sync: wait until the bytes are on the disk, so that the file is whole after a power cut too. Thousands of small
            files are no place for that: each waits for some milliseconds.

    Raises:
        ExportExistsError: there is one already (unless `overwrite`), also if it came meanwhile.
    """
    goal = Path(path)
    refuse_existing(goal, overwrite)
    if goal.is_dir():
        raise ExportExistsError(f"{goal} is a folder, which no file is written over; give another path")
    goal.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(goal)
    try:
        yield temporary
        if sync:
            _sync(temporary)
        if overwrite:
            os.replace(temporary, goal)
        else:
            _move_new(temporary, goal)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def placed_folder(path: str | os.PathLike[str], overwrite: bool, is_alike: Callable[[Path], bool]) -> Iterator[Path]:
    """The same for a folder. What `overwrite` replaces is removed as a whole.

    Args:
        path: where it is to be.
        overwrite: replace what is there.
        is_alike: whether a folder is of the kind that is written; others are never removed.

    Raises:
        ExportExistsError: there is something already (unless `overwrite`, or it is an empty folder).
    """
    goal = Path(path).absolute()
    if not (goal.is_dir() and not goal.is_symlink() and not any(goal.iterdir())):
        refuse_existing(goal, overwrite)
        if os.path.lexists(goal) and (goal.is_symlink() or not goal.is_dir() or not is_alike(goal)):
            raise ExportExistsError(
                f"{goal} is not what an export of this kind writes, and is not removed for one; give another path"
            )
    if goal == Path.cwd():
        raise ExportExistsError(f"{goal} is the current folder, which cannot be made anew; give a path in it")
    goal.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _beside(goal), _beside(goal)
    temporary.mkdir()
    try:
        yield temporary
        if os.path.lexists(goal):
            os.rename(goal, old)
        os.rename(temporary, goal)
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _beside(goal: Path) -> Path:
    return goal.with_name(f".{goal.name[:100]}.{uuid.uuid4().hex[:12]}.part")


def _move_new(temporary: Path, goal: Path) -> None:
    try:
        os.link(temporary, goal)
    except FileExistsError:
        raise ExportExistsError(f"there is a {goal} already; {_ADVICE}") from None
    except OSError:
        # File systems without hard links.
        refuse_existing(goal, overwrite=False)
        os.rename(temporary, goal)


def _sync(path: Path) -> None:
    # A rename may be on the disk before the bytes are: after a power cut the file would be whole by its name only.
    with open(path, "rb") as file:
        os.fsync(file.fileno())
