"""Temporary files of processes that died are removed, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from hangar_cloud.backends.store.leftovers import remove_leftovers, temporary_folder
from tests.repository.making import finish, start_process

RANDOM = "0123456789abcdef"
DYING = """
    import os, sys
    from pathlib import Path
    from hangar_cloud.backends.store.leftovers import temporary_folder
    with temporary_folder(Path(sys.argv[1])) as folder:
        (folder / "file").touch()
        os._exit(0)
"""


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def later() -> float:
    return time.time() + 60


def test_unfinished_files_and_folders_of_the_dead_go(tmp_path, dead):
    deep = tmp_path / "packs" / "ab"
    deep.mkdir(parents=True)
    (deep / f".hangar-tmp-{dead}-{RANDOM}").write_bytes(b"half")
    (tmp_path / f".hangar-probe-{dead}-{RANDOM}").touch()
    folder = tmp_path / f".hangar-tmp-{dead}-{RANDOM[::-1]}"
    folder.mkdir()
    (folder / "part").write_bytes(b"half")
    assert remove_leftovers(tmp_path, later()) == 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ab", "packs"]


def test_those_of_the_living_stay(tmp_path):
    for number in (os.getpid(), os.getppid(), 1):
        (tmp_path / f".hangar-tmp-{number}-{RANDOM}").write_bytes(b"half")
    assert remove_leftovers(tmp_path, later()) == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_the_young_stay(tmp_path, dead):
    left = tmp_path / f".hangar-tmp-{dead}-{RANDOM}"
    left.write_bytes(b"half")
    os.utime(left, (0, time.time() - 10))
    assert remove_leftovers(tmp_path, time.time() - 60) == 0
    assert remove_leftovers(tmp_path, time.time() - 5) == 1


@pytest.mark.parametrize(
    "name",
    [".hangar-tmp-{0}-abc", ".hangar-tmp-{0}", ".hangar-tmp-x-" + RANDOM, "tmp-{0}-" + RANDOM, ".hangar-put-if-absent"],
)
def test_other_names_stay(tmp_path, dead, name):
    (tmp_path / name.format(dead)).write_bytes(b"mine")
    assert remove_leftovers(tmp_path, later()) == 0


def test_links_are_removed_and_not_followed(tmp_path, dead):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"mine")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / f".hangar-tmp-{dead}-{RANDOM}").symlink_to(tmp_path / "kept" / "file")
    (tmp_path / "inside" / "there").symlink_to(tmp_path / "kept")
    (tmp_path / "kept" / f".hangar-tmp-{dead}-{RANDOM}").touch()
    assert remove_leftovers(tmp_path / "inside", later()) == 1
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [f".hangar-tmp-{dead}-{RANDOM}", "file"]


def test_a_folder_that_is_not_there_has_none(tmp_path):
    assert remove_leftovers(tmp_path / "nothing", later()) == 0


def test_a_temporary_folder_is_gone_in_the_end_and_found_after_a_crash(tmp_path):
    parent = tmp_path / "deep" / "place"
    with pytest.raises(KeyError), temporary_folder(parent) as folder:
        (folder / "file").touch()
        raise KeyError
    assert list(parent.iterdir()) == []
    finish(start_process(DYING, str(parent)))
    assert len(list(parent.iterdir())) == 1
    assert remove_leftovers(tmp_path, later()) == 1
    assert list(parent.iterdir()) == []
