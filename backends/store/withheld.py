"""Values that stay in memory: pickles carry a stand-in for them.

A pickle may end on a disk, in a queue or in a log, so no credential may be in one. What `multiprocessing` sends to
its own workers never leaves memory, and is pickled by a pickler of its own (`ForkingPickler`): there the value goes
along. In the process that made a pickle, and in those forked from it, the value is found again by a random name.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final

from hangar_cloud.backends.errors import redact_url

_PLAIN_OPTIONS: Final = frozenset(
    {"anon", "endpoint_url", "region_name", "project", "requester_pays", "use_ssl", "client_kwargs"}
)
_ANONYMOUS: Final = ("token", "anon")


class Withheld:
    """A value that plain pickles do not carry.

    Args:
        value: what it is.
        shown: what a pickle has in its place, without anything secret.
    """

    def __init__(self, value: Any, shown: Any) -> None:
        self.value = value
        self.shown = shown
        self._name = secrets.token_hex(16)
        _ALIVE[self._name] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return _recall, (self._name, self.shown)

    def __repr__(self) -> str:
        return f"Withheld({self.shown!r})"


_ALIVE: Final[weakref.WeakValueDictionary[str, Withheld]] = weakref.WeakValueDictionary()


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those storage options that are no secret: where the store is, and whether it is asked anonymously."""
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if (name, value) == _ANONYMOUS:
            plain[name] = value
        elif name not in _PLAIN_OPTIONS:
            continue
        elif isinstance(value, Mapping):
            plain[name] = plain_options(value)
        elif isinstance(value, str):
            plain[name] = redact_url(value)
        elif isinstance(value, (bool, int, type(None))):
            plain[name] = value
    return plain


def _recall(name: str, shown: Any) -> Withheld:
    return _ALIVE.get(name) or Withheld(shown, shown)


def _send(withheld: Withheld) -> tuple[Any, ...]:
    return Withheld, (withheld.value, withheld.shown)


ForkingPickler.register(Withheld, _send)
