"""Making an empty repository, in a folder or in a bucket."""

from __future__ import annotations

from hangar_cloud import __version__
from hangar_cloud.branches import DEFAULT_BRANCH
from hangar_cloud.catalog.repository_file import REPOSITORY_PATH, new_repository_file
from hangar_cloud.errors import RepositoryExistsError
from hangar_cloud.storage import Storage


def initialize(storage: Storage, user_name: str, user_email: str) -> str:
    """Make an empty storage a repository with one branch; returns its id.

    What marks it as a repository is written last: an interrupted start can be run again.

    Raises:
        RepositoryExistsError: somebody else made one there meanwhile.
    """
    storage.store.ensure_writable()
    identity, text = new_repository_file(__version__)
    # Before anything of the new repository is in the folder, as it goes with what the old one left there.
    storage.set_old_folder_aside(identity)
    config = storage.config()
    config.user_name, config.user_email = user_name, user_email
    config.save()
    storage.pointers(user_name).start(DEFAULT_BRANCH)
    if not storage.store.put_if_absent(REPOSITORY_PATH, text):
        raise RepositoryExistsError(
            f"somebody else made a repository at {storage.location} at this moment; open it as it is"
        )
    storage.keep_repository_file(text)
    return identity
