"""Staged changes that a commit would find to be none: a value written again, a change taken back."""

from __future__ import annotations

import contextlib

from hangar_cloud.catalog.committer import Committer
from hangar_cloud.catalog.sample_writer import SampleWriter
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.diff import has_changes
from hangar_cloud.errors import HangarError
from hangar_cloud.storage import Storage


def changes_nothing(storage: Storage, working: WorkingSet, staging: StagingArea, committer: Committer) -> bool:
    """True if something is staged, and a commit of it would change nothing. Such a staging area may be cleared.

    False where that cannot be told, because a record cannot be read; and where an earlier commit of what is staged
    did land, as its answer never came: what takes that back is a change of it.
    """
    if not working.dirty:
        return False
    with contextlib.suppress(HangarError):
        if not has_changes(storage.nodes, working.base, working):
            return committer.landed(staging) is None
    return False


def left_nothing(storage: Storage, staging: StagingArea) -> bool:
    """The same for what an earlier writer left, once it is known which of its commits landed."""
    with contextlib.suppress(HangarError):
        base = staging.setting("base")
        columns = {} if base is None else storage.commit(base).trees
        samples = SampleWriter(staging, storage.index, storage.has_pack, lambda _: None)
        working = WorkingSet(columns, staging, samples, storage.nodes)
        return working.dirty and not has_changes(storage.nodes, columns, working)
    return False
