"""Remote-tracking branches of a local repository: what each remote's branch was when last seen."""

from __future__ import annotations

import os
from pathlib import Path

from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.sealed_json import seal, unseal


class TrackingRefs:
    """`<folder>/<remote>/<branch>.json`, each replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, remote: str, branch: str) -> str | None:
        """The commit that a remote's branch was at, None if it was never fetched."""
        path = self._path(remote, branch)
        try:
            return str(unseal(path.read_bytes(), str(path))["commit"])
        except FileNotFoundError:
            return None

    def set(self, remote: str, branch: str, commit: str) -> None:
        """Note where a remote's branch is now."""
        path = self._path(remote, branch)
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = path.with_suffix(f".{os.getpid()}.incoming")
        incoming.write_bytes(seal({"commit": commit}))
        os.replace(incoming, path)

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
