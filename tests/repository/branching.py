"""Changing a column "images" of small arrays on branches, and looking at what they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hangar_cloud import Repository

Change = Callable[[Any], None]


def array(value: int) -> Any:
    """A sample of "images", full of a number."""
    return np.full((3, 20), value, np.uint16)


def change(repository: Repository, branch: str, edit: Change, message: str = "change") -> str:
    """Commit what `edit` does to a writer on a branch; returns the digest."""
    checkout = repository.checkout(write=True, branch=branch)
    try:
        edit(checkout)
        return str(checkout.commit(message))
    finally:
        checkout.close()


def put(key: Any, value: int) -> Change:
    """An edit that sets a sample of "images"."""

    def edit(checkout: Any) -> None:
        checkout["images", key] = array(value)

    return edit


def drop(key: Any) -> Change:
    """An edit that deletes a sample of "images"."""

    def edit(checkout: Any) -> None:
        del checkout["images"][key]

    return edit


def values(repository: Repository, branch: str = "master") -> dict[Any, int]:
    """The number that each sample of "images" is full of."""
    checkout = repository.checkout(branch=branch)
    return {key: int(value[0, 0]) for key, value in checkout["images"].items()}
