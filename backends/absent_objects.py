"""What is said of an object that is not on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hangar_cloud.backends.errors import (
    CorruptDataError,
    DataNotLocalError,
    HangarError,
    ObjectNotFoundError,
    without_frames,
)
from hangar_cloud.backends.store import ObjectStore


def not_here(path: str, store: Path) -> DataNotLocalError:
    """There is nobody to ask for it."""
    return DataNotLocalError(f"{path} is not in {store} and no remote is configured to fetch it from")


def kept_from_asking(path: str) -> DataNotLocalError:
    """Nobody may be asked for it."""
    return DataNotLocalError(
        f"{path} is not here and the repository was opened with offline=True; open it "
        "without offline=True, or run fetch_data while there is a network"
    )


def damaged_there(error: HangarError, remote: ObjectStore) -> CorruptDataError:
    """What one of those who were asked sent is damaged; others may have it intact."""
    found = CorruptDataError(f"{error} (as read from {remote.url})")
    found.__cause__ = without_frames(error)
    return found


def nowhere(path: str, store: Path, remotes: Sequence[ObjectStore], reason: HangarError) -> HangarError:
    """Those who were asked have it not; `reason` is why it was not read from here."""
    asked = ", ".join(remote.url for remote in remotes)
    if isinstance(reason, CorruptDataError):
        return CorruptDataError(f"{reason}; and {asked} has no copy of {path} to replace it")
    return ObjectNotFoundError(
        f"{path} is neither in {store} nor in {asked}: the repository refers to an object that is missing; "
        "if it was pushed from elsewhere, push it again"
    )
