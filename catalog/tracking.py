"""Remote-tracking branches of a local repository: what each remote's branch was when last seen."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hangar_cloud.backends.errors import CorruptDataError
from hangar_cloud.backends.store.durable_files import read_regular, replace_file
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.sealed_json import seal, unseal

_MAX_BYTES: Final = 64 * 1024


class TrackingRefs:
    """`<folder>/<remote>/<branch>.json`, each replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, remote: str, branch: str) -> str | None:
        """The commit that a remote's branch was at, None if it was never fetched."""
        path = self._path(remote, branch)
        try:
            commit = unseal(read_regular(path, _MAX_BYTES), str(path)).get("commit")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CorruptDataError(f"{path} cannot be read: {error.strerror or error}") from error
        if not isinstance(commit, str):
            raise CorruptDataError(f"{path} is damaged: it names no commit; delete it and fetch that branch")
        return commit

    def set(self, remote: str, branch: str, commit: str) -> None:
        """Note where a remote's branch is now."""
        path = self._path(remote, branch)
        replace_file(path, seal({"commit": commit}))

    def all(self) -> dict[str, str]:
        """Commits by `<remote>/<branch>`, sorted."""
        found = {}
        for path in sorted(self._folder.glob("*/*.json")):
            commit = self.get(path.parent.name, path.stem)
            if commit is not None:
                found[f"{path.parent.name}/{path.stem}"] = commit
        return found

    def _path(self, remote: str, branch: str) -> Path:
        return self._folder / check_name(remote, "remote") / f"{check_name(branch, 'branch')}.json"
