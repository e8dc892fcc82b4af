"""What the documents say is so: two commands to set up, links that lead somewhere, code that is Python."""

from __future__ import annotations

import doctest
import os
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.project.source_rules import ROOT
from tests.project.test_packaging import PROJECT, requirement_names

SKIPPED = {".git", ".venv", "venv", "build", "dist", "node_modules"}
FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>`{3,}|~{3,})(?P<language>[\w+-]*)[^\n]*\n(?P<body>.*?)^ *(?P=mark)", re.M | re.S
)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)[^)]*\)")


class Block(NamedTuple):
    place: str
    language: str
    body: str


def documents() -> list[Path]:
    found = []
    for here, folders, names in os.walk(ROOT, followlinks=False):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.endswith("_cache")]
        found += [Path(here, name) for name in names if name.endswith(".md")]
    return sorted(found)


def blocks(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    return [
        Block(
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}",
            match["language"],
            textwrap.dedent(match["body"]),
        )
        for match in FENCE.finditer(text)
    ]


def links(text: str) -> list[str]:
    """Relative link targets of a document, code left out."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    targets = [match["target"] for match in LINK.finditer(prose)]
    return [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def anchors(text: str) -> set[str]:
    """The names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    goal = path.parent / name if name else path
    return not goal.exists() or bool(anchor and goal.suffix == ".md" and anchor not in anchors(goal.read_text("utf-8")))


def python_source(body: str) -> str:
    """The code of a block, whether it is plain or an interactive session."""
    if not body.lstrip().startswith(">>>"):
        return body
    return "".join(example.source for example in doctest.DocTestParser().get_examples(body))


PYTHON_BLOCKS = [block for path in documents() for block in blocks(path) if block.language in {"py", "python"}]


def test_two_commands_set_it_up():
    shell = [block.body for block in blocks(ROOT / "README.md") if block.language in {"sh", "bash", "shell", "console"}]
    commands = [line.removeprefix("$ ").partition("#")[0].strip() for body in shell for line in body.splitlines()]
    set_up = [command for command in commands if command and not command.startswith("hangar ")]
    assert set_up == ["make demo", "make test"]


def test_the_readme_has_code():
    assert any(block.place.startswith("README.md") for block in PYTHON_BLOCKS)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    assert [target for target in links(path.read_text("utf-8")) if broken(path, target)] == []


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=lambda block: block.place)
def test_code_in_documents_compiles(block):
    compile(python_source(block.body), block.place, "exec")


def test_every_dependency_has_its_reason_in_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    unexplained = [
        name
        for name in requirement_names(PROJECT["project"]["dependencies"])
        if not re.search(rf"^\| `{name}` \| \S", text, re.M)
    ]
    assert unexplained == []


def test_make_help_names_every_command_that_the_documents_use():
    known = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M))
    used = {name for path in documents() for name in re.findall(r"`make ([a-z-]+)", path.read_text("utf-8"))}
    assert used - known == set()


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing\n[a](page.md#one-thing) [b](page.md#other) [c](gone.md) `[d](x.md)` [e](https://x.y)\n"
    )
    assert [target for target in links(page.read_text()) if broken(page, target)] == ["page.md#other", "gone.md"]
