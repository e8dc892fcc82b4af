"""Progress bars: on a terminal only, and off when asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_settings = {"enabled": True}


def set_progress(enabled: bool) -> None:
    """Turn all progress bars of this process on (the default) or off."""
    _settings["enabled"] = enabled


@contextmanager
def byte_progress(what: str, total: int | None = None, *, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar that counts bytes; the callable given adds to it.

    Silent where standard error is not a terminal.
    """
    with _bar(what, total, "B", enabled) as add:
        yield add


@contextmanager
def item_progress(what: str, unit: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar that counts things called `unit`, such as files; otherwise as `byte_progress`."""
    with _bar(what, total, f" {unit}", True) as add:
        yield add


@contextmanager
def _bar(what: str, total: int | None, unit: str, enabled: bool) -> Iterator[Callable[[int], None]]:
    if not (enabled and _settings["enabled"] and sys.stderr.isatty()):
        yield _ignore
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, unit_scale=unit == "B", leave=False) as bar:
        yield lambda count: _add(bar, count)
        # What came within a tenth of a second of what was drawn last would never be seen.
        bar.refresh()


def _add(bar: object, count: int) -> None:
    bar.update(count)  # type: ignore[attr-defined]


def _ignore(_: int) -> None:
    return None
