"""Methods of a writer that several threads may call: one at a time goes on, the others wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from hangar_cloud.backends.fork_lock import ForkTurn


class TakesTurns(Protocol):
    """Something of a writer checkout, all of which share one turn."""

    _turn: ForkTurn


_Self = TypeVar("_Self", bound=TakesTurns)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")


def in_turn(
    method: Callable[Concatenate[_Self, _Arguments], _Result],
) -> Callable[Concatenate[_Self, _Arguments], _Result]:
    """The same method, which waits until no other thread is in one of the same writer checkout."""

    @wraps(method)
    def waiting(self: _Self, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with self._turn.lock:
            return method(self, *args, **kwargs)

    return waiting


def steps_in_turn(turn: ForkTurn, items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; each is made in turn, and nobody waits between them."""
    while True:
        with turn.lock:
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
