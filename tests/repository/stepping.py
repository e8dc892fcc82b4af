"""A store that stops before each of its operations, so that a test can do something at that very moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hangar_cloud import Repository
from hangar_cloud.backends.store import ObjectStore

_OPERATIONS = (
    "get",
    "get_many",
    "get_range",
    "get_ranges",
    "put",
    "put_if_absent",
    "upload",
    "download",
    "stat",
    "exists",
    "list",
    "list_children",
    "delete",
)


class Killed(BaseException):
    """The process is gone; nothing is cleaned up."""


class SteppingStore:
    """Passes everything on to a store, and calls `before(number, operation, argument)` first."""

    def __init__(self, inner: ObjectStore, before: Callable[[int, str, Any], None]) -> None:
        self._inner = inner
        self._before = before
        self.steps: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in _OPERATIONS:
            return method

        def step(*arguments: Any, **options: Any) -> Any:
            first = list(arguments[0]) if name == "delete" else (arguments or ("",))[0]
            self.steps.append((name, first))
            self._before(len(self.steps), name, first)
            return method(*([first] if name == "delete" else arguments), **options)

        return step


def step_through(repository: Repository, before: Callable[[int, str, Any], None]) -> SteppingStore:
    """Put a stepping store before the store of a repository object."""
    storage = repository._storage
    storage.store = store = SteppingStore(storage.store, before)  # type: ignore[assignment]
    storage.forget()
    return store


def kill_at(number: int) -> Callable[[int, str, Any], None]:
    """Die before the step of a number."""

    def before(step: int, operation: str, argument: Any) -> None:
        if step == number:
            raise Killed(f"{operation} {argument}")

    return before
