"""What the children of a crash server can be asked to do."""

from __future__ import annotations

from typing import Any

from hangar_cloud.progress import set_progress
from tests.faults.crash_places import Place, collect, hurry, layout, look_at, look_at_staged, verify
from tests.faults.crash_works import OPERATIONS, Operation

_BY_NAME = {operation.name: operation for operation in OPERATIONS}


def prepare(operation: str, **where: Any) -> None:
    """Make the place in which an operation is done."""
    _begin(operation).prepare(Place(**where))


def run(operation: str, **where: Any) -> None:
    """Do it."""
    _begin(operation).run(Place(**where))


def look(operation: str, **where: Any) -> dict[str, Any]:
    """Open and check every repository of a place; what they are."""
    return _look(_begin(operation), Place(**where))


def settle(operation: str, **where: Any) -> dict[str, Any]:
    """Do it (again), collect all garbage, and check everything: what the repositories are then, and what files."""
    what, place = _begin(operation), Place(**where)
    what.run(place)
    for repository in _repositories(what, place).values():
        collect(repository)
    return {"state": _look(what, place), "layout": layout(place)}


def _begin(operation: str) -> Operation:
    hurry()
    set_progress(False)
    return _BY_NAME[operation]


def _look(operation: Operation, place: Place) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, repository in _repositories(operation, place).items():
        verify(repository)
        seen = look_at(repository)
        if name != "bucket" or operation.kind == "bucket":
            seen |= look_at_staged(repository, operation.branch if name == "bucket" else "")
        state |= {f"{name}: {what}": value for what, value in seen.items()}
    return state


def _repositories(operation: Operation, place: Place) -> dict[str, Any]:
    found = {name: place.at(name) for name in operation.others}
    if operation.kind != "bucket":
        found["local"] = place.local
    if operation.kind != "local":
        found["bucket"] = place.direct
    return found
