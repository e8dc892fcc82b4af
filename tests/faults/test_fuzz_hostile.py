"""Repositories that were made to harm: every checksum is right, and what they say is not.

Each maker in `hostile` leaves behind one or several branches' worth of objects; whoever opens such a repository meets
errors of ours, in moderate time and memory.
"""

from __future__ import annotations

import pytest

import tests.faults.hostile_arrays  # noqa: F401 - its makers register themselves
from tests.faults.hostile import MAKERS, Hostile
from tests.faults.victims import Reader, make_one_of_everything

USES = ("read", "look back", "verify", "clone", "write")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    process = Reader(make_one_of_everything(tmp_path_factory.mktemp("hostile") / "intact"))
    yield process
    process.stop()


class EachBranch(Hostile):
    """Reads the repository after each thing that was done to its head, not only after the last."""

    def __init__(self, folder, reader, what):
        super().__init__(folder)
        self.faults: list[str] = []
        self._reader, self._folder, self._what, self._heads = reader, folder, what, 0

    def point(self, commit, branch="master", **change):
        super().point(commit, branch, **change)
        self._heads += 1
        if self._heads < 60:
            uses = USES if self._heads % 5 == 1 else ("read", "look back")
            self.faults += self._reader.faults(self._folder, f"{self._what} {self._heads}", uses)


@pytest.mark.parametrize("what", MAKERS)
def test_a_hostile_repository(what, reader, tmp_path):
    made = EachBranch(tmp_path / "hostile", reader, what)
    MAKERS[what](made)
    made.faults += reader.faults(tmp_path / "hostile", what, USES)
    assert made.faults == []
