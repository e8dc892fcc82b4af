"""Letting an operation die at its moments, one after the other, and asking what is left of it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.crash_server import CrashServer
from tests.faults.crash_works import Operation

_NEAR_THE_END = 0.9
_WORKS = "tests.faults.crash_tasks"
# What is only there to save work, or as a note, and never grows without end.
_PASSING = re.compile(
    "|".join(
        [
            r".*/index/[^/]*",  # where samples lie; merged from 16 files on
            r"cache/<random>/store/.*",
            r".*/partial/.*",
            r".*refs/hint\.json",
            r".*/staging/0/stash\.json",  # replaced by the next stash of that area
            r".*/staging/0/rebuilding/.*",  # an empty database, until the next purge
            r".*/moves/\d{10}\.parquet",  # one for each run that found something to move or purge
            r"bucket/gc/<n>\.done\.json",  # the newest, of a bucket that ever had garbage
        ]
    )
)


@contextmanager
def crash_server() -> Iterator[CrashServer]:
    """A process to crash children of."""
    server = CrashServer(_WORKS)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A new folder, in memory where there is such a disk: a process that dies loses nothing of it either."""
    memory = "/dev/shm"
    folder = tempfile.mkdtemp(prefix="hangar-crash-", dir=memory if os.access(memory, os.W_OK) else None)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class CrashRuns:
    """One operation, in a place that is put back as it was before every run.

    Args:
        server: whose children die.
        folder: for the place, and a copy of it.
        operation: what they die at.
    """

    def __init__(self, server: CrashServer, folder: Path, operation: Operation) -> None:
        self._server = server
        self._place, self._copy = folder / "place", folder / "copy"
        self._operation = operation
        self._where: dict[str, Any] = {}
        self._measure()

    def _measure(self) -> None:
        """Do it once undisturbed: the moments, what there is before and after, and what is left in the end."""
        self._put_back()
        self.before = self._ask("look").value
        self._put_back()
        self.moments = self._ask("run", watched=True).moments
        self.after = self._ask("look").value
        self._put_back()
        self.outcome = self._ask("settle").value

    def all_states(self) -> list[int]:
        """Moments, one for each change on a disk or in a store, and the last one: what dying there leaves differs."""
        changes = [changes for _, changes in self.moments]
        return [i for i, (this, following) in enumerate(pairwise([*changes, -1])) if this != following]

    def die_at(self, moment: int, *, look: bool = True) -> None:
        """Die at one moment, and check that nothing was lost by it.

        Args:
            moment: its number.
            look: open the repositories and check them before the operation is run again.
        """
        what = f"{self._operation.name}, moment {moment} of {len(self.moments)}: {self.moments[moment][0]}"
        self._put_back()
        answer = self._ask("run", moment)
        # Of several uploads at once, the last to come makes fewer folders.
        near_the_end = moment >= len(self.moments) * _NEAR_THE_END
        assert answer.died or near_the_end, f"{what}: came through, and did other things than the first time"
        if look:
            self._compare(self._ask("look").value, what)
        outcome = self._ask("settle").value
        assert outcome["state"] == self.outcome["state"], _told(what, self.outcome["state"], outcome["state"])
        expected, found = self._lasting(self.outcome["layout"]), self._lasting(outcome["layout"])
        assert found == expected, _told(what, expected, found)

    def _compare(self, found: dict[str, Any], what: str) -> None:
        if self._operation.atomic:
            assert found in (self.before, self.after), _told(what, self.after, found)
            return
        for name in {*found, *self.before, *self.after}:
            if name in self._operation.between:
                continue
            assert found.get(name) in (self.before.get(name), self.after.get(name)), f"{what}: {name}"

    def _put_back(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        if self._copy.exists():
            shutil.copytree(self._copy, self._place)
        else:
            self._prepare(f"file://{self._place}/bucket", {})
            shutil.copytree(self._place, self._copy)

    def _prepare(self, bucket: str, options: dict[str, Any]) -> None:
        self._place.mkdir()
        self._where = {"folder": str(self._place), "bucket": bucket, "options": options}
        self._ask("prepare")

    def _lasting(self, layout: dict[str, int]) -> dict[str, int]:
        """What must be there, and no more: all but what is only there to save work."""
        return {name: count for name, count in layout.items() if not _PASSING.fullmatch(name)}

    def _ask(self, work: str, last: int | None = None, *, watched: bool = False) -> Any:
        return self._server.ask(work, last, watched=watched, operation=self._operation.name, **self._where)


class CrashRunsOnServer(CrashRuns):
    """The same with a bucket on a server, made anew for each run. The outcome is to be that on this machine.

    Args:
        server: as before.
        folder: as before.
        operation: as before.
        new_bucket: makes the URL and storage options of an empty bucket.
    """

    def __init__(
        self,
        server: CrashServer,
        folder: Path,
        operation: Operation,
        new_bucket: Callable[[], tuple[str, dict[str, Any]]],
    ) -> None:
        self._new_bucket = new_bucket
        super().__init__(server, folder, operation)

    def _measure(self) -> None:
        with quick_folder() as folder:
            here = CrashRuns(self._server, folder, self._operation)
        self.before, self.after, self.outcome = here.before, here.after, here.outcome
        self._put_back()
        self.moments = self._ask("run", watched=True).moments

    def _put_back(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        self._prepare(*self._new_bucket())

    def _lasting(self, layout: dict[str, int]) -> dict[str, int]:
        # The caches of such a bucket hold more than those of a folder.
        lasting = super()._lasting(layout)
        return {name: count for name, count in lasting.items() if not name.startswith(("cache/", "other/"))}


def _told(what: str, expected: dict[str, Any], found: dict[str, Any]) -> str:
    differing = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    lines = [f"{name}: {found.get(name)} instead of {expected.get(name)}" for name in differing]
    return "\n    ".join([what, *lines])


def spread(moments: Sequence[int], most: int) -> list[int]:
    """At most so many of some moments, at equal distances."""
    if len(moments) <= most:
        return list(moments)
    return [moments[int((i + 0.5) * len(moments) / most)] for i in range(most)]
