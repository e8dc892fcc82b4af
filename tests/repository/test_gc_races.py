"""A garbage collection of a bucket beside its writers: at whatever moment each does what, nothing in use is lost."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import ObjectStore, open_store
from hangar_cloud.catalog import condemned
from hangar_cloud.errors import GarbageCollectionError, RefNotFoundError
from hangar_cloud.progress import set_progress
from tests.repository.making import add_commit, make_repository, noise, read_all
from tests.repository.stepping import Killed, SteppingStore, kill_at, step_through

ALL = {"grace": 0, "keep_reflog": 0}
LONG = 120


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The times of the protocol, shortened."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.15)
    monkeypatch.setattr(condemned, "SWEEP_SECONDS", 3.0)
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 6.0)
    set_progress(False)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A local repository with the branches master and side, and a bucket that had both and lost side."""
    folder = tmp_path_factory.mktemp("template")
    local = make_repository(folder / "local")
    url = f"memory://gc-{uuid4().hex}"
    local.remote.add("bucket", url)
    add_commit(local, {n: noise(n) for n in range(4)})
    local.create_branch("side")
    tip = add_commit(local, {n: noise(n + 50) for n in range(4, 8)}, branch="side")
    local.checkout(write=True, branch="master").close()
    local.remote.push("bucket", "master")
    local.remote.push("bucket", "side")
    local.remote.remove("bucket")
    Repository(url, cache_dir=folder / "cache").remove_branch("side", force_delete=True)
    return folder / "local", url, tip


@pytest.fixture
def make_scene(template, tmp_path):
    return lambda: Scene(tmp_path / uuid4().hex, *template)


@pytest.fixture
def scene(make_scene):
    return make_scene()


class Scene:
    """A bucket with a deleted branch, and ways to open it, each as if on a machine of its own."""

    def __init__(self, folder: Path, local: Path, bucket: str, tip: str) -> None:
        self.url = f"memory://gc-{uuid4().hex}"
        self.tip = tip
        self._folder = folder
        self._machines = 0
        shutil.copytree(local, folder / "local")
        source, target = open_store(bucket), open_store(self.url)
        for info in source.list():
            target.put(info.path, source.get(info.path))
        self.local = Repository(folder / "local")
        self.local.remote.add("bucket", self.url)

    def open(self) -> Repository:
        """The bucket, from a new machine."""
        self._machines += 1
        return Repository(self.url, cache_dir=self._folder / f"cache-{self._machines}")

    def check(self) -> None:
        """Everything that any name reaches is whole."""
        repository = self.open()
        assert not [finding for finding in repository.fsck() if finding.is_damage]
        for branch in repository.list_branches():
            read_all(self.open(), branch=branch)
        for tag in repository.list_tags():
            read_all(self.open(), commit=tag.digest)

    def leftovers(self) -> list[str]:
        """What lies below gc/."""
        return self.open()._storage.store.list_children("gc")


class _Steps:
    """Counts the steps of a writer's store, and lets something happen before each of them."""

    def __init__(self, before: Callable[[int], None]) -> None:
        self._before = before
        self.running = False
        self.steps: list[str] = []

    def __call__(self, _: int, operation: str, argument: Any) -> None:
        if self.running:
            self.steps.append(f"{operation} {argument}")
            self._before(len(self.steps))


def _unwatched(*_: Any) -> None:
    """Nothing happens before a step."""


Work = Callable[[], Callable[[], None]]
Before = Callable[[int, str, Any], None]


def commit_again(scene: Scene, before: Before = _unwatched) -> Work:
    """A writer that finds its samples in the pack that only the deleted branch refers to."""
    repository = scene.open()
    step_through(repository, before)
    writer = repository.checkout(write=True)
    repository._storage.index.add(_places(scene))
    writer["array", 100] = noise(55)
    writer["array", 101] = noise(101)

    def work() -> Callable[[], None]:
        digest = writer.commit("reuses")
        writer.close()

        def look() -> None:
            found = read_all(scene.open(), commit=digest)["array"]
            assert found[100].tobytes() == noise(55).tobytes()
            assert found[101].tobytes() == noise(101).tobytes()

        return look

    return work


