"""The story of a dataset in half a minute: from arrays to a bucket, and one image back."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hangar_cloud.backends.store import open_store
from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.demo_data import Digits, load_digits
from hangar_cloud.demo_picture import picture_lines
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.reports import human_size
from hangar_cloud.repository import Repository

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SHOWN: Final = 4711
_RELABELLED: Final = 7
_UNLABELLED: Final = 13
_WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_USER: Final = ("Ada", "ada@example.org")
_OTHER_USER: Final = ("Ben", "ben@example.org")


class Demo:
    """Tells the story on standard output.

    Args:
        data: folder of the MNIST files; None for the digits of scikit-learn.
        bucket: URL below which a new folder is used; None for a folder on this machine.
        keep: new folder for all that is made, and kept; None for a temporary one.
        storage_options: for the bucket.
    """

    def __init__(
        self,
        data: Path | None = None,
        bucket: str | None = None,
        keep: Path | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._data = data
        self._bucket = bucket
        self._keep = keep
        self._options = dict(storage_options or {})
        self._steps = 0

    def run(self) -> None:
        """Tell it.

        Raises:
            InvalidArgumentError: there are no images, or the folder to keep things in is not empty.
            OSError: the bucket cannot be used.
        """
        digits = load_digits(self._data)
        with self._folder() as folder, self._remote(folder) as url:
            _say("From arrays to a bucket, and one image back.")
            _say(f"Everything happens in {folder}" + (f" and {url}" if self._bucket else "") + ".")
            repository = self._ingest(folder / "digits", digits)
            self._change(repository, _WORDS[int(digits.labels[_RELABELLED])])
            self._push(repository, url)
            clone = self._clone(folder / "clone", url)
            self._read_one(clone, digits)
            self._step("What was committed, and by whom", "repo.log('tidy')")
            repository.log("tidy", show_user=True)
            self._end(folder, url)

    def _ingest(self, place: Path, digits: Digits) -> Repository:
        images = digits.images
        self._step(
            f"Ingest {len(images):,} images ({digits.source})",
            "with co: images.update(enumerate(arrays)); labels.update(enumerate(texts))",
        )
        repository = Repository(place, exists=False)
        _quietly(lambda: repository.init(*_USER))
        start = time.perf_counter()
        with closing(repository.checkout(write=True)) as co:
            co.add_ndarray_column("images", prototype=images[0])
            co.add_str_column("labels")
            with co:
                co["images"].update(enumerate(images))
                co["labels"].update(enumerate(digits.labels))
            seconds = time.perf_counter() - start
            rate = len(images) / seconds
            _note(f"{human_size(images.nbytes)} of arrays in {seconds:.1f} s, {rate:,.0f} images a second")
            self._step("Commit", "co.commit('digits, as they come')")
            digest = co.commit("digits, as they come")
        _note(f"commit {digest[:12]} on branch master")
        return repository

    def _change(self, repository: Repository, word: str) -> None:
        self._step(
            "Change something on a branch",
            "repo.create_branch('tidy')",
            "co = repo.checkout(write=True, branch='tidy')",
            f"co['labels', {_RELABELLED}] = '{word}'; del co['labels'][{_UNLABELLED}]; co.commit(…)",
        )
        repository.create_branch("tidy")
        before = _committed_bytes(repository)
        with closing(repository.checkout(write=True, branch="tidy")) as co:
            old = co["labels", _RELABELLED]
            co["labels", _RELABELLED] = word
            del co["labels"][_UNLABELLED]
            digest = co.commit(f"label {_RELABELLED} in words, label {_UNLABELLED} removed")
        added = _committed_bytes(repository) - before
        _note(f"commit {digest[:12]} on branch tidy; it adds {human_size(added)} to the repository")
        master, tidy = (repository.checkout(branch=name) for name in ("master", "tidy"))
        _note(f"label {_RELABELLED} is {old!r} on master and {tidy['labels', _RELABELLED]!r} on tidy")
        _note(f"master has {len(master['labels']):,} labels as before, tidy has {len(tidy['labels']):,}")
        master.close()
        tidy.close()

    def _push(self, repository: Repository, url: str) -> None:
        self._step("Push both branches to a bucket", f"repo.remote.add('origin', '{url}')", "repo.remote.push(…)")
        repository.remote.add("origin", url, storage_options=self._options)
        start = time.perf_counter()
        for branch in ("master", "tidy"):
            repository.remote.push("origin", branch)
        seconds = time.perf_counter() - start
        sizes = [info.size for info in open_store(url, self._options).list()]
        _note(f"the bucket holds {len(sizes)} objects, {human_size(sum(sizes))} ({seconds:.1f} s)")

    def _clone(self, place: Path, url: str) -> Repository:
        self._step("Somewhere else: clone it into an empty folder", f"repo.clone('Ben', …, '{url}')")
        clone = Repository(place, exists=False)
        start = time.perf_counter()
        _quietly(lambda: clone.clone(*_OTHER_USER, url, storage_options=self._options))
        _note(f"history only, no sample: the clone takes {clone.size_human} ({time.perf_counter() - start:.2f} s)")
        return clone

    def _read_one(self, clone: Repository, digits: Digits) -> None:
        key = _SHOWN % len(digits.images)
        self._step("Read a single image there", "co = repo.checkout()", f"co['images', {key}]")
        counted = clone._storage.wrap_remote("origin", CountingStore)
        assert isinstance(counted, CountingStore)
        co = clone.checkout()
        start = time.perf_counter()
        image = co["images", key]
        seconds = time.perf_counter() - start
        moved, total = counted.bytes_received, digits.images.nbytes
        _note(
            f"{sum(counted.requests.values())} requests brought {human_size(moved)}, "
            f"{moved / total:.2%} of {human_size(total)} of images ({seconds:.2f} s)"
        )
        counted.reset()
        label = co["labels", key]
        again = co["images", key]
        _note(f"its label: {label!r}; {human_size(counted.bytes_received)} more, and none for the image a second time")
        if not (again == digits.images[key]).all() or label != digits.labels[key]:
            raise InvalidArgumentError("what was read differs from what was written: please report this")
        co.close()
        _draw(image)

    def _end(self, folder: Path, url: str) -> None:
        _say("")
        if self._keep is None:
            _say("All of this is removed again now; `hangar demo --keep DIR` keeps it.")
        else:
            _say(f"Kept: {folder / 'digits'} and {folder / 'clone'}, which share {url}")
            _say(f"Try: hangar -C {folder / 'clone'} summary")

    def _step(self, title: str, *code: str) -> None:
        self._steps += 1
        _say("")
        _say(f"{self._steps}. {title}")
        for line in code:
            _say(f"     >>> {line}")

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        if self._keep is None:
            with tempfile.TemporaryDirectory(prefix="hangar-demo-") as folder:
                yield Path(folder)
            return
        kept = self._keep.expanduser().absolute()
        if kept.exists() and any(kept.iterdir()):
            raise InvalidArgumentError(f"{kept} is not empty; give --keep a new folder")
        kept.mkdir(parents=True, exist_ok=True)
        yield kept

    @contextlib.contextmanager
    def _remote(self, folder: Path) -> Iterator[str]:
        if self._bucket is None:
            yield (folder / "bucket").as_uri()
            return
        url = f"{self._bucket.rstrip('/')}/hangar-demo-{uuid.uuid4().hex[:8]}"
        store = open_store(url, self._options)
        # Wrong credentials are better told before half the story.
        store.ping()
        try:
            yield url
        finally:
            if self._keep is None:
                store.delete([info.path for info in store.list()])


def _say(text: str) -> None:
    print(text, flush=True)


def _note(text: str) -> None:
    _say(f"   {text}".rstrip())


def _draw(image: npt.NDArray[np.uint8]) -> None:
    blocks = sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower() and "NO_COLOR" not in os.environ
    for line in picture_lines(image, blocks=blocks):
        _note(line)


def _committed_bytes(repository: Repository) -> int:
    return sum(info.size for info in repository._storage.store.list())


def _quietly(action: Callable[[], object]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        action()
