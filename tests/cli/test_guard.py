"""However a command ends, it ends in plain words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings

import click
import pytest

from hangar_cloud.cli import main
from hangar_cloud.cli.guard import GuardedCommand
from tests.cli.running import HANGAR, clean_environment, invoke, shell


def failing(error: BaseException) -> click.Command:
    @click.command(cls=GuardedCommand)
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "/a/b"), "Error: No such file or directory: /a/b\n"),
        (OSError(28, "No space left on device"), "Error: No space left on device\n"),
        (
            RuntimeError("at s3://me:secret@bucket/x"),
            (
                "Error: something unforeseen happened (RuntimeError: at s3://***@bucket/x). Please report it, with "
                "what `hangar --debug …` shows\n"
            ),
        ),
    ],
)
def test_other_errors(error, said):
    assert invoke(failing(error), code=1).stderr == said


def test_interrupted():
    result = invoke(failing(KeyboardInterrupt()), code=130)
    assert result.output.strip() == ""


def test_a_warning_is_one_line():
    @click.command(cls=GuardedCommand)
    def command() -> None:
        warnings.warn("mind the gap", UserWarning, stacklevel=1)

    assert invoke(command).stderr == "Warning: mind the gap\n"


def test_debug_shows_where(place):
    program = """
import hangar_cloud.repository
def broken(*_, **__):
    raise RuntimeError("inside")
hangar_cloud.repository.Repository.log = broken
from hangar_cloud.cli import main
main()
"""
    invoke(main, "init", "--name", "a", "--email", "b@c")
    for flags, shown in (([], False), (["--debug"], True)):
        done = subprocess.run(
            [sys.executable, "-c", program, *flags, "log"],
            cwd=place,
            env=clean_environment(place),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "Error: something unforeseen happened (RuntimeError: inside)" in done.stderr
        assert ("Traceback" in done.stderr) is shown


def test_a_closed_pipe_is_no_error(tmp_path):
    """What is printed after the reader has gone goes nowhere, and nobody complains."""
    program = "from hangar_cloud.cli import main; import sys; sys.argv[1:] = ['log']; main()"
    shell("init", "--name", "a", "--email", "b@c", cwd=tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.usefixtures("heard")
def test_control_c_in_the_middle_of_work(tmp_path):
    """The demo is interrupted once it has begun; its temporary folder goes with it."""
    with subprocess.Popen(
        [*HANGAR, "demo"],
        cwd=tmp_path,
        env=clean_environment(tmp_path) | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        while not running.stdout.readline().startswith("1. Ingest"):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
        assert running.stderr.read().strip() == ""
    assert list(tmp_path.glob("hangar-demo-*")) == []


@pytest.mark.usefixtures("filled")
def test_no_colour_in_a_pipe(place):
    said = [shell(*command, cwd=place).stdout for command in (["log"], ["branch", "list"])]
    assert all(said)
    assert "\x1b" not in "".join(said)


def test_help_that_cannot_be_written_ends_in_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*HANGAR, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=clean_environment(tmp_path),
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_a_closed_output_is_no_error(filled):
    command = ["sh", "-c", '"$@" >&-', "sh", *HANGAR, "log"]
    environment = clean_environment(filled._storage.root)
    done = subprocess.run(
        command, cwd=filled.path, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