def push_again(scene: Scene, before: Before = _unwatched) -> Work:
    """A push of what the deleted branch was, and more."""
    scene.local._storage.wrap_remote("bucket", lambda store: cast("ObjectStore", SteppingStore(store, before)))
    add_commit(scene.local, {9: noise(9)}, branch="side")

    def work() -> Callable[[], None]:
        scene.local.remote.push("bucket", "side")
        return lambda: _has(scene, "side", [0, 1, 2, 3, 4, 5, 6, 7, 9])

    return work


def push_a_tag(scene: Scene, before: Before = _unwatched) -> Work:
    """A push of a tag on what the deleted branch was."""
    scene.local._storage.wrap_remote("bucket", lambda store: cast("ObjectStore", SteppingStore(store, before)))
    scene.local.create_tag("kept", scene.tip)

    def work() -> Callable[[], None]:
        scene.local.remote.push_tag("bucket", "kept")
        return lambda: _has(scene, "", range(8), commit="kept")

    return work


def restore(scene: Scene, before: Before = _unwatched) -> Work:
    """A branch that is brought back, unless it is too late."""
    repository = scene.open()
    step_through(repository, before)

    def work() -> Callable[[], None]:
        try:
            repository.restore_branch("side")
        except RefNotFoundError:
            return lambda: None
        return lambda: _has(scene, "side", range(8))

    return work


WORK = [commit_again, push_again, push_a_tag, restore]


def _has(scene: Scene, branch: str, keys: Any, **where: Any) -> None:
    assert sorted(read_all(scene.open(), branch=branch, **where)["array"]) == list(keys)


def _places(scene: Scene) -> list[tuple[bytes, Any]]:
    storage = scene.local._storage
    entry = storage.commit(scene.tip).columns["array"]
    leaves = [storage.nodes.leaf(ref, entry.schema) for ref in storage.nodes.leaves(entry.root)]
    return [(row.identity[1:], row.place) for leaf in leaves for _, row in leaf.entries()]


