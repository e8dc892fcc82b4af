"""The command where the script `hangar` is not on the path."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hangar_cloud import __version__
from tests.cli.running import clean_environment


def run_module(module, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        cwd=cwd,
        env=clean_environment(cwd),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("module", ["hangar_cloud", "hangar_cloud.cli"])
def test_python_m_is_the_command(module, filled, place):
    done = run_module(module, "--version", cwd=place)
    assert (done.returncode, done.stdout) == (0, f"hangar, version {__version__}\n")
    assert "On branch master" in run_module(module, "status", cwd=place).stdout
    refused = run_module(module, "diff", "nope", cwd=place)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert run_module(module, "frobnicate", cwd=place).returncode == 2
