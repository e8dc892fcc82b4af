"""Functions that bulk imports of the tests run. Light to import: every worker does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from hangar_cloud.bulk_importer import UDF_Return


def picture(number, side=60):
    """An array that no codec shrinks, of a few numbers' worth."""
    return np.random.default_rng(number).integers(0, 256, (side, side), np.uint8)


def everything(number):
    """Samples of all kinds of columns; now and then fewer, and keys that are equal as text and not as keys."""
    yield UDF_Return("picture", number, picture(number % 40))
    yield UDF_Return("picture", str(number), picture(number % 40))
    yield UDF_Return("label", number, np.array(number % 10, np.int64))
    if number % 7 == 3:
        return
    yield UDF_Return("varied", f"a/{number}", np.full((1 + number % 5, 3), number, np.float32))
    yield UDF_Return("text", number, "" if number == 1 else f"text {number} " * (number % 40))
    yield UDF_Return("blob", number, bytes([number % 256]) * (number % 300))
    yield UDF_Return("scans", (f"patient-{number % 9}", number), picture(number % 13, 30))
    yield UDF_Return("notes", (number % 9, f"n{number}"), f"note {number}")


def text(key, value="some text"):
    yield UDF_Return("text", key, value)


def pictures(numbers, prefix):
    for number in numbers:
        yield UDF_Return("picture", f"{prefix}{number}", picture(number))


def counted(key, folder):
    """Leaves a file for each time that it is run."""
    Path(folder, f"{key}-{time.time_ns()}").touch()
    yield UDF_Return("text", key, "counted")


def meeting(key, folder, others):
    """Goes on only once all the others are at work too."""
    Path(folder, key).touch()
    wait_for(lambda: all(Path(folder, other).exists() for other in others))
    yield UDF_Return("text", key, "met")


def wait_for(condition, seconds=60):
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest, "waited in vain"
        time.sleep(0.01)


def big(number, folder):
    """Tells how much memory its process has, too."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    Path(folder, f"{number}.resident").write_text(str(pages * os.sysconf("SC_PAGE_SIZE")))
    yield UDF_Return("big", number, np.arange(2**20, dtype=np.int64) + number)


def changes_its_arguments(keys):
    while keys:
        key = keys.pop()
        yield UDF_Return("text", key, f"of {key}")


def undetermined(key):
    yield UDF_Return("text", f"{key}-first", "always the same")
    yield UDF_Return("text", key, str(random.random()))


def sometimes_more(key, folder):
    yield UDF_Return("text", key, "one")
    marker = Path(folder, key)
    if marker.exists():
        yield UDF_Return("text", f"{key}-more", "two")
    marker.touch()


def undetermined_in_the_end(key):
    yield UDF_Return("text", key, str(random.random()) if key == "k99" else "same")


def raises(key):
    yield UDF_Return("text", key, "before it")
    raise FileNotFoundError("photo.jpg is not there")


def exits(key):
    yield UDF_Return("text", key, "before it")
    sys.exit(3)


def killed(key):
    yield UDF_Return("text", key, "before it")
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(key):
    import ctypes

    yield UDF_Return("text", key, "before it")
    ctypes.string_at(0)


def forks_and_is_killed(key):
    """A child of it, which lives on for a while, holds what it had open."""
    if os.fork() == 0:
        time.sleep(5)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    yield


class Mute(BaseException):
    """No `Exception`, and cannot say what it is."""

    def __str__(self):
        raise RuntimeError("mute")


def raises_something_odd(key):
    raise {"key": KeyboardInterrupt(), "end": GeneratorExit(), "mute": Mute()}.get(key, ValueError("\ud800" * 10**6))
    yield


def forks_and_goes_on(key):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    yield UDF_Return("text", key, "the parent's" if child else "the child's")


def starts_a_program_and_waits(key, folder):
    program = subprocess.Popen(["sleep", "600"])
    Path(folder, "program").write_text(str(program.pid))
    yield UDF_Return("text", key, "some text")
    if key == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    program.wait()


def returns_one(key):
    return UDF_Return("text", key, "not yielded")


def returns_none(key):
    return None


def yields_a_tuple(key):
    yield ("text", key, "value")


def other_column(key):
    yield UDF_Return("label", 0, np.array(0, np.int64))


def bad_key(key):
    yield UDF_Return("text", "a key!", "value")


def pair_in_flat(key):
    yield UDF_Return("text", (key, 0), "value")


def wrong_value(key):
    yield UDF_Return("text", key, b"bytes")


def twice_alike(key):
    yield UDF_Return("text", key, "value")
    yield UDF_Return("text", key, "value")


def twice_unlike(key):
    yield UDF_Return("text", key, "value")
    yield UDF_Return("text", key, "another value")


def all_the_same_key(key):
    yield UDF_Return("text", "shared", f"of {key}")


async def asynchronous(key):
    yield UDF_Return("text", key, "value")
