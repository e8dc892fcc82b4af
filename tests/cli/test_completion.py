"""What a shell completes: commands, options, and names that are on this machine."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from click.shell_completion import BashComplete

from hangar_cloud.cli import main
from tests.cli.running import HANGAR, clean_environment, invoke


def completed(*typed: str) -> list[str]:
    """What the last word may become."""
    *before, incomplete = typed
    shell = BashComplete(main, {}, "hangar", "_HANGAR_COMPLETE")
    return [item.value for item in shell.get_completions(list(before), incomplete)]


@pytest.fixture
def named(shared):
    """A repository with something of each kind that has a name."""
    shared.create_branch("dev")
    shared.create_branch("gone")
    shared.remove_branch("gone")
    shared.create_tag("v1")
    writer = shared.checkout(write=True)
    writer.add_str_column("staged")
    writer.stash("put-away")
    writer.add_str_column("extra")
    writer.close()
    return shared


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["sta"], ["status", "stash"]),
        (["branch", "re"], ["reset", "restore"]),
        (["log", "--j"], ["--json"]),
        (["merge", "--strategy", "o"], ["ours"]),
        (["checkout", ""], ["dev", "master"]),
        (["log", ""], ["dev", "master", "origin/master", "v1"]),
        (["branch", "restore", ""], ["gone"]),
        (["tag", "delete", ""], ["v1"]),
        (["column", "remove", ""], ["extra", "images", "labels"]),
        (["restore", "i"], ["images"]),
        (["push", "o"], ["origin"]),
        (["view", "i"], ["images"]),
        (["view", "images", ""], []),
        (["view", "images", "int:3", "v"], ["v1"]),
        (["export", "la"], ["labels"]),
        (["export", "labels", "de"], ["dev"]),
        (["export", "labels", "dev", ""], []),
        (["import", "ima"], ["images"]),
        (["push", "origin", "m"], ["master"]),
        (["prefetch", "--remote", ""], ["origin"]),
        (["stash", "pop", ""], ["put-away"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_names(named, typed, found):
    assert completed(*typed) == found


@pytest.mark.parametrize("typed", [("import", "images", "ph"), ("export", "images", "-o", "ph")])
def test_paths_are_left_to_the_shell(named, typed):
    shell = BashComplete(main, {}, "hangar", "_HANGAR_COMPLETE")
    (item,) = shell.get_completions(list(typed[:-1]), typed[-1])
    assert (item.type, item.value) == ("file", "ph")


@pytest.mark.usefixtures("named")
def test_in_another_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert completed("-C", str(place), "checkout", "d") == ["dev"]
    assert completed("checkout", "d") == []
    assert completed("-C", "http://127.0.0.1:9/nobody", "checkout", "") == []


def test_a_damaged_repository_completes_nothing_and_says_nothing(named, capsys):
    (named._storage.root / "store" / "hangar.json").write_bytes(b"[[[")
    assert completed("checkout", "") == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_calls_hangar(shell):
    text = invoke(main, "completion", shell).stdout
    assert f"_HANGAR_COMPLETE={shell}_complete" in text
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=text, text=True, check=True)


@pytest.mark.usefixtures("named")
def test_a_shell_asks_the_program_itself(place):
    environment = {"_HANGAR_COMPLETE": "bash_complete", "COMP_WORDS": "hangar checkout d", "COMP_CWORD": "2"}
    program = HANGAR[2].replace("main()", "main(prog_name='hangar')")
    done = subprocess.run(
        [*HANGAR[:2], program],
        cwd=place,
        env=clean_environment(place) | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,dev\n", "")
