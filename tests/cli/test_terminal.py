"""On a terminal: colour, progress bars, an editor. Elsewhere: none of it (see the other tests)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hangar_cloud import Repository
from tests.cli.running import HANGAR, clean_environment
from tests.terminal import all_seen, new_terminal


def on_terminal(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """What a person sees of a command, control sequences included."""
    ours, theirs = new_terminal()
    unset = {"NO_COLOR", "TQDM_DISABLE"}
    settings = {name: value for name, value in clean_environment(cwd).items() if name not in unset}
    with subprocess.Popen(
        [*HANGAR, *arguments],
        cwd=cwd,
        env=settings | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | (environment or {}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as running:
        os.close(theirs)
        seen = all_seen(ours)
    assert running.returncode == 0, seen.decode()
    return seen.decode()


def test_colour(filled, place):
    contents = filled.log(return_contents=True)
    assert f"\x1b[33m{contents['head'][:12]}\x1b[0m" in on_terminal("log", cwd=place)
    assert "\x1b[32m* master\x1b[0m" in on_terminal("branch", "list", cwd=place)


@pytest.mark.parametrize("flags", [[], ["--no-progress"]])
def test_progress_bars(filled, place, bucket, flags):
    filled.remote.add("origin", bucket)
    seen = on_terminal(*flags, "push", "origin", "master", cwd=place)
    assert ("pushing samples" in seen) is (flags == [])
    assert "Pushed master to origin." in seen


@pytest.mark.parametrize(
    ("typed", "message"), [("what I did\n", "what I did"), ("# a remark\ntwo\nlines\n", "two\nlines")]
)
def test_commit_opens_an_editor(repo: Repository, place, tmp_path, typed, message):
    writer = repo.checkout(write=True)
    writer.add_str_column("x")
    writer.close()
    (tmp_path / "typed").write_text(typed)
    editor = tmp_path / "editor"
    editor.write_text(f'#!/bin/sh\ncat "$1" >> {tmp_path / "typed"}\ncp {tmp_path / "typed"} "$1"\n')
    editor.chmod(0o755)
    on_terminal("commit", cwd=place, environment={"EDITOR": str(editor), "VISUAL": str(editor)})
    contents = repo.log(return_contents=True)
    assert contents is not None
    assert contents["specs"][contents["head"]]["commit_message"] == message


def test_the_picture_of_the_demo_is_in_grey(place):
    seen = on_terminal("demo", cwd=place)
    assert seen.count("\u2580") == 28 * 14
    assert "\x1b[38;5;" in seen
