"""How writers and a garbage collection of one bucket see each other: the objects below `gc/`.

A collection names what it is about to delete before it deletes it, waits, looks again, and only then begins. A
writer looks there right before it moves a pointer. `docs/gc.md` has the argument why nothing that is referred to
is ever lost; `docs/format.md` section "Garbage collection" is the normative text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.sealed_json import seal, unseal

FOLDER: Final = "gc"
# Constants of the format: writers and collections of all versions have to agree on them.
SETTLE_SECONDS: float = 10.0
"""From the announcement of a list to the beginning of its deletion."""
SWEEP_SECONDS: float = 120.0
"""After so long from its beginning, a collection deletes nothing more."""
LEASE_SECONDS: float = 300.0
"""After so long from its beginning, a deletion counts as over, though its end was never announced."""
KEEP_SECONDS: Final = 24 * 3600.0
"""How long a writer's wish to keep objects holds, by the store's clock."""

_LIST: Final = re.compile(r"(\d{10})\.condemned\.json", re.ASCII)
_SWEEP: Final = re.compile(r"(\d{10})\.sweep\.json", re.ASCII)
_DONE: Final = re.compile(r"(\d{10})\.done\.json", re.ASCII)
_PURGE: Final = re.compile(r"purge-[0-9a-f]{32}\.json", re.ASCII)
_KEEP: Final = re.compile(r"keep-[0-9a-f]{32}\.json", re.ASCII)


@dataclass
class GcState:
    """What lies below `gc/`.

    Attributes:
        lists: numbers of the lists of condemned objects.
        sweeps: numbers of those whose deletion has begun (or that were called off).
        dones: numbers of lists that are over, as far as that is still on record.
        keeps: names of the wishes to keep objects.
        purges: names of what says that samples were purged since; another one, that there are more.
        others: names of anything else.
    """

    lists: set[int] = field(default_factory=set)
    sweeps: set[int] = field(default_factory=set)
    dones: set[int] = field(default_factory=set)
    keeps: list[str] = field(default_factory=list)
    purges: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """All lists up to this number are over; -1 if there never was one."""
        return max(self.dones, default=-1)

    @property
    def open(self) -> list[int]:
        """Lists that are not over, in order."""
        return sorted(number for number in self.lists if number > self.done)

    @property
    def newest(self) -> int:
        """The highest number that was ever used, as far as it can be seen."""
        return max([self.done, *self.lists, *self.sweeps])


@dataclass(frozen=True)
class Keep:
    """A writer's wish: spare these objects, and all that this commit reaches."""

    names: frozenset[str]
    commit: str | None

    def encode(self) -> bytes:
        """The bytes of its object."""
        return seal({"commit": self.commit, "names": sorted(self.names)})


def look(store: ObjectStore) -> GcState:
    """What lies below `gc/` now: one listing."""
    state = GcState()
    for name in store.list_children(FOLDER):
        if match := _LIST.fullmatch(name):
            state.lists.add(int(match[1]))
        elif match := _SWEEP.fullmatch(name):
            state.sweeps.add(int(match[1]))
        elif match := _DONE.fullmatch(name):
            state.dones.add(int(match[1]))
        elif _PURGE.fullmatch(name):
            state.purges.append(f"{FOLDER}/{name}")
        elif _KEEP.fullmatch(name):
            state.keeps.append(f"{FOLDER}/{name}")
        else:
            state.others.append(f"{FOLDER}/{name}")
    return state


def list_path(number: int) -> str:
    """The object that names what is condemned."""
    return f"{FOLDER}/{number:010d}.condemned.json"


def sweep_path(number: int) -> str:
    """The object that announces the deletion of a list, or that it was called off."""
    return f"{FOLDER}/{number:010d}.sweep.json"


def done_path(number: int) -> str:
    """The object that says that a list is over. The newest stays, so that a writer notices what it slept through."""
    return f"{FOLDER}/{number:010d}.done.json"


def new_keep_path() -> str:
    """A name for a writer's wish to keep objects."""
    return f"{FOLDER}/keep-{secrets.token_hex(16)}.json"


def new_purge_path() -> str:
    """A name for what tells writers to look whether something that they are about to store was purged."""
    return f"{FOLDER}/purge-{secrets.token_hex(16)}.json"


def encode_list(names: Iterable[str]) -> bytes:
    """The bytes of a list of condemned objects."""
    return seal({"condemned": sorted(names), "nonce": secrets.token_hex(16)})


def encode_note(**about: Any) -> bytes:
    """The bytes of a sweep or done object."""
    return seal({**about, "nonce": secrets.token_hex(16)})


def decode_list(text: bytes, path: str) -> frozenset[str]:
    """The names in a list of condemned objects. Raises CorruptDataError."""
    return _names(unseal(text, path).get("condemned"), path)


def decode_keep(text: bytes, path: str) -> Keep:
    """A writer's wish. Raises CorruptDataError."""
    data = unseal(text, path)
    commit = data.get("commit")
    if commit is not None and not isinstance(commit, str):
        raise CorruptDataError(f"{path} is damaged: it names no commit")
    return Keep(_names(data.get("names"), path), commit)


def _names(value: Any, path: str) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise CorruptDataError(f"{path} is damaged: it holds no list of names")
    return frozenset(value)
