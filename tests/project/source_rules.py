"""The rules that every source file here keeps, as functions from sources to complaints.

They take parsed files and not "the repository", so that a test can plant a violation and see it found.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hangar_cloud.backends.lazy_property import lazy_property

ROOT = Path(__file__).resolve().parents[2]

PACKAGE_FOLDERS = ("hangar_cloud", "backends", "catalog")
OTHER_FOLDERS = ("infra", "tests", "examples", "benchmarks", "docs")

# What each room must not look at. A room that is not named here may look anywhere.
FORBIDDEN_ROOMS = {"backends": {"catalog", "people"}, "catalog": {"people"}}

OUTERMOST = ("hangar_cloud/cli/", "hangar_cloud/demo", "infra/")
# Who else may print, each with its reason.
ALSO_PRINTS = {
    "hangar_cloud/repository.py",  # log() and summary(): users of Hangar expect them to
    "hangar_cloud/repository_care.py",  # verify_repo_integrity(): likewise
    "hangar_cloud/merging.py",  # which kind of merge was done, as Hangar's users expect
    "hangar_cloud/graph.py",  # the picture that log() prints
    "hangar_cloud/progress.py",  # asks whether standard error is a terminal before it draws a bar there
}
# Third parties that can be steered through the environment alone, each with what it needs.
ALSO_READS_ENVIRONMENT = {
    "hangar_cloud/loaders/launched.py",  # torchrun tells how many ranks a machine has by LOCAL_WORLD_SIZE
    "backends/store/gcs.py",  # gcsfs reads a switch when it is imported, and finds emulators by STORAGE_EMULATOR_HOST
}

LONGEST_FILE = 400
# Files that are longer today, with their length then. A line here may shrink or go; it may not grow or be added.
LONG_FILES: dict[str, int] = {}

VAGUE_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}


@dataclass(frozen=True)
class Source:
    """One Python file: where it lies below the root (with forward slashes), and its text."""

    place: str
    text: str

    @lazy_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=self.place)

    @property
    def module(self) -> str:
        """The dotted name that this file is imported by."""
        parts = self.place.removesuffix(".py").split("/")
        if parts[-1] == "__init__":
            parts.pop()
        if parts[0] in {"backends", "catalog"}:
            parts.insert(0, "hangar_cloud")
        return ".".join(parts)

    @property
    def package(self) -> str:
        return self.module if self.place.endswith("/__init__.py") else self.module.rpartition(".")[0]


def sources(folders: Iterable[str], root: Path = ROOT) -> list[Source]:
    """Every Python file of these folders, each once: links to the rooms are not followed."""
    found = []
    for folder in folders:
        for here, _, names in os.walk(root / folder, followlinks=False):
            for name in names:
                if name.endswith(".py"):
                    path = Path(here, name)
                    found.append(Source(path.relative_to(root).as_posix(), path.read_text("utf-8")))
    return sorted(found, key=lambda source: source.place)


def room_of(module: str) -> str | None:
    """The room that a module belongs to, or None if it is not of this package."""
    first, _, rest = module.partition(".")
    if first in {"backends", "catalog"}:
        return first
    if first != "hangar_cloud":
        return None
    second = rest.partition(".")[0]
    return second if second in {"backends", "catalog"} else "people"


def _called_import(node: ast.Call) -> Iterator[str]:
    """`import_module("x")` and `__import__("x")`: an arrow is one however it is drawn."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in {"import_module", "__import__"} and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def _from_import(node: ast.ImportFrom, package: str) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        above = package.split(".")
        base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [base])])
    if base == "hangar_cloud":  # `from hangar_cloud import catalog` names a room, not the package
        yield from (f"hangar_cloud.{alias.name}" for alias in node.names)
    else:
        yield base


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, name) for name in _from_import(node, package))
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in _called_import(node))


def wrong_way(source: Source) -> Iterator[str]:
    """Imports that look into a room this file's room may not see."""
    forbidden = FORBIDDEN_ROOMS.get(room_of(source.module) or "", set())
    for line, name in imports(source.tree, source.package):
        if room_of(name) in forbidden:
            yield f"{source.place}:{line} imports {name}"


def short_name(source: Source) -> Iterator[str]:
    """`import backends` works at the root of a checkout, and makes a second copy of every class."""
    for line, name in imports(source.tree, source.package):
        if name.partition(".")[0] in {"backends", "catalog"}:
            yield f"{source.place}:{line} imports {name}: spell it hangar_cloud.{name}"


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in {"environ", "environb", "getenv", "putenv"} and getattr(node.value, "id", "") == "os"
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "os"
        and any(alias.name in {"environ", "environb", "getenv", "putenv"} for alias in node.names)
    )


def _prints(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") in {"print", "input"}
    if isinstance(node, ast.Attribute):
        return node.attr in {"stdout", "stderr"} and getattr(node.value, "id", "") == "sys"
    return False


def outermost_only(source: Source) -> Iterator[str]:
    """Reading the environment and printing belong to the outermost layer: a library that does either surprises."""
    if source.place.startswith(OUTERMOST):
        return
    for node in ast.walk(source.tree):
        if _reads_environment(node) and source.place not in ALSO_READS_ENVIRONMENT:
            yield f"{source.place}:{node.lineno} reads the environment"  # type: ignore[attr-defined]
        elif _prints(node) and source.place not in ALSO_PRINTS:
            yield f"{source.place}:{node.lineno} prints"  # type: ignore[attr-defined]


def too_long(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > LONG_FILES.get(source.place, LONGEST_FILE):
        yield f"{source.place} has {lines} lines"


def vague_name(source: Source) -> Iterator[str]:
    """A module named after nothing collects everything."""
    for part in source.module.split("."):
        if part in VAGUE_NAMES:
            yield f"{source.place} is named {part}"


def eager_imports(source: Source) -> Iterator[tuple[int, str]]:
    """(line, top-level name) of what is imported when the module is: outside functions and TYPE_CHECKING."""

    def visit(nodes: Iterable[ast.stmt]) -> Iterator[tuple[int, str]]:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found = imports(ast.Module([node], []), source.package)
                yield from ((line, name.partition(".")[0]) for line, name in found)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
                yield from visit([*node.body, *node.orelse])
            elif isinstance(node, ast.Try):
                yield from visit([*node.body, *node.orelse, *node.finalbody])

    return visit(source.tree.body)


def lines_for_types(source: Source) -> set[int]:
    """The lines under `if TYPE_CHECKING:`, which never run."""
    blocks = (n for n in ast.walk(source.tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))
    return {line for block in blocks for line in range(block.lineno, (block.body[-1].end_lineno or 0) + 1)}