def _moments(steps: list[tuple[str, Any]]) -> list[int]:
    """The steps before which something may matter: all from the first listing of condemned objects on, some before."""
    announced = next(i for i, (_, what) in enumerate(steps, 1) if str(what).endswith("condemned.json"))
    return [1, 7, announced // 2, *range(announced - 2, len(steps) + 1)]


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_a_writer_at_every_moment_of_a_collection(make_scene, work):
    repository = make_scene().open()
    steps = step_through(repository, lambda *_: None)
    repository.gc(**ALL)
    # Every second one, the even ones or the odd ones, by the work: together they meet all.
    for number in _moments(steps.steps)[WORK.index(work) % 2 :: 2]:
        scene = make_scene()
        job = work(scene)
        looks: list[Any] = []
        writer = threading.Thread(target=lambda job=job, looks=looks: looks.append(job()))

        def start(step: int, operation: str, argument: Any, number: int = number, writer: Any = writer) -> None:
            if step == number:
                writer.start()
                writer.join(0.4)  # it waits for this collection if that is deleting already

        repository = scene.open()
        step_through(repository, start)
        repository.gc(**ALL)
        if writer.ident is None:
            writer.start()
        writer.join(LONG)
        assert looks, f"the writer failed at step {number}"
        looks[0]()
        scene.check()


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_a_collection_at_every_moment_of_a_writer(make_scene, work):
    steps: list[str] = []
    number = WORK.index(work) % 2 - 1
    while number <= len(steps):
        number += 2
        scene = make_scene()
        collected: list[Any] = []

        def collect(step: int, scene: Scene = scene, collected: list[Any] = collected, number: int = number) -> None:
            if step == number:
                collected.append(scene.open().gc(**ALL))

        counter = _Steps(collect)
        job = work(scene, counter)
        counter.running = True
        look = job()
        counter.running = False
        steps = counter.steps
        look()
        scene.check()
    assert number > 5


@pytest.mark.parametrize("number", range(1, 43))
def test_a_collection_that_is_killed_at_any_step_can_be_run_again(scene, number, monkeypatch):
    repository = scene.open()
    step_through(repository, kill_at(number))
    try:
        repository.gc(**ALL)
        killed = False
    except Killed:
        killed = True
    scene.check()
    if killed:
        begun = [name for name in scene.leftovers() if name.endswith("sweep.json")]
        if begun and not any(name.endswith("done.json") for name in scene.leftovers()):
            with pytest.raises(GarbageCollectionError, match="is deleting, or died at it; run gc again in"):
                scene.open().gc(**ALL)
            monkeypatch.setattr(condemned, "LEASE_SECONDS", 0.0)
        scene.open().gc(**ALL)
    scene.check()
    assert len(scene.open()._storage.store.list_children("commits")) == 1
    assert len(scene.open()._storage.store.list_children("packs")) == 1
    assert [name for name in scene.leftovers() if not name.startswith("clock-")] in (
        [f"{n:010d}.done.json"] for n in range(3)
    )


def test_a_writer_that_is_killed_at_any_step_goes_on_after_a_collection(make_scene):
    number = 0
    alive = False
    while not alive:
        number += 1
        scene = make_scene()
        repository = scene.open()
        store = step_through(repository, kill_at(10**9))
        writer = repository.checkout(write=True)
        repository._storage.index.add(_places(scene))
        writer["array", 100] = noise(55)
        writer["array", 101] = noise(101)
        store._before = kill_at(len(store.steps) + number)
        try:
            writer.commit("first try")
            alive = True
        except Killed:
            pass
        store._before = _unwatched
        writer._shut()
        scene.open().gc(**ALL)
        scene.check()
        repository.gc(**ALL)
        again = repository.checkout(write=True)
        if again.diff.status() == "DIRTY":
            again.commit("second try")
        again.close()
        _has(scene, "master", [0, 1, 2, 3, 100, 101])
        assert read_all(scene.open())["array"][100].tobytes() == noise(55).tobytes()
        scene.check()
    assert number > 8


def test_a_push_onto_what_a_killed_collection_left(make_scene, monkeypatch):
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(condemned, "SWEEP_SECONDS", 0.2)
    counted = make_scene().open()
    steps = step_through(counted, _unwatched).steps
    counted.gc(**ALL)
    for number in _moments(steps):
        scene = make_scene()
        repository = scene.open()
        step_through(repository, kill_at(number))
        with contextlib.suppress(Killed):
            repository.gc(**ALL)
        push_again(scene)()()
        scene.check()
        with contextlib.suppress(GarbageCollectionError):
            scene.open().gc(**ALL)
        scene.check()


def test_a_commit_that_came_and_was_given_up_during_a_collection_is_whole(scene, monkeypatch):
    """Its records were condemned before it was there, and its branch is gone when they are about to be deleted."""
    repository, collector = scene.open(), scene.open()
    repository.create_branch("tried")
    writer = repository.checkout(write=True, branch="tried")
    writer["array", 200] = noise(200)
    publisher = writer._committer.publisher
    put, condemn = publisher.put, threading.Event()

    def put_late(path: str, data: bytes) -> None:
        if path.startswith("commits/"):
            condemn.set()
            while not any(name.endswith("condemned.json") for name in scene.leftovers()):
                time.sleep(0.01)
        put(path, data)

    publisher.put = put_late
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 4.0)
    collection = threading.Thread(target=lambda: condemn.wait(LONG) and collector.gc(**ALL))
    collection.start()
    digest = writer.commit("given up")
    writer.close()
    repository.remove_branch("tried", force_delete=True)
    assert collection.is_alive(), "all of this was to happen during the collection"
    collection.join(LONG)
    scene.open().restore_branch("tried")
    assert read_all(scene.open(), commit=digest)["array"][200].tobytes() == noise(200).tobytes()
    scene.check()
