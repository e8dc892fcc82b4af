"""Every command of `hangar`, run in an order in which each finds something to do.

A command that is not in this table fails `test_every_command.py`. A step that is a function of the folder does in
Python what the command line has no command for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hangar_cloud import Repository


class Run(NamedTuple):
    """A command by its full name, its arguments, where "{bucket}" and "{files}" are filled in, and its folder."""

    name: str
    arguments: tuple[str, ...] = ()
    where: str = "here"


def write(**columns: dict[Any, Any]) -> Callable[[Path], None]:
    """Stages samples."""

    def step(folder: Path) -> None:
        writer = Repository(folder).checkout(write=True)
        for name, samples in columns.items():
            for key, value in samples.items():
                writer[name, key] = value
        writer.close()

    return step


IMAGES = {key: np.full((8, 8), key, np.uint8) for key in range(4)}
LABELS: dict[Any, str] = {**{key: f"label {key}" for key in range(4)}, "0": "text zero"}

STEPS: list[Run | Callable[[Path], None]] = [
    Run("init", ("--name", "Ada", "--email", "ada@example.org")),
    Run("column create", ("images", "UINT8", "8", "8")),
    Run("column create", ("labels", "STR")),
    write(images=IMAGES, labels=LABELS),
    Run("column list", ("--json",)),
    Run("column list"),
    Run("status", ("--json",)),
    Run("diff", ("--json",)),
    Run("commit", ("-m", "first")),
    Run("status"),
    Run("log", ("--json", "-n", "1")),
    Run("log", ("--time", "--user")),
    Run("summary", ("--json",)),
    Run("summary", ("master",)),
    Run("export", ("images", "-o", "{files}", "master")),
    Run("import", ("pictures", "{files}", "--json")),
    Run("import", ("pictures", "{files}", "--overwrite")),
    Run("view", ("images", "int:3")),
    Run("reset", ("--yes",)),
    Run("branch create", ("dev",)),
    Run("checkout", ("dev",)),
    write(labels={1: "theirs", 2: "theirs"}),
    Run("commit", ("-m", "on dev", "--on-conflict", "fail", "--idempotency-key", "batch-1")),
    Run("checkout", ("master",)),
    write(labels={1: "ours", 2: "ours"}),
    Run("commit", ("-m", "on master")),
    Run("diff", ("dev", "--json")),
    Run("diff", ("dev", "master")),
    Run("merge", ("dev", "-m", "together", "--strategy", "theirs", "--ours", "labels:1")),
    Run("branch list", ("--json",)),
    Run("branch delete", ("dev",)),
    Run("branch restore", ("dev",)),
    Run("branch reset", ("dev", "master@{1}")),
    Run("reflog", ("--json",)),
    Run("reflog", ("dev", "--limit", "2")),
    Run("tag create", ("v1", "-m", "a release")),
    Run("tag list", ("--json",)),
    Run("column alter", ("images", "--shape", "9,9", "--variable-shape")),
    Run("column rename", ("labels", "captions")),
    Run("stash save", ("later",)),
    Run("stash list", ("--json",)),
    Run("stash list"),
    Run("stash pop", ("later",)),
    Run("restore", ("images",)),
    Run("reset", ("--yes",)),
    Run("column remove", ("images",)),
    Run("stash save", ("gone",)),
    Run("stash drop", ("gone",)),
    Run("remote add", ("origin", "{bucket}")),
    Run("remote list", ("--json",)),
    Run("push", ("origin", "master")),
    Run("remote ping", ("origin",)),
    Run("push", ("origin", "dev", "--on-conflict", "merge")),
    Run("tag push", ("origin", "v1")),
    Run("clone", ("--name", "Ben", "--email", "ben@example.org", "{bucket}"), "there"),
    Run("fetch", ("origin", "dev"), "there"),
    Run("prefetch", ("-k", "images:2", "-k", "labels:'0'"), "there"),
    Run("prefetch", ("origin/dev", "-d", "labels", "-n", "1MB"), "there"),
    Run("cache show", ("--json",), "there"),
    Run("cache limit", ("1GB",), "there"),
    Run("cache clear", (), "there"),
    Run("cache show", (), "there"),
    Run("fetch-data", ("origin", "master", "--all-history"), "there"),
    Run("verify", ("--json", "--fetch"), "there"),
    Run("purge", ("images", "3", "--reason", "asked to", "--dry-run", "--json")),
    Run("purge", ("images", "3", "--reason", "asked to", "--yes")),
    Run("repack", ("--json",)),
    Run("repack", ("--dry-run",)),
    Run("gc", ("--json", "--grace", "0")),
    Run("gc", ("--dry-run",)),
    Run("verify", ("--level", "records")),
    Run("writer-lock"),
    Run("server", ("--port", "0", "--timeout", "0.1")),
    Run("tag delete", ("v1",)),
    Run("remote remove", ("origin",)),
    Run("completion", ("bash",)),
    Run("demo"),
]

RUNS = [step for step in STEPS if isinstance(step, Run)]
# The first way in which each command is run.
EXAMPLES: dict[str, tuple[str, ...]] = {run.name: run.arguments for run in reversed(RUNS)}
