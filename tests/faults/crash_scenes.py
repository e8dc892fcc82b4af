"""What there is before a process dies at something: one function for each place in which an operation is done."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from hangar_cloud import Repository
from hangar_cloud.catalog.pointers import PointerLog
from tests.faults.crash_places import Place
from tests.repository.making import add_commit, make_repository, noise

USER: Final = ("Test User", "test@example.org")
SIZE: Final = 600


def samples(first: int, count: int = 3) -> dict[int, Any]:
    """Samples that no codec shrinks, too large to be inline."""
    return {key: noise(key, SIZE) for key in range(first, first + count)}


def volumes(first: int) -> dict[int, Any]:
    """Samples that are cut into tiles: one in an array of its own, and two that share one."""
    made = {key: noise(key, 24_000).reshape(30, 40, 20) for key in range(first, first + 2)}
    return {**made, first + 2: noise(first, 64_000).reshape(40, 40, 40)}


def add_volumes(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    column = writer.add_ndarray_column(
        "volumes",
        shape=(40, 40, 40),
        dtype="u1",
        variable_shape=True,
        backend="t0",
        backend_options={"tile": (20, 20, 20)},
    )
    column.update(volumes(0))
    writer.commit("volumes")
    writer.close()


def nothing(place: Place) -> None:
    """An empty folder."""


def one_commit(place: Place) -> None:
    fill(make_repository(place.local._storage.location))


def fill(repository: Repository) -> None:
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("array", prototype=noise(0, SIZE)).update(samples(0))
    writer.add_str_column("text").update({key: f"text {key}" for key in range(3)})
    writer.commit("first")
    writer.close()


def staged(place: Place) -> None:
    one_commit(place)
    stage(place.local)


def stage(repository: Repository, first: int = 10) -> None:
    writer = repository.checkout(write=True, branch="master")
    writer["array"].update(samples(first))
    writer["array", 0] = noise(first + 100, SIZE)
    writer["text", f"s{first}"] = "staged"
    writer.close()


def with_volumes(place: Place) -> None:
    one_commit(place)
    add_volumes(place.local)


def volumes_to_push(place: Place) -> None:
    pushed(place)
    add_volumes(place.local)


def bucket_with_volumes(place: Place) -> None:
    bucket(place)
    add_volumes(place.direct)


def two_branches(place: Place) -> None:
    one_commit(place)
    branch_off(place.local)


def branch_off(repository: Repository) -> None:
    repository.create_branch("side")
    add_commit(repository, samples(20), branch="side")
    add_commit(repository, samples(30), branch="master")


def conflict(place: Place) -> None:
    two_branches(place)
    add_commit(place.local, {0: noise(81, SIZE)}, branch="side")
    add_commit(place.local, {0: noise(82, SIZE)}, branch="master")


def deleted_branch(place: Place) -> None:
    two_branches(place)
    place.local.remove_branch("side", force_delete=True)


def small_commits(place: Place) -> None:
    one_commit(place)
    commit_often(place.local)


def short_values(place: Place) -> None:
    """Values that history hashes themselves, in leaves of two commits."""
    one_commit(place)
    for first in (0, 5):
        add_commit(place.local, {n: noise(n, 9) for n in range(first, first + 5)}, column="short")


def bucket_small_commits(place: Place) -> None:
    bucket(place)
    commit_often(place.direct)


def commit_often(repository: Repository) -> None:
    for first in (20, 30):
        add_commit(repository, samples(first))


def garbage(place: Place) -> None:
    """A commit that no pointer refers to, of each kind of object, below what is kept of the log."""
    one_commit(place)
    lose_a_race(place.local)


def lose_a_race(repository: Repository) -> None:
    """Leave what a writer leaves that dies right before it moves the branch."""
    move = PointerLog.move

    def die(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    writer = repository.checkout(write=True, branch="master")
    writer["array"].update(samples(50))
    PointerLog.move = die  # type: ignore[method-assign]
    with contextlib.suppress(KeyboardInterrupt):
        writer.commit("lost")
    PointerLog.move = move  # type: ignore[method-assign]
    writer.reset_staging_area()
    writer.close()


def tagged(place: Place) -> None:
    one_commit(place)
    place.local.create_tag("v1", message="the first")


def stashed(place: Place) -> None:
    staged(place)
    writer = place.local.checkout(write=True)
    writer.stash("later")
    writer.close()


def with_remote(place: Place) -> None:
    two_branches(place)
    place.local.remote.add("origin", place.bucket)


def pushed(place: Place) -> None:
    with_remote(place)
    place.local.remote.push("origin", "master")


def ahead(place: Place) -> None:
    pushed(place)
    add_commit(place.local, samples(40), branch="master")


def diverged(place: Place) -> None:
    ahead(place)
    add_commit(place.direct_from("other"), samples(60))


def tag_to_push(place: Place) -> None:
    pushed(place)
    place.local.create_tag("v1", "side", "the side")


def cloned(place: Place) -> None:
    """A clone "local" without data of a bucket that has moved on."""
    bucket(place)
    place.direct.create_tag("v1")
    place.local.clone(*USER, place.bucket)
    add_commit(place.direct_from("other"), samples(60))


def bucket(place: Place) -> None:
    fill(make_repository(place.bucket, storage_options=place.options, cache_dir=f"{place.folder}/other"))


def bucket_staged(place: Place) -> None:
    bucket(place)
    stage(place.direct)


def bucket_raced(place: Place) -> None:
    bucket_staged(place)
    add_commit(place.direct_from("other"), samples(60))


def bucket_branches(place: Place) -> None:
    bucket(place)
    branch_off(place.direct)


def bucket_garbage(place: Place) -> None:
    bucket(place)
    lose_a_race(place.direct)
