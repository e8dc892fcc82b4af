"""What is done while a process dies: each operation as a job that may be started again would do it.

A job looks whether it was done before only where the operation cannot: a branch that is there cannot be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hangar_cloud import Repository
from tests.faults import crash_scenes as scenes
from tests.faults.crash_places import COLLECT_EVERYTHING, Place, patiently, without_warnings
from tests.repository.making import noise


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


def _init(place: Place) -> None:
    if not place.local.initialized:
        place.local.init(*scenes.USER)


def _init_bucket(place: Place) -> None:
    if not place.direct.initialized:
        place.direct.init(*scenes.USER)


def _commit(repository: Repository, message: str = "second") -> None:
    writer = repository.checkout(write=True, branch="master")
    if writer.diff.status() == "DIRTY":
        writer.commit(message)
    writer.close()


def _ingest(repository: Repository, column: str = "array") -> None:
    writer = repository.checkout(write=True, branch="master")
    with writer[column] as block:
        block.update(scenes.samples(70) if column == "array" else scenes.volumes(70))
    writer["text", "batch"] = "seven"
    writer.commit("batch 7", idempotency_key="batch-7")
    if writer.diff.status() == "DIRTY":
        writer.reset_staging_area()
    writer.close()


def _write_singly(repository: Repository) -> None:
    writer = repository.checkout(write=True, branch="master")
    for key, sample in scenes.samples(70).items():
        writer["array"][key] = sample
    if 0 in writer["text"]:
        del writer["text"][0]
    writer["text", "70"] = "seventy"
    writer.close()


def _merge(repository: Repository) -> None:
    repository.merge("merged", "master", "side")


def _resolve(place: Place) -> None:
    """A merge whose resolved conflict writes a sample."""
    place.local.merge("merged", "master", "side", strategy=lambda *_: noise(99, scenes.SIZE))


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
        copy.clone(*scenes.USER, place.bucket)


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


def _ingest_volumes(repository: Repository) -> None:
    _ingest(repository, "volumes")


def _purge_volume(repository: Repository) -> None:
    patiently(lambda: repository.purge(column="volumes", key=0, reason="asked for"))


def _purge_short(repository: Repository) -> None:
    patiently(lambda: repository.purge(column="short", key=0, reason="asked for"))


def _here(work: Callable[[Repository], None]) -> Callable[[Place], None]:
    return lambda place: work(place.local)


def _there(work: Callable[[Repository], None]) -> Callable[[Place], None]:
    return lambda place: work(place.direct)


OPERATIONS: Final = [
    Operation("init", scenes.nothing, _init, atomic=False),
    Operation("commit", scenes.staged, _here(_commit)),
    Operation("ingest with a key", scenes.one_commit, _here(_ingest), atomic=False, between=["local: staged"]),
    Operation("single writes", scenes.one_commit, _here(_write_singly), atomic=False, between=["local: staged"]),
    Operation("ingest volumes", scenes.with_volumes, _here(_ingest_volumes), atomic=False, between=["local: staged"]),
    Operation("purge a volume", scenes.with_volumes, _here(_purge_volume), atomic=False),
    Operation("merge", scenes.two_branches, _here(_merge)),
    Operation("merge with a resolved conflict", scenes.conflict, _resolve),
    Operation("gc", scenes.garbage, _here(_gc)),
    Operation("repack", scenes.small_commits, _here(_repack)),
    Operation("purge", scenes.small_commits, _here(_purge), atomic=False),
    Operation("purge of a short value", scenes.short_values, _here(_purge_short), atomic=False),
    Operation("create branch", scenes.one_commit, _here(_create_branch)),
    Operation("delete branch", scenes.two_branches, _here(_delete_branch)),
    Operation("restore branch", scenes.deleted_branch, _restore_branch),
    Operation("reset branch", scenes.two_branches, _reset_branch),
    Operation("create tag", scenes.one_commit, _here(_create_tag)),
    Operation("delete tag", scenes.tagged, _delete_tag),
    Operation("stash", scenes.staged, _stash),
    Operation("pop", scenes.stashed, _pop),
    Operation("reset staging area", scenes.staged, _reset),
    Operation("alter", scenes.one_commit, _alter),
    Operation("rename", scenes.one_commit, _rename),
    Operation("add remote", scenes.one_commit, _add_remote),
    Operation("first push", scenes.with_remote, _push, "remote", atomic=False),
    Operation("push", scenes.ahead, _push, "remote", atomic=False),
    Operation("push volumes", scenes.volumes_to_push, _push, "remote", atomic=False),
    Operation("push by force", scenes.diverged, lambda place: _push(place, force=True), "remote", atomic=False),
    Operation(
        "push and merge",
        scenes.diverged,
        lambda place: _push(place, on_conflict="merge"),
        "remote",
        atomic=False,
        between=["local: branch origin/master", "local: samples of origin/master"],
    ),
    Operation("push tag", scenes.tag_to_push, lambda place: place.local.remote.push_tag("origin", "v1"), "remote"),
    Operation("fetch", scenes.cloned, _fetch, "remote", atomic=False),
    Operation("fetch data", scenes.cloned, _fetch_data, "remote"),
    Operation("clone", scenes.pushed, _clone, "remote", atomic=False, others=("clone",)),
    Operation("init of a bucket", scenes.nothing, _init_bucket, "bucket", atomic=False),
    Operation("commit to a bucket", scenes.bucket_staged, _there(_commit), "bucket"),
    Operation("commit to a bucket after a lost race", scenes.bucket_raced, _there(_commit), "bucket"),
    Operation(
        "ingest into a bucket with a key",
        scenes.bucket,
        _there(_ingest),
        "bucket",
        atomic=False,
        between=["bucket: staged"],
    ),
    Operation(
        "ingest volumes into a bucket",
        scenes.bucket_with_volumes,
        _there(_ingest_volumes),
        "bucket",
        atomic=False,
        between=["bucket: staged"],
    ),
    Operation("merge in a bucket", scenes.bucket_branches, _there(_merge), "bucket"),
    Operation("gc of a bucket", scenes.bucket_garbage, _there(_gc), "bucket"),
    Operation("repack of a bucket", scenes.bucket_small_commits, _there(_repack), "bucket"),
    Operation("purge from a bucket", scenes.bucket_small_commits, _there(_purge), "bucket", atomic=False),
    Operation("create branch in a bucket", scenes.bucket, _there(_create_branch), "bucket"),
    Operation("delete branch of a bucket", scenes.bucket_branches, _there(_delete_branch), "bucket"),
    Operation("create tag in a bucket", scenes.bucket, _there(_create_tag), "bucket"),
]


def of_kind(*kinds: str) -> list[Operation]:
    """All operations of some kinds."""
    return [operation for operation in OPERATIONS if operation.kind in kinds]


def named(*names: str) -> list[Operation]:
    """Some operations by name."""
    found = {operation.name: operation for operation in OPERATIONS}
    return [found[name] for name in names]
