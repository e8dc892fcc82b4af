"""What the tests that follow tutorials share: starting, and reading what is shown and printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hangar_cloud import Repository


def printer(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """A function that makes a call and gives the lines that it prints."""

    def lines(use: Callable[..., Any], *arguments: Any, **options: Any) -> list[str]:
        capsys.readouterr()
        use(*arguments, **options)
        return capsys.readouterr().out.splitlines()

    return lines


def started(path: Path, capsys: pytest.CaptureFixture[str], name: str, email: str) -> Repository:
    """A new repository, as every tutorial begins."""
    with pytest.warns(UserWarning, match=r"No repository exists at .*, please use `repo.init\(\)` method"):
        repo = Repository(path=str(path))
    assert repo.init(user_name=name, user_email=email, remove_old=True) == f"{path}/.hangar"
    assert f"Hangar Repo initialized at: {path}/.hangar" in capsys.readouterr().out
    return repo


def facts(text: str) -> dict[str, str]:
    """The names and values of a table in text."""
    return dict(re.findall(r"^ {4}(\S.*?) +: (.*)$", text, re.M))


def column_facts(column: Any) -> dict[str, str]:
    """What a column shows in a session, by name."""
    shown: list[str] = []
    column._repr_pretty_(SimpleNamespace(text=shown.append), False)
    return facts(shown[0])


def empty_column(name: str, dtype: str, shape: tuple[int, ...], count: int = 0) -> dict[str, str]:
    """What a flat column of arrays, in a writer, shows of itself."""
    return {
        "Column Name": name,
        "Writeable": "True",
        "Column Type": "ndarray",
        "Column Layout": "flat",
        "Schema Type": "fixed_shape",
        "DType": dtype,
        "Shape": str(shape),
        "Number of Samples": str(count),
        "Partial Remote Data Refs": "False",
    }


def shown_columns(columns: Any) -> list[str]:
    """The rows below the heading of a checkout's columns."""
    heading, _, rows = repr(columns).partition("Column Names / Partial Remote References:\n")
    assert heading.startswith("Hangar Columns\n    Writeable         : ")
    assert f"    Number of Columns : {len(columns)}\n" in heading
    return [row.strip() for row in rows.splitlines()]
