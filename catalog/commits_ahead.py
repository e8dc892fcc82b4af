"""Fetching commits of a bucket ahead of who walks back through its history.

Which commit comes before another is known once that was read, so a walk waits for a round trip at each: minutes for
ten thousand commits that are 30 ms away. The names in a listing do not say it either, but the times do, nearly: what
was written just before is likely to be next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from hangar_cloud.backends.begun_object import BegunObject
from hangar_cloud.backends.errors import CorruptDataError, HangarError, UnsupportedFormatError
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.catalog.commits import Commit, commit_path, decode_commit

_PATIENCE: Final = 16
_FIRST_PART: Final = 32
_MOST_AT_ONCE: Final = 512
_MOST_BYTES: Final = 4 * 1024 * 1024


class CommitsAhead:
    """Asked for each commit that has to be fetched; from the 16th on it fetches many more at once.

    Args:
        store: the bucket.
        folder: of whole objects on this machine.
        keep: keeps an object's bytes there, by its path; may fail silently.
    """

    def __init__(self, store: ObjectStore, folder: Path, keep: Callable[[str, bytes], None]) -> None:
        self._store = store
        self._folder = folder
        self._keep = keep
        self._asked = 0
        self._left: Iterator[tuple[str, int]] | None = None
        self._part = _FIRST_PART
        self._lock = ForkLock()
        self._begun = BegunObject(store)

    def fetch(self, digest: str) -> dict[str, Commit]:
        """Commits by digest, `digest` and likely ancestors of it; none while few were asked for.

        What is damaged or missing is left out, and who needs it is told when it is read by itself.
        """
        begun = self._begun.take(commit_path(digest))
        with self._lock.lock:
            self._asked += 1
            if begun is not None:
                return self._verified([digest], [begun])
            return {} if self._asked <= _PATIENCE else self._fetch(digest)

    def begin(self, digest: str) -> None:
        """Begin to fetch one commit, and wait for nothing: `fetch` does, if it is asked for that one next."""
        self._begun.begin(commit_path(digest))

    def _fetch(self, digest: str) -> dict[str, Commit]:
        try:
            if self._left is None:
                self._left = self._listed()
            wanted = [digest, *self._next(self._part)]
            self._part = min(2 * self._part, _MOST_AT_ONCE)
            texts = self._store.get_many([commit_path(name) for name in wanted])
        except HangarError:  # a store that cannot list, or not just now
            self._left = iter(())
            return {}
        return self._verified(wanted, texts)

    def _verified(self, wanted: Sequence[str], texts: Sequence[bytes | None]) -> dict[str, Commit]:
        found: dict[str, Commit] = {}
        for name, text in zip(wanted, texts, strict=True):
            try:
                if text is not None:
                    found[name] = decode_commit(text, name)
                    self._keep(commit_path(name), text)
            except (CorruptDataError, UnsupportedFormatError):
                continue
        return found

    def _next(self, count: int) -> Iterator[str]:
        """The next commits of the listing that are not here, as many as are not too much to hold."""
        assert self._left is not None
        size = 0
        for name, length in self._left:
            if not (self._folder / commit_path(name)).exists():
                yield name
                count, size = count - 1, size + length
                if not count or size > _MOST_BYTES:
                    return

    def _listed(self) -> Iterator[tuple[str, int]]:
        """Digests and sizes of all commits in the bucket, the newest first."""
        infos = sorted(self._store.list("commits/"), key=lambda info: info.modified, reverse=True)
        names = ((info.path.rpartition("/")[2].removesuffix(".json"), info.size) for info in infos)
        return ((name, size) for name, size in names if _is_digest(name))


def _is_digest(name: str) -> bool:
    try:
        commit_path(name)
    except CorruptDataError:
        return False
    return True
