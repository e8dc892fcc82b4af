"""What is installed is exactly what lies in the three folders, under one import name.

A sub-package that pyproject.toml forgets leaves the wheel without a word, and one that is found through a link as
well would be installed twice; so a wheel is built here and compared with the disk.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import hangar_cloud
from tests.project.source_rules import PACKAGE_FOLDERS, ROOT, eager_imports, imports, lines_for_types, sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest depends on it there

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# What to install for an import name: another name, or the package whose interface speaks in this one's types.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "botocore": "boto3",
    "google": "google-auth",
    "sklearn": "scikit-learn",
    "yarl": "aiohttp",
}


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: str | Path, cwd: Path) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, cwd=cwd)


def wheel_from(source: Path, into: Path) -> Path:
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", into, source, cwd=into)
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that a build starts from. A copy: setuptools leaves `build/` behind, and packs what lies in it."""
    copy = tmp_path_factory.mktemp("source")
    for name in PACKAGE_FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def wheel(source_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_from(source_copy, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel, and nothing else, is installed."""
    site = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", site, wheel, cwd=site)
    return site


def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def expected_files() -> set[str]:
    """Where each Python file on disk belongs in a wheel."""
    return {
        s.place if s.place.startswith("hangar_cloud/") else f"hangar_cloud/{s.place}" for s in sources(PACKAGE_FOLDERS)
    }


def modules() -> list[str]:
    return [s.module for s in sources(PACKAGE_FOLDERS) if not s.place.endswith("__main__.py")]


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in requirements}


def test_every_folder_with_python_files_is_a_package():
    without_init = {str(Path(place).parent / "__init__.py") for place in expected_files()} - expected_files()
    assert without_init == set()


def test_every_package_on_disk_is_named_in_pyproject():
    on_disk = {s.package for s in sources(PACKAGE_FOLDERS)}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == on_disk


def test_the_links_lead_to_the_rooms():
    for room in ("backends", "catalog"):
        link = ROOT / "hangar_cloud" / room
        assert link.is_symlink(), f"{link} must be a link (on Windows: git config core.symlinks true)"
        assert os.readlink(link) == f"../{room}"


def test_the_wheel_has_one_top_level_name(wheel: Path):
    tops = {name.partition("/")[0] for name in contents(wheel)}
    assert tops == {"hangar_cloud", f"hangar_cloud-{hangar_cloud.__version__}.dist-info"}


def test_the_wheel_has_every_file_once(wheel: Path):
    found = Counter(name for name in contents(wheel) if name.endswith(".py"))
    assert found == Counter(expected_files())
    assert "hangar_cloud/py.typed" in contents(wheel)
    assert any(name.endswith("/licenses/LICENSE") for name in contents(wheel))


def test_a_source_distribution_gives_the_same_wheel(source_copy: Path, wheel: Path, tmp_path: Path):
    """It has no links in it, so this also shows that they are not needed to build."""
    build = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path / "sdist", cwd=source_copy)
    (archive,) = (tmp_path / "sdist").glob("*.tar.gz")
    again = tmp_path / "wheel"
    again.mkdir()
    assert contents(wheel_from(archive, again)) == contents(wheel)


def test_the_installed_package_runs_from_anywhere(installed: Path, tmp_path: Path):
    check = f"""
import importlib, sys
import hangar_cloud.backends, hangar_cloud.catalog
assert hangar_cloud.__file__.startswith({str(installed)!r}), hangar_cloud.__file__
for name in {modules()!r}:
    importlib.import_module(name)
assert not {{"backends", "catalog"}} & set(sys.modules), "a room was imported a second time, by its short name"
print(hangar_cloud.__version__)
"""
    assert run(sys.executable, "-c", check, cwd=tmp_path, path=installed).strip() == hangar_cloud.__version__


def test_no_room_is_imported_by_its_short_name_in_this_very_process():
    assert not {"backends", "catalog"} & set(sys.modules)


def test_the_command_says_its_version(installed: Path, tmp_path: Path):
    said = run(installed / "bin" / "hangar", "--version", cwd=tmp_path, path=installed)
    assert hangar_cloud.__version__ in said


def test_every_third_party_import_is_declared():
    """At the top of a module: a dependency. Inside a function: a dependency or an extra that users may leave out."""
    needed = requirement_names(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"]
    optional = needed.union(
        *(requirement_names(lines) for name, lines in extras.items() if name not in {"test", "lint"})
    )
    ours = {"hangar_cloud", "tomllib", *sys.stdlib_module_names}  # 3.10 has no tomllib
    missing = []
    for source in sources(PACKAGE_FOLDERS):
        eager = set(eager_imports(source))
        for line, dotted in imports(source.tree, source.package):
            name = dotted.partition(".")[0]
            declared = needed if (line, name) in eager else optional
            if name == "typing_extensions" and line in lines_for_types(source):
                continue  # every type checker brings it along
            if name not in ours and DISTRIBUTIONS.get(name, name).replace("_", "-").lower() not in declared:
                missing.append(f"{source.place}:{line} imports {name}")
    assert missing == []


def test_every_dependency_has_a_tested_lower_bound():
    unbounded = [line for line in PROJECT["project"]["dependencies"] if ">=" not in line]
    assert unbounded == []
