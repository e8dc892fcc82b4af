"""Deleting from a bucket that others write to: condemned first, looked at again, and only then deleted.

`docs/gc.md` says why this loses nothing. Everything here may be interrupted after any step.
"""

from __future__ import annotations

import math
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from hangar_cloud.backends.errors import CorruptDataError, ObjectNotFoundError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog import condemned
from hangar_cloud.catalog.clock import passing_seconds
from hangar_cloud.catalog.marking import Marker
from hangar_cloud.catalog.sealed_json import unseal
from hangar_cloud.errors import GarbageCollectionError, HangarError
from hangar_cloud.garbage import Unreferenced, commits_in

MOST_AT_ONCE: Final = 20_000
"""Objects in one list, so that its deletion ends in time."""

Batch = Sequence[Unreferenced]


class Swept(NamedTuple):
    """What became of a list: deleted, spared because it is referred to by now, and left because time was up."""

    deleted: list[Unreferenced]
    rescued: list[Unreferenced]
    left: list[Batch]


class Sweep:
    """The deleting side of `catalog/watch.py`.

    Args:
        store: the bucket.
        now: time of its clock, in seconds since 1970.
        again: what to run again where another one was in the way, for messages.
    """

    def __init__(self, store: ObjectStore, now: float, again: str = "gc") -> None:
        self._store = store
        self._now = now
        self._again = again

    def prepare(self) -> None:
        """End what collections before this one left, and remove what is left of them.

        Raises:
            GarbageCollectionError: one of them may still be deleting; says when to try again.
        """
        state = condemned.look(self._store)
        for number in state.open:
            self._call_off(number, number in state.sweeps)
            self._end(number)
        state = condemned.look(self._store)
        leftovers = [condemned.list_path(n) for n in state.lists if n <= state.done]
        leftovers += [condemned.sweep_path(n) for n in state.sweeps if n <= state.done]
        leftovers += [path for path in (*state.keeps, *state.others) if self._age(path) > condemned.KEEP_SECONDS]
        self._store.delete(leftovers)

    def take(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The first so many batches as make one list."""
        total = 0
        for i, batch in enumerate(batches):
            total += len(batch)
            if i and total > MOST_AT_ONCE:
                return batches[:i]
        return batches

    def delete(self, batches: Sequence[Batch], mark_again: Callable[[list[str]], Marker]) -> Swept:
        """Delete objects, batch after batch, except those that are referred to by now.

        Args:
            batches: in this order; nothing may refer to what is in an earlier batch, or the same.
            mark_again: marks what came to be referred to, and given commits with it.

        Raises:
            GarbageCollectionError: another collection is at work, or took this one for dead.
        """
        number = self._condemn([item.name for batch in batches for item in batch])
        time.sleep(condemned.SETTLE_SECONDS)
        began = passing_seconds()
        self._begin(number)
        try:
            wanted, commits = self._wanted()
            marker = mark_again(commits)
        except HangarError:
            self._end(number)  # Nothing was deleted, so nobody has to wait for the end of it.
            raise
        swept = self._delete(batches, marker, wanted, began)
        self._end(number)
        if not swept.deleted and swept.left:
            raise GarbageCollectionError(
                f"{self._store.url} is too slow: marking what came to be in use took longer than the "
                f"{condemned.SWEEP_SECONDS:.0f} seconds in which a deletion has to be through. Nothing was deleted; "
                f"run {self._again} again from a machine nearer to the bucket"
            )
        return swept

    def _delete(self, batches: Sequence[Batch], marker: Marker, wanted: frozenset[str], began: float) -> Swept:
        swept = Swept([], [], [])
        for i, batch in enumerate(batches):
            spared = [item for item in batch if item.name in wanted or _is_marked(item, marker)]
            doomed = [item for item in batch if item not in spared] if spared else list(batch)
            if passing_seconds() - began > condemned.SWEEP_SECONDS:
                swept.left.extend(batches[i:])
                break
            self._store.delete([item.name for item in doomed])
            swept.deleted.extend(doomed)
            swept.rescued.extend(spared)
        return swept

    def _condemn(self, names: list[str]) -> int:
        number = condemned.look(self._store).newest + 1
        path = condemned.list_path(number)
        if not self._store.put_if_absent(path, condemned.encode_list(names)):
            raise GarbageCollectionError(self._busy("is about to begin"))
        if any(other < number for other in condemned.look(self._store).open):
            self._store.delete([path])
            raise GarbageCollectionError(self._busy("began first"))
        return number

    def _begin(self, number: int) -> None:
        path = condemned.sweep_path(number)
        if not self._store.put_if_absent(path, condemned.encode_note(called_off=False, host=socket.gethostname())):
            raise GarbageCollectionError(self._busy("took this one for dead and called it off"))
        if condemned.look(self._store).done >= number:
            self._store.delete([path])
            raise GarbageCollectionError(self._busy("took this one for dead and went on without it"))

    def _wanted(self) -> tuple[frozenset[str], list[str]]:
        """Names of all objects that writers asked to keep, and the commits that they need with all that these reach."""
        paths = condemned.look(self._store).keeps
        texts = zip(paths, self._store.get_many(paths), strict=True)
        keeps = [condemned.decode_keep(text, path) for path, text in texts if text is not None]
        names = frozenset[str]().union(*(keep.names for keep in keeps))
        return names, [*commits_in(names), *(keep.commit for keep in keeps if keep.commit is not None)]

    def _call_off(self, number: int, begun: bool) -> None:
        """Make sure that a list's deletion neither begins nor goes on."""
        path = condemned.sweep_path(number)
        if not begun and self._store.put_if_absent(path, condemned.encode_note(called_off=True)):
            return
        text = self._store.get_many([path])[0]
        if text is None or _was_called_off(text, path):
            return
        left = condemned.LEASE_SECONDS - self._age(path)
        if left > 0:
            raise GarbageCollectionError(
                self._busy(f"is deleting, or died at it; run {self._again} again in {math.ceil(left)} seconds")
            )

    def _end(self, number: int) -> None:
        """Announce that a list is over, before what says that it is not is removed."""
        self._store.put_if_absent(condemned.done_path(number), condemned.encode_note(ended=secrets.token_hex(8)))
        state = condemned.look(self._store)
        older = [condemned.done_path(n) for n in state.dones if n < state.done]
        self._store.delete([condemned.list_path(number), condemned.sweep_path(number), *older])

    def _age(self, path: str) -> float:
        """Seconds since an object was written, by the store's clock as it was at the beginning."""
        try:
            return self._now - self._store.stat(path).modified.timestamp()
        except ObjectNotFoundError:
            return math.inf

    def _busy(self, what: str) -> str:
        return (
            f"another garbage collection or purge of {self._store.url} {what}. Nothing that is in use was deleted; run "
            f"{self._again} again when it is through"
        )


def _is_marked(item: Unreferenced, marker: Marker) -> bool:
    marked: set[bytes] = getattr(marker, item.kind)
    return item.identity in marked


def _was_called_off(text: bytes, path: str) -> bool:
    try:
        return bool(unseal(text, path).get("called_off"))
    except CorruptDataError:
        return False
