"""Every command that there is, and so every one in docs/cli.md, is run here; so is every JSON document."""

from __future__ import annotations

import contextlib
import json

import click
import pytest

from hangar_cloud import Repository
from hangar_cloud.cli import main
from hangar_cloud.cli.json_output import json_members
from infra import cli_reference
from tests.cli.every_command import EXAMPLES, RUNS, STEPS, Run
from tests.cli.running import invoke
from tests.cli.test_help import EVERY
from tests.project.source_rules import ROOT
from tests.repository.forging import store_files

LEAVES = {name for name, command in EVERY.items() if not isinstance(command, click.Group)}
WITHOUT_REPOSITORY = {"init", "clone", "demo", "completion"}
ON_A_REPOSITORY = sorted(LEAVES - WITHOUT_REPOSITORY)


def test_no_command_is_left_out():
    assert {run.name for run in RUNS} == LEAVES


def test_every_document_is_made_by_some_run():
    wanted = {name for name in LEAVES if json_members(EVERY[name]) is not None}
    assert {run.name for run in RUNS if "--json" in run.arguments} == wanted


def test_all_of_them_in_one_story(tmp_path, monkeypatch):
    folders = {name: tmp_path / name for name in ("here", "there")}
    for folder in folders.values():
        folder.mkdir()
    for step in STEPS:
        if not isinstance(step, Run):
            step(folders["here"])
            continue
        monkeypatch.chdir(folders[step.where])
        arguments = [
            argument.format(bucket=tmp_path / "bucket", files=tmp_path / "files") if argument[0] == "{" else argument
            for argument in step.arguments
        ]
        result = invoke(main, *step.name.split(), *arguments)
        if "--json" in step.arguments:
            document = json.loads(result.stdout)
            assert set(document) == set(json_members(EVERY[step.name])), step
        else:
            assert result.stdout, step
    repo = Repository(folders["here"])
    reader = repo.checkout()
    assert [reader["labels", key] for key in (1, 2, 0, "0")] == ["ours", "theirs", "label 0", "text zero"]
    reader.close()


def test_the_reference_is_up_to_date():
    """`python -m infra.cli_reference` writes it anew."""
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == cli_reference.render()


def test_the_reference_names_every_command_option_and_member():
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for name, command in EVERY.items():
        section = text.partition(f"# hangar {name}\n")[2].partition("\n#")[0]
        assert section, name
        for parameter in command.params:
            for flag in parameter.opts if isinstance(parameter, click.Option) else ():
                assert flag in section, (name, flag)
        for member in json_members(command) or ():
            assert f"    - `{member}`: " in section, (name, member)


def newer(repo: Repository) -> None:
    (file,) = store_files(repo, "hangar.json")
    file.unlink()
    file.write_text('{"format": 99}')


def damaged(repo: Repository) -> None:
    (file,) = store_files(repo, "hangar.json")
    file.unlink()
    file.write_bytes(b"{}")


def wiped(repo: Repository) -> None:
    for file in store_files(repo, "hangar.json"):
        file.unlink()


def complaint(name: str, code: int | None = 1) -> str:
    """The one line that a command ends with; empty where it succeeded, which only `code` None allows."""
    from click.testing import CliRunner

    result = CliRunner().invoke(main, [*name.split(), *EXAMPLES[name]])
    assert result.exception is None or isinstance(result.exception, SystemExit), (name, result.exception)
    assert "unforeseen" not in result.output, (name, result.output)
    if result.exit_code == 0:
        assert code is None, (name, result.output)
        return ""
    assert result.exit_code == 1, (name, result.output)
    *_, last = result.stderr.splitlines() or [""]
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert errors == [last] or "damage" in result.stdout, (name, result.output)
    return last


def test_no_repository(place):
    for name in ON_A_REPOSITORY:
        assert "`hangar init`" in complaint(name), name
    assert list(place.iterdir()) == []


def test_a_repository_of_a_newer_format(filled):
    newer(filled)
    for name in ON_A_REPOSITORY:
        assert "upgrade" in complaint(name).lower(), name


@pytest.mark.parametrize("break_it", [damaged, wiped])
def test_a_repository_whose_mark_is_broken(filled, break_it):
    break_it(filled)
    for name in ON_A_REPOSITORY:
        assert "hangar.json" in complaint(name), name


def test_a_repository_that_somebody_writes_to(shared):
    """Readers work, and writers say who is in the way and what to do."""
    shared.create_branch("dev")
    with contextlib.closing(shared.checkout(write=True)) as writer:
        told = {name: complaint(name, None) for name in ON_A_REPOSITORY if name != "writer-lock"}
        writer["labels"]["still"] = "alive"
    refused = {name for name, said in told.items() if "writer" in said}
    assert refused >= {
        *("commit", "reset", "restore", "merge", "checkout", "stash save", "stash pop", "stash drop", "gc", "repack"),
        *("column create", "column alter", "column rename", "column remove", "branch delete"),
    }
    for name in (
        "status",
        "log",
        "summary",
        "diff",
        "branch list",
        "tag list",
        "verify",
        "column list",
        "reflog",
    ):
        assert told[name] == "", name


def scribble(pattern: str):
    def step(repo: Repository) -> None:
        for file in (repo._storage.root).glob(pattern):
            file.unlink()
            file.write_bytes(b"no such thing [[[")

    return step


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (scribble("config.toml"), "config.toml is not readable"),
        (scribble("store/refs/heads/master/*"), "is damaged"),
        (scribble("store/commits/*"), "is damaged"),
        (scribble("staging/*/staging.duckdb"), "staging"),
    ],
    ids=["settings", "branch", "commit", "staging"],
)
def test_a_repository_that_is_damaged_inside(filled, break_it, said):
    filled.create_branch("dev")
    break_it(filled)
    told = {name: complaint(name, None) for name in ON_A_REPOSITORY}
    assert any(said in text for text in told.values()), told
