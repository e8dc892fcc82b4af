"""Running commands: inside this process as click's tests do, and as a person does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from tests.project.source_rules import ROOT

HANGAR = (sys.executable, "-c", "from hangar_cloud.cli import main; main()")


def invoke(
    command: click.Command, *arguments: str | Path, obj: Any = None, code: int = 0, text: str | None = None
) -> Result:
    """Run a command object; it must end with `code`, by itself."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], obj=obj, input=text)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def shell(
    *arguments: str | Path, cwd: Path, code: int = 0, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `hangar` in a process of its own, every warning of Python's shown."""
    done = subprocess.run(
        [*HANGAR, *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(cwd) | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without what would steer clouds or coverage, and with caches below `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_", "PYTEST"))}
    return kept | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home / ".cache"), "AWS_EC2_METADATA_DISABLED": "true"}
