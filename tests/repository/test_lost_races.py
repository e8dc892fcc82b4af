"""What losing a race for a branch costs: nothing that is in the bucket already is sent, or asked for, again."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.errors import HeadMovedError, StoreUnavailableError
from tests.repository.making import add_commit, make_repository, noise, read_all
from tests.repository.stepping import step_through

COUNT = 9_000


class NotingStore(CountingStore):
    """Keeps the names and sizes of the small objects that are sent."""

    def __init__(self, inner):
        super().__init__(inner)
        self.sent = []

    def put_if_absent(self, path, data):
        self.sent.append((path, len(data)))
        return super().put_if_absent(path, data)

    def bytes_in(self, folder):
        return sum(size for path, size in self.sent if path.startswith(folder))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A bucket with 9,000 labels, which are some five leaves, and an image."""
    where = f"memory://lost-races-{uuid4().hex}"
    repository = make_repository(where, cache_dir=tmp_path_factory.mktemp("owner"))
    add_commit(repository, {number: np.array(number) for number in range(COUNT)}, column="label")
    add_commit(repository, {0: noise(0)}, column="image")
    return where


@pytest.fixture
def machine(url, tmp_path):
    """Opens the bucket from a new machine."""
    return lambda: Repository(url, cache_dir=tmp_path / uuid4().hex)


@pytest.fixture
def late(machine):
    """A writer that others are first for, its store, and what makes them be."""
    repository = machine()
    repository._storage.store = store = NotingStore(repository._storage.store)
    repository._storage.forget()
    writer = repository.checkout(write=True)
    yield writer, store
    if writer._alive.open:
        writer.close()


def before_each_move(writer, *actions):
    """Let something happen right before the pointer is moved, each time something else."""
    pointers = writer._committer._pointers
    real, left = pointers.move, list(actions)

    def move(*arguments, **named):
        if left:
            left.pop(0)()
        return real(*arguments, **named)

    pointers.move = move


def test_leaves_that_the_winner_left_alone_are_not_sent_again(late, machine):
    writer, store = late
    writer["label"][5] = np.array(-5)
    sent = []

    def win():
        sent.append(store.bytes_in("records/"))
        store.sent.clear()
        add_commit(machine(), {COUNT - 5: np.array(-6)}, column="label")

    before_each_move(writer, win)
    writer.commit("late")
    again = store.bytes_in("records/")
    assert sent[0] > 4_000
    assert again < sent[0] / 2
    labels = read_all(machine())["label"]
    assert (labels[5], labels[COUNT - 5]) == (-5, -6)


def test_no_object_of_any_kind_is_sent_twice(late, machine):
    writer, store = late
    writer["label"][6] = np.array(-7)
    writer["image"].update({number: noise(number) for number in range(10, 20)})
    wins = [lambda n=n: add_commit(machine(), {COUNT - n: np.array(-n)}, column="label") for n in range(10, 13)]
    before_each_move(writer, *wins)
    writer.commit("late")
    names = [path for path, _ in store.sent if not path.startswith("refs/")]
    assert len(names) == len(set(names))
    assert store.requests["upload"] == 1


def test_a_race_that_is_lost_during_the_upload_costs_no_records(late, machine):
    writer, store = late
    writer["image"].update({number: noise(number) for number in range(20, 30)})
    publisher = writer._committer.publisher
    real = publisher.pack

    def pack(*arguments):
        publisher.pack = real
        add_commit(machine(), {COUNT - 20: np.array(-20)}, column="label")
        real(*arguments)

    publisher.pack = pack
    digest = writer.commit("late")
    assert [path for path, _ in store.sent if path.startswith("commits/")] == [f"commits/{digest}.json"]
    assert store.requests["upload"] == 1


def test_attempts_that_others_were_first_for_during_the_upload_are_limited(late, machine):
    writer, _ = late
    writer["image"][40] = noise(40)
    real = writer._committer.publisher.pack

    def pack(*arguments):
        add_commit(machine(), {COUNT - 30: np.array(np.random.default_rng().integers(1 << 40))}, column="label")
        real(*arguments)

    writer._committer.publisher.pack = pack
    with pytest.raises(HeadMovedError, match="while this one uploaded"):
        writer.commit("late", attempts=2)
    assert np.array_equal(writer["image", 40], noise(40))


def test_another_attempt_takes_few_requests(machine):
    repository = machine()
    steps = step_through(repository, lambda *_: None).steps
    writer = repository.checkout(write=True)
    writer["image"][30] = noise(30)

    def win():
        add_commit(machine(), {COUNT - 40: np.array(-40)}, column="label")
        steps.clear()

    before_each_move(writer, win)
    writer.commit("late")
    # The pointer that lost, the head, the commit, is it still the head, inner nodes, the commit, gc/, the pointer; and
    # then the hint, read and written.
    assert len(steps) <= 12, steps
    writer.close()


def test_a_commit_that_landed_unheard_is_made_whole_again_by_the_same_process(late, machine):
    """A collection took it for garbage, since it landed only after the collection had looked."""
    writer, store = late
    writer["image"].update({number: noise(number) for number in range(50, 60)})
    pointers = writer._committer._pointers
    real = pointers.move

    def move(*arguments, **named):
        real(*arguments, **named)
        raise StoreUnavailableError("no answer")

    pointers.move = move
    with pytest.raises(StoreUnavailableError):
        writer.commit("unheard")
    pointers.move = real
    packs = {info.path for info in store.inner.list("packs/")}
    store.inner.delete([path for path, _ in store.sent if path.startswith(("records/", "commits/"))])
    store.inner.delete(_packs_of(writer) & packs)
    digest = writer.commit("unheard")
    found = read_all(machine(), commit=digest)["image"]
    assert all(np.array_equal(found[number], noise(number)) for number in range(50, 60))
    assert machine().verify_repo_integrity()


def _packs_of(writer):
    return {f"packs/{pack.hex()[:2]}/{pack.hex()}.pack" for pack in writer._staging.sealed().values()}
