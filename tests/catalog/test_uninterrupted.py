"""Control-C while something is staged: a KeyboardInterrupt, whatever the database makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.catalog.uninterrupted import uninterrupted
from tests.repository.making import make_repository


@pytest.fixture(autouse=True)
def heard():
    """SIGINT raises KeyboardInterrupt, also where the suite runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    """Control-C, once Python looks."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0)


def test_it_comes_at_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        press()
        with uninterrupted():
            press()
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_comes_instead_of_an_error():
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        press()
        raise ValueError("an error of the block")


def test_who_ignores_it_is_not_disturbed():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with uninterrupted():
        press()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_stage_without_it():
    failed = []

    def work():
        try:
            with uninterrupted():
                pass
        except BaseException as error:  # noqa: BLE001 - any is a failure
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


# Python itself drops an exception that a signal raises in the callback of a weak reference, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("batch", [1, 500])
def test_any_moment_of_staging_raises_keyboard_interrupt_and_nothing_else(tmp_path, batch):
    """A thread presses Control-C again and again while samples are written; what was written before stays."""
    repository = make_repository(tmp_path)
    writer = repository.checkout(write=True)
    column = writer.add_ndarray_column("array", prototype=np.zeros(3, np.int64))
    armed, stop = [], threading.Event()

    def once(number, frame):
        # Only while samples are written, not while the test counts.
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    def disturb():
        while not stop.wait(0.013):
            os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, once)
    written, pressed, number = {}, 0, 0
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        while pressed < 40:
            try:
                armed.append(True)
                values = {key: np.full(3, key) for key in range(number, number + batch)}
                column.update(values)
                written |= values
                number += batch
                armed.clear()
            except KeyboardInterrupt:
                pressed += 1
    finally:
        stop.set()
        thread.join()
    for key, value in written.items():
        assert np.array_equal(column[key], value)
    writer.close()
    again = Repository(tmp_path).checkout(write=True)
    for key, value in written.items():
        assert np.array_equal(again["array"][key], value)
    again.commit("what was written")
    again.close()
    assert repository.verify_repo_integrity()


# While DuckDB is imported it makes enums, and takes no KeyboardInterrupt from that.
PROGRAM = """
import enum, os, signal, sys
from pathlib import Path
from hangar_cloud.catalog.staging import StagingArea
make, pressed = enum.EnumMeta.__call__, []
def press_and_make(kind, *arguments, **named):
    frame = sys._getframe()
    while frame is not None and "duckdb" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is not None:
        pressed.append(os.kill(os.getpid(), signal.SIGINT))
    return make(kind, *arguments, **named)
enum.EnumMeta.__call__ = press_and_make
try:
    StagingArea(Path(sys.argv[1]))
except KeyboardInterrupt:
    print("interrupted" if pressed else "never pressed")
"""


def test_the_import_of_the_database_does_not_end_the_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr
