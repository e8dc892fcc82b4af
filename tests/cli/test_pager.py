"""Colour and the pager: on terminals, and only as far as people want them."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.running import HANGAR, clean_environment, invoke
from tests.cli.test_terminal import on_terminal

COLOUR = "\x1b[33m"


@pytest.fixture
def pager(tmp_path):
    """A pager that says that it was there, and how it was called."""
    program = tmp_path / "pager"
    program.write_text('#!/bin/sh\necho "paged with [$*] LESS=$LESS"\ncat\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.usefixtures("filled")
def test_long_output_is_paged_on_a_terminal(place, pager):
    seen = on_terminal("log", cwd=place, environment={"PAGER": f"{pager} --some 'words here'"})
    assert "paged with [--some words here] LESS=FRX" in seen
    assert COLOUR in seen
    assert "ten samples" in seen


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (["--no-pager"], {}),
        ([], {"HANGAR_PAGER": ""}),
        ([], {"HANGAR_PAGER": "cat"}),
        ([], {"HANGAR_PAGER": "/no/such/pager"}),
        ([], {"HANGAR_PAGER": "'"}),
    ],
)
def test_no_pager(place, pager, flags, environment):
    """HANGAR_PAGER goes before PAGER, and none at all is an answer."""
    seen = on_terminal(*flags, "log", cwd=place, environment={"PAGER": pager, **environment})
    assert "paged" not in seen
    assert "ten samples" in seen


@pytest.mark.usefixtures("filled")
def test_a_pager_that_quits_at_once_is_no_error(place):
    assert "Error" not in on_terminal("log", cwd=place, environment={"PAGER": "true"})


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("flags", "environment"), [([], {"NO_COLOR": "1"}), (["--color", "never"], {})])
def test_no_colour_on_a_terminal(place, pager, flags, environment):
    for command in (["log"], ["branch", "list"]):
        seen = on_terminal(*flags, *command, cwd=place, environment={"PAGER": pager, **environment})
        assert "paged" in seen
        assert "\x1b[3" not in seen


@pytest.mark.usefixtures("filled")
def test_colour_in_a_pipe_where_it_is_asked_for(place):
    done = subprocess.run(
        [*HANGAR, "--color", "always", "log"],
        cwd=place,
        env=clean_environment(place) | {"NO_COLOR": "1", "PAGER": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert COLOUR in done.stdout


def test_a_command_alone_honours_no_color(filled, monkeypatch):
    from click.testing import CliRunner

    from hangar_cloud.cli import cli

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert COLOUR in CliRunner().invoke(cli.log, [], obj=filled, color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert COLOUR not in CliRunner().invoke(cli.log, [], obj=filled, color=True).stdout
    assert COLOUR not in invoke(cli.log, obj=filled).stdout
