"""The command line: ``hangar``. Only this package and the demo print and read the environment.

Importing it loads click and nothing else; a command's module is imported when the command is used.
"""

from __future__ import annotations

from typing import Any

from hangar_cloud.cli.cli import load_command, main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    """A command object by its function name, as in `hangar_cloud.cli.cli`."""
    return load_command(name, __name__)
