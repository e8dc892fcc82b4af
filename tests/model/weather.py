"""A store that delays and drops answers, as a network does, on a plan."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hangar_cloud.backends.errors import StoreUnavailableError
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.port import ObjectInfo, Progress
from hangar_cloud.backends.store.ranges import RangeRequest

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable

FINE, SLOW, REFUSED, LOST = "fine", "slow", "refused", "lost"
_DELAY_SECONDS = 0.001
_Answer = TypeVar("_Answer")


class Weather:
    """What happens to the next requests of all stores under it: fine after the plan's end, and outside a storm."""

    def __init__(self) -> None:
        self._plan: deque[str] = deque()
        self._lock = threading.Lock()
        self.struck = False
        """Whether any request failed in the last storm."""

    @contextmanager
    def storm(self, plan: Sequence[str]) -> Iterator[None]:
        """For one block: what happens to each request, in order."""
        self.struck = False
        self._plan = deque(plan)
        try:
            yield
        finally:
            self._plan.clear()

    def request(self, what: str, call: Callable[[], _Answer]) -> _Answer:
        """Make one request. Raises StoreUnavailableError before it, or after it was carried out."""
        with self._lock:
            outcome = self._plan.popleft() if self._plan else FINE
            self.struck |= outcome in (REFUSED, LOST)
        if outcome == REFUSED:
            raise StoreUnavailableError(f"no connection ({what})")
        if outcome == SLOW:
            time.sleep(_DELAY_SECONDS)
        answer = call()
        if outcome == LOST:
            raise StoreUnavailableError(f"timed out, and it is unknown whether it took effect ({what})")
        return answer


class UnreliableStore(ObjectStore):
    """Passes everything on to another store, through the weather.

    Args:
        inner: the store that keeps the objects.
        weather: what happens to requests.
    """

    def __init__(self, inner: ObjectStore, weather: Weather) -> None:
        self.inner = inner
        self.weather = weather
        self.url = inner.url
        self.can_list = inner.can_list

    def _ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        return self.weather.request(f"{method} {self.url}", lambda: getattr(self.inner, method)(*arguments, **named))

    def get(self, path: str) -> bytes:
        return self._ask("get", path)

    def get_many(self, paths: Sequence[str]) -> builtins.list[bytes | None]:
        return self._ask("get_many", paths)

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        return self._ask("get_range", path, offset, length)

    def get_ranges(self, requests: Sequence[RangeRequest]) -> builtins.list[bytes]:
        return self._ask("get_ranges", requests)

    def put(self, path: str, data: bytes) -> None:
        self._ask("put", path, data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        return self._ask("put_if_absent", path, data)

    def upload(self, path: str, source: Path, *, progress: Progress | None = None) -> None:
        self._ask("upload", path, source, progress=progress)

    def download(self, path: str, target: Path, *, progress: Progress | None = None) -> None:
        # A download that fails leaves no file, so its answer cannot be lost after it.
        self.weather.request(f"download {self.url}", lambda: None)
        self.inner.download(path, target, progress=progress)

    def stat(self, path: str) -> ObjectInfo:
        return self._ask("stat", path)

    def exists(self, path: str) -> bool:
        return self._ask("exists", path)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._ask("list", prefix)

    def list_children(self, prefix: str) -> builtins.list[str]:
        return self._ask("list_children", prefix)

    def delete(self, paths: Iterable[str]) -> None:
        self._ask("delete", paths)

    def ping(self) -> float:
        return self._ask("ping")

    def ensure_writable(self) -> None:
        self._ask("ensure_writable")

    def local_path(self, path: str) -> Path | None:
        return self.inner.local_path(path)
