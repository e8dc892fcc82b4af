"""What is done while a process dies: each operation as a job that may be started again would do it.

A job looks whether it was done before only where the operation cannot: a branch that is there cannot be made again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hangar_cloud import Repository
from hangar_cloud.catalog.pointers import PointerLog
from tests.faults.crash_places import COLLECT_EVERYTHING, Place, patiently, without_warnings
from tests.repository.making import add_commit, make_repository, noise

USER: Final = ("Test User", "test@example.org")
SIZE: Final = 600


def samples(first: int, count: int = 3) -> dict[int, Any]:
    """Samples that no codec shrinks, too large to be inline."""
    return {key: noise(key, SIZE) for key in range(first, first + count)}


@dataclass(frozen=True)
class Operation:
    """Something that a process may die at.

    Attributes:
        name: of it.
        prepare: makes the place in which it is done.
        run: does it; started again, finishes it, or finds it done.
        kind: "local" for what happens on one machine, else "remote" (a local repository and a bucket) or "bucket".
        atomic: whether there is nothing between done and not done.
        between: names of what may be anything while it is not done, such as what a job has staged so far.
        branch: that its writer is on.
        others: names of further local repositories that it makes.
    """

    name: str
    prepare: Callable[[Place], None]
    run: Callable[[Place], None]
    kind: str = "local"
    atomic: bool = True
    between: Sequence[str] = ()
    branch: str = "master"
    others: Sequence[str] = ()

    def __str__(self) -> str:
        return self.name


# ---- places


def _nothing(place: Place) -> None:
    """An empty folder."""


def _one_commit(place: Place) -> None:
    _fill(make_repository(place.local._storage.location))


def _fill(repository: Repository) -> None:
    writer = repository.checkout(write=True)
    writer.add_ndarray_column("array", prototype=noise(0, SIZE)).update(samples(0))
    writer.add_str_column("text").update({key: f"text {key}" for key in range(3)})
    writer.commit("first")
    writer.close()


def _staged(place: Place) -> None:
    _one_commit(place)
    _stage(place.local)


def _stage(repository: Repository, first: int = 10) -> None:
    writer = repository.checkout(write=True, branch="master")
    writer["array"].update(samples(first))
    writer["array", 0] = noise(first + 100, SIZE)
    writer["text", f"s{first}"] = "staged"
    writer.close()


def _two_branches(place: Place) -> None:
    _one_commit(place)
    _branch_off(place.local)


def _branch_off(repository: Repository) -> None:
    repository.create_branch("side")
    add_commit(repository, samples(20), branch="side")
    add_commit(repository, samples(30), branch="master")


def _deleted_branch(place: Place) -> None:
    _two_branches(place)
    place.local.remove_branch("side", force_delete=True)


def _small_commits(place: Place) -> None:
    _one_commit(place)
    _commit_often(place.local)


def _bucket_small_commits(place: Place) -> None:
    _bucket(place)
    _commit_often(place.direct)


def _commit_often(repository: Repository) -> None:
    for first in (20, 30):
        add_commit(repository, samples(first))


def _garbage(place: Place) -> None:
    """A commit that no pointer refers to, of each kind of object, below what is kept of the log."""
    _one_commit(place)
    _lose_a_race(place.local)


def _lose_a_race(repository: Repository) -> None:
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


def _tagged(place: Place) -> None:
    _one_commit(place)
    place.local.create_tag("v1", message="the first")


def _stashed(place: Place) -> None:
    _staged(place)
    writer = place.local.checkout(write=True)
    writer.stash("later")
    writer.close()


def _with_remote(place: Place) -> None:
    _two_branches(place)
    place.local.remote.add("origin", place.bucket)


def _pushed(place: Place) -> None:
    _with_remote(place)
    place.local.remote.push("origin", "master")


def _ahead(place: Place) -> None:
    _pushed(place)
    add_commit(place.local, samples(40), branch="master")


def _diverged(place: Place) -> None:
    _ahead(place)
    add_commit(place.direct_from("other"), samples(60))


def _tag_to_push(place: Place) -> None:
    _pushed(place)
    place.local.create_tag("v1", "side", "the side")


def _cloned(place: Place) -> None:
    """A clone "local" without data of a bucket that has moved on."""
    _bucket(place)
    place.direct.create_tag("v1")
    place.local.clone(*USER, place.bucket)
    add_commit(place.direct_from("other"), samples(60))


def _bucket(place: Place) -> None:
    _fill(make_repository(place.bucket, storage_options=place.options, cache_dir=f"{place.folder}/other"))


def _bucket_staged(place: Place) -> None:
    _bucket(place)
    _stage(place.direct)


def _bucket_raced(place: Place) -> None:
    _bucket_staged(place)
    add_commit(place.direct_from("other"), samples(60))


def _bucket_branches(place: Place) -> None:
    _bucket(place)
    _branch_off(place.direct)


def _bucket_garbage(place: Place) -> None:
    _bucket(place)
    _lose_a_race(place.direct)


# ---- works


def _init(place: Place) -> None:
    if not place.local.initialized:
        place.local.init(*USER)


def _init_bucket(place: Place) -> None:
    if not place.direct.initialized:
        place.direct.init(*USER)


def _commit(repository: Repository, message: str = "second") -> None:
    writer = repository.checkout(write=True, branch="master")
    if writer.diff.status() == "DIRTY":
        writer.commit(message)
    writer.close()


def _ingest(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    with writer["array"] as column:
        column.update(samples(70))
    writer["text", "batch"] = "seven"
    writer.commit("batch 7", idempotency_key="batch-7")
    if writer.diff.status() == "DIRTY":
        writer.reset_staging_area()
    writer.close()


def _merge(repository: Repository) -> None:
    repository.merge("merged", "master", "side")


def _resolve(place: Place) -> None:
    """A merge whose resolved conflict writes a sample."""
    place.local.merge("merged", "master", "side", strategy=lambda *_: noise(99, SIZE))


def _conflict(place: Place) -> None:
    _two_branches(place)
    add_commit(place.local, {0: noise(81, SIZE)}, branch="side")
    add_commit(place.local, {0: noise(82, SIZE)}, branch="master")


def _push(place: Place, branch: str = "master", **options: Any) -> None:
    with without_warnings():
        place.local.remote.push("origin", branch, **options)


def _fetch(place: Place) -> None:
    with without_warnings():
        place.local.remote.fetch("origin", "master")


def _fetch_data(place: Place) -> None:
    place.local.remote.fetch_data("origin", "master")


def _clone(place: Place) -> None:
    copy = place.at("clone")
    if not copy.initialized:
        copy.clone(*USER, place.bucket)


def _gc(repository: Repository) -> None:
    patiently(lambda: repository.gc(**COLLECT_EVERYTHING))


def _create_branch(repository: Repository) -> None:
    if "new" not in repository.list_branches():
        repository.create_branch("new")


def _delete_branch(repository: Repository) -> None:
    if "side" in repository.list_branches():
        repository.remove_branch("side", force_delete=True)


def _restore_branch(place: Place) -> None:
    if "side" not in place.local.list_branches():
        place.local.restore_branch("side")


def _reset_branch(place: Place) -> None:
    if place.local.reflog("side")[0].action != "reset":
        place.local.reset_branch("side", "master")


def _create_tag(repository: Repository) -> None:
    if not repository.list_tags():
        repository.create_tag("v1", message="the first")


def _delete_tag(place: Place) -> None:
    if place.local.list_tags():
        place.local.delete_tag("v1")


def _stash(place: Place) -> None:
    writer = place.local.checkout(write=True)
    if not writer.stash.list():
        writer.stash("later")
    writer.close()


def _pop(place: Place) -> None:
    writer = place.local.checkout(write=True)
    if writer.stash.list():
        writer.stash.pop("later")
    writer.close()


def _alter(place: Place) -> None:
    writer = place.local.checkout(write=True)
    writer.columns.alter("array", variable_shape=True)
    writer.close()


def _rename(place: Place) -> None:
    writer = place.local.checkout(write=True)
    if "array" in writer:
        writer.columns.rename("array", "pictures")
    writer.close()


def _add_remote(place: Place) -> None:
    if not place.local.remote.list_all():
        place.local.remote.add("origin", place.bucket)


def _reset(place: Place) -> None:
    writer = place.local.checkout(write=True)
    if writer.diff.status() == "DIRTY":
        writer.reset_staging_area()
    writer.close()


def _repack(repository: Repository) -> None:
    patiently(repository.repack)


def _purge(repository: Repository) -> None:
    patiently(lambda: repository.purge(column="array", key=0, reason="asked for"))


def _here(work: Callable[[Repository], None]) -> Callable[[Place], None]:
    return lambda place: work(place.local)


def _there(work: Callable[[Repository], None]) -> Callable[[Place], None]:
    return lambda place: work(place.direct)


OPERATIONS: Final = [
    Operation("init", _nothing, _init, atomic=False),
    Operation("commit", _staged, _here(_commit)),
    Operation("ingest with a key", _one_commit, _here(_ingest), atomic=False, between=["local: staged"]),
    Operation("merge", _two_branches, _here(_merge)),
    Operation("merge with a resolved conflict", _conflict, _resolve),
    Operation("gc", _garbage, _here(_gc)),
    Operation("repack", _small_commits, _here(_repack)),
    Operation("purge", _small_commits, _here(_purge), atomic=False),
    Operation("create branch", _one_commit, _here(_create_branch)),
    Operation("delete branch", _two_branches, _here(_delete_branch)),
    Operation("restore branch", _deleted_branch, _restore_branch),
    Operation("reset branch", _two_branches, _reset_branch),
    Operation("create tag", _one_commit, _here(_create_tag)),
    Operation("delete tag", _tagged, _delete_tag),
    Operation("stash", _staged, _stash),
    Operation("pop", _stashed, _pop),
    Operation("reset staging area", _staged, _reset),
    Operation("alter", _one_commit, _alter),
    Operation("rename", _one_commit, _rename),
    Operation("add remote", _one_commit, _add_remote),
    Operation("first push", _with_remote, _push, "remote", atomic=False),
    Operation("push", _ahead, _push, "remote", atomic=False),
    Operation("push by force", _diverged, lambda place: _push(place, force=True), "remote", atomic=False),
    Operation(
        "push and merge",
        _diverged,
        lambda place: _push(place, on_conflict="merge"),
        "remote",
        atomic=False,
        between=["local: branch origin/master", "local: samples of origin/master"],
    ),
    Operation("push tag", _tag_to_push, lambda place: place.local.remote.push_tag("origin", "v1"), "remote"),
    Operation("fetch", _cloned, _fetch, "remote", atomic=False),
    Operation("fetch data", _cloned, _fetch_data, "remote"),
    Operation("clone", _pushed, _clone, "remote", atomic=False, others=("clone",)),
    Operation("init of a bucket", _nothing, _init_bucket, "bucket", atomic=False),
    Operation("commit to a bucket", _bucket_staged, _there(_commit), "bucket"),
    Operation("commit to a bucket after a lost race", _bucket_raced, _there(_commit), "bucket"),
    Operation(
        "ingest into a bucket with a key", _bucket, _there(_ingest), "bucket", atomic=False, between=["bucket: staged"]
    ),
    Operation("merge in a bucket", _bucket_branches, _there(_merge), "bucket"),
    Operation("gc of a bucket", _bucket_garbage, _there(_gc), "bucket"),
    Operation("repack of a bucket", _bucket_small_commits, _there(_repack), "bucket"),
    Operation("purge from a bucket", _bucket_small_commits, _there(_purge), "bucket", atomic=False),
    Operation("create branch in a bucket", _bucket, _there(_create_branch), "bucket"),
    Operation("delete branch of a bucket", _bucket_branches, _there(_delete_branch), "bucket"),
    Operation("create tag in a bucket", _bucket, _there(_create_tag), "bucket"),
]


def of_kind(*kinds: str) -> list[Operation]:
    """All operations of some kinds."""
    return [operation for operation in OPERATIONS if operation.kind in kinds]


def named(*names: str) -> list[Operation]:
    """Some operations by name."""
    found = {operation.name: operation for operation in OPERATIONS}
    return [found[name] for name in names]
