"""The one direction in which the rooms may look, and the other rules of the source, kept by a test.

A rule that is only written down is broken at exactly the seam it was written for. Each rule is tried twice: on
the source as it is, and on a planted violation, which proves that the rule can fail.
"""

from __future__ import annotations

import pytest

from tests.project.source_rules import (
    LONG_FILES,
    LONGEST_FILE,
    OTHER_FOLDERS,
    PACKAGE_FOLDERS,
    ROOT,
    Source,
    outermost_only,
    short_name,
    sources,
    too_long,
    vague_name,
    wrong_way,
)

PACKAGE = sources(PACKAGE_FOLDERS)
EVERYTHING = PACKAGE + sources(OTHER_FOLDERS)
RUNNING = PACKAGE + sources(["infra"])


def complaints(rule, files):
    return [complaint for source in files for complaint in rule(source)]


def test_every_room_is_looked_at():
    rooms = {source.place.partition("/")[0] for source in PACKAGE}
    assert rooms == set(PACKAGE_FOLDERS)
    assert not any(s.place.startswith(("hangar_cloud/backends/", "hangar_cloud/catalog/")) for s in PACKAGE)


@pytest.mark.parametrize(
    ("rule", "files"),
    [
        pytest.param(wrong_way, PACKAGE, id="rooms look one way"),
        pytest.param(short_name, EVERYTHING, id="rooms are imported by their full name"),
        pytest.param(outermost_only, RUNNING, id="only the outermost layer prints or reads the environment"),
        pytest.param(too_long, PACKAGE, id="files are short"),
        pytest.param(vague_name, PACKAGE, id="modules are named after something"),
    ],
)
def test_the_source_keeps_the_rule(rule, files):
    assert complaints(rule, files) == []


@pytest.mark.parametrize(
    ("rule", "place", "text"),
    [
        (wrong_way, "backends/packs.py", "import hangar_cloud.catalog.commits\n"),
        (wrong_way, "backends/packs.py", "from hangar_cloud import catalog\n"),
        (wrong_way, "backends/packs.py", "from hangar_cloud.repository import Repository\n"),
        (wrong_way, "backends/packs.py", "import hangar_cloud\n"),
        (wrong_way, "backends/store/port.py", "from ...catalog import commits\n"),
        (wrong_way, "backends/store/__init__.py", "from ... import repository\n"),
        (wrong_way, "backends/packs.py", "def f():\n    from hangar_cloud.catalog import commits\n"),
        (wrong_way, "backends/packs.py", "from importlib import import_module\nimport_module('hangar_cloud.cli')\n"),
        (wrong_way, "catalog/commits.py", "from hangar_cloud.errors import HangarError\n"),
        (wrong_way, "catalog/commits.py", "from hangar_cloud import Repository\n"),
        (wrong_way, "catalog/commits.py", "if TYPE_CHECKING:\n    from hangar_cloud.columns import Column\n"),
        (short_name, "hangar_cloud/repository.py", "from backends import packs\n"),
        (short_name, "tests/test_x.py", "import catalog.commits\n"),
        (short_name, "infra/local.py", "import backends as b\n"),
        (outermost_only, "backends/packs.py", "import os\nos.environ['HOME']\n"),
        (outermost_only, "catalog/commits.py", "import os\nos.getenv('HOME')\n"),
        (outermost_only, "hangar_cloud/columns.py", "from os import environ\n"),
        (outermost_only, "hangar_cloud/repository.py", "import os\nos.environ\n"),
        (outermost_only, "hangar_cloud/columns.py", "print('x')\n"),
        (outermost_only, "hangar_cloud/columns.py", "import sys\nsys.stderr.write('x')\n"),
        (too_long, "backends/packs.py", "x = 1\n" * (LONGEST_FILE + 1)),
        (vague_name, "hangar_cloud/utils.py", ""),
        (vague_name, "backends/common/files.py", ""),
    ],
)
def test_a_planted_violation_is_found(rule, place, text):
    assert len(complaints(rule, [Source(place, text)])) == 1


@pytest.mark.parametrize(
    ("rule", "place", "text"),
    [
        (wrong_way, "backends/store/port.py", "from ..errors import BackendError\n"),
        (
            wrong_way,
            "catalog/commits.py",
            "from hangar_cloud.backends import packs\nfrom hangar_cloud import backends\n",
        ),
        (wrong_way, "hangar_cloud/repository.py", "from hangar_cloud.catalog import commits\n"),
        (short_name, "hangar_cloud/repository.py", "from hangar_cloud import backends\nfrom . import catalog\n"),
        (outermost_only, "hangar_cloud/cli/main.py", "import os\nos.environ\nprint('x')\n"),
        (outermost_only, "hangar_cloud/repository.py", "print('x')\n"),
        (outermost_only, "hangar_cloud/columns.py", "blueprint('x')\nself.environ\n"),
        (too_long, "backends/packs.py", "x = 1\n" * LONGEST_FILE),
    ],
)
def test_what_is_allowed_is_not_complained_about(rule, place, text):
    assert complaints(rule, [Source(place, text)]) == []


def test_the_list_of_long_files_only_shrinks():
    now = {place: (ROOT / place).read_text("utf-8").count("\n") for place in LONG_FILES}
    assert now == LONG_FILES, "write the new, smaller number"
    assert all(lines > LONGEST_FILE for lines in now.values()), "this line is not needed any more"
