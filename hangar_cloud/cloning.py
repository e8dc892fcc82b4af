"""Making a local repository out of a remote one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hangar_cloud import transfer
from hangar_cloud.addresses import open_remote
from hangar_cloud.branches import DEFAULT_BRANCH, Branches
from hangar_cloud.catalog.pointers import PointerLog
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH, decode_repository_file
from hangar_cloud.errors import NotInitializedError
from hangar_cloud.purged_remotes import take_over_purges
from hangar_cloud.remotes import check_address
from hangar_cloud.storage import Storage

_ORIGIN = "origin"


def clone(storage: Storage, address: str, options: Mapping[str, Any] | None, user_name: str, user_email: str) -> str:
    """Fill an empty local storage from a remote; returns the branch that was checked out.

    What marks the folder as a repository is written last: an interrupted clone can be run again.
    """
    check_address(address)
    storage.refuse_offline("clone")
    store = open_remote(address, dict(options) if options is not None else storage.storage_options)
    text = store.get_many([REPOSITORY_PATH])[0]
    if text is None:
        raise NotInitializedError(f"there is no Hangar repository at {store.url}; push one there first")
    decode_repository_file(text, store.url)
    heads = {name: head.commit for name, head in PointerLog(store).heads().items() if head.commit is not None}
    if not heads:
        raise NotInitializedError(f"the repository at {store.url} has no commit yet; there is nothing to clone")
    branch = DEFAULT_BRANCH if DEFAULT_BRANCH in heads else min(heads)
    config = storage.config()
    config.user_name, config.user_email = user_name, user_email
    config.remotes = {_ORIGIN: storage.set_remote(_ORIGIN, address, options)}
    config.save()
    transfer.fetch_commits(storage, store, heads[branch])
    branches = Branches(storage)
    branches.tracking.set(_ORIGIN, branch, heads[branch])
    pointers = storage.pointers(user_name)
    old = pointers.head(branch)
    if old is None or old.commit != heads[branch]:
        pointers.move(branch, old, heads[branch], "clone")
    branches.set_current(branch)
    transfer.fetch_tags(storage, store)
    take_over_purges(storage, store)
    storage.store.put_if_absent(REPOSITORY_PATH, text)
    return branch
