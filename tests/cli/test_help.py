"""Help: there for every command, from the source alone, and without loading what the command will need."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

import hangar_cloud
from hangar_cloud.cli import cli, main
from hangar_cloud.cli.guard import GuardedCommand, GuardedGroup
from tests.cli.running import clean_environment, invoke
from tests.project.source_rules import ROOT

# As in Hangar's manual.
OPTIONS = {
    "branch create": set(),
    "branch delete": {"-f", "--force"},
    "branch list": set(),
    "checkout": set(),
    "clone": {"--name", "--email", "--overwrite"},
    "column create": {"--variable-shape", "--contains-subsamples"},
    "column remove": set(),
    "commit": {"-m", "--message"},
    "diff": set(),
    "export": {"-o", "--out", "-s", "--sample", "-f", "--format", "--plugin"},
    "fetch": set(),
    "fetch-data": {"-d", "--column", "-n", "--nbytes", "-a", "--all-history"},
    "import": {"--branch", "--plugin", "--overwrite"},
    "init": {"--name", "--email", "--overwrite"},
    "log": set(),
    "push": set(),
    "remote add": set(),
    "remote list": set(),
    "remote remove": set(),
    "server": {"--overwrite", "--ip", "--port", "--timeout"},
    "status": set(),
    "summary": set(),
    "view": {"-f", "--format", "--plugin"},
    "writer-lock": {"--force-release"},
}
# What this has beyond it.
MORE = {
    "branch list": {"--json"},
    "commit": {"--on-conflict", "--idempotency-key"},
    "diff": {"--json", "--exit-code"},
    "export": {"--overwrite", "--dataset", "--column", "--image", "--label", "--shard-size"},
    "import": {"--labels", "--keep-extensions", "--clean-names", "--workers", "--dataset", "--column", "--key"}
    | {"--strict", "--json"},
    "log": {"-n", "--limit", "--time", "--user", "--json"},
    "push": {"--force", "--on-conflict"},
    "remote list": {"--json"},
    "server": {"-v", "--verbose"},
    "status": {"--json"},
    "summary": {"--json"},
    "view": {"--subsample", "--window"},
}
OURS = {
    "demo": {"--data", "--bucket", "--keep"},
    "branch reset": set(),
    "branch restore": set(),
    "cache clear": set(),
    "cache limit": set(),
    "cache show": {"--json"},
    "column alter": {"--dtype", "--shape", "--variable-shape"},
    "column list": {"--json"},
    "column rename": set(),
    "completion": set(),
    "merge": {"-m", "--message", "--into", "-s", "--strategy", "--ours", "--theirs", "--ancestor"},
    "prefetch": {"-d", "--column", "-k", "--sample", "-n", "--nbytes", "-a", "--all-history", "--remote"},
    "reflog": {"-n", "--limit", "--json"},
    "remote ping": set(),
    "reset": {"--yes"},
    "restore": {"--from"},
    "stash drop": set(),
    "stash list": {"--json"},
    "stash pop": set(),
    "stash save": set(),
    "tag create": {"-m", "--message"},
    "tag delete": set(),
    "tag list": {"--json"},
    "tag push": set(),
    "verify": {"--level", "--json", "--restart", "--fetch"},
    "gc": {"--dry-run", "--grace", "--keep-reflog", "--names", "--json"},
    "repack": {"--dry-run", "--json"},
    "purge": {"--digest", "--commit", "--reason", "--dry-run", "--yes", "--json"},
}


def commands(group: click.Group, before: str = "") -> dict[str, click.Command]:
    context = click.Context(group)
    found = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[before + name] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{before}{name} ")
    return found


EVERY = commands(main)


def test_the_commands_are_those_of_the_manual():
    leaves = {name for name, command in EVERY.items() if not isinstance(command, click.Group)}
    assert leaves == set(OPTIONS) | set(OURS)


@pytest.mark.parametrize("name", sorted(OPTIONS | OURS))
def test_the_options_are_those_of_the_manual(name):
    given = {flag for parameter in EVERY[name].params if isinstance(parameter, click.Option) for flag in parameter.opts}
    assert given == (OPTIONS | OURS)[name] | MORE.get(name, set())


@pytest.mark.parametrize("name", ["", *sorted(EVERY)])
def test_help(name):
    text = invoke(main, *name.split(), "--help").stdout
    assert text.startswith("Usage: hangar")
    assert text == invoke(main, *name.split(), "-h").stdout
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("name", sorted(EVERY))
def test_help_of_a_command_alone(name):
    assert invoke(EVERY[name], "-h").stdout == invoke(EVERY[name], "--help").stdout


@pytest.mark.parametrize("command", [GuardedGroup("group"), GuardedCommand("command")])
def test_help_of_a_command_that_was_looked_at_first(command):
    """A context made by hand has none of the command's settings, and click keeps the option made with it."""
    command.get_params(click.Context(command))
    assert invoke(command, "-h").stdout == invoke(command, "--help").stdout


def test_help_names_every_command_in_full():
    """A description that is cut off in the list says nothing."""
    text = invoke(main, "--help").stdout
    below = text.partition("\nStart:\n")[2]
    listed = [line.split()[0] for line in below.splitlines() if re.match(r"  [a-z-]+ {2,}[A-Z]", line)]
    assert listed == main.list_commands(click.Context(main))
    assert "..." not in below


def test_every_section_of_the_help_names_commands_that_there_are():
    placed = [name for names in cli._SECTIONS.values() for name in names]
    assert len(placed) == len(set(placed))
    assert set(placed) <= set(cli._COMMANDS)


def test_version():
    assert invoke(main, "--version").stdout == f"hangar, version {hangar_cloud.__version__}\n"


def test_every_command_object_is_an_attribute():
    objects = [getattr(cli, name) for name in cli._OBJECTS]
    assert {id(command) for command in objects} == {id(command) for command in EVERY.values()}
    assert hangar_cloud.cli.branch_create is cli.branch_create
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        cli.frobnicate  # noqa: B018


@pytest.mark.parametrize("name", ["", "branch create", "push", "demo", "status"])
def test_help_loads_nothing_heavy(name, tmp_path):
    program = f"""
import sys
from hangar_cloud.cli import main
sys.argv = ["hangar", *{name.split()!r}, "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = {{"numpy", "pyarrow", "duckdb", "fsspec", "boto3", "rich", "sklearn", "tqdm", "blake3"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
