"""Working together through a remote: push, fetch, clone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import event

from hangar_cloud.errors import (
    HangarError,
    HeadMovedError,
    NotInitializedError,
    RefNotFoundError,
)
from tests.model.branching import Branching
from tests.model.looking import assert_contents
from tests.model.person import STORM
from tests.model.plain_merge import ancestors


class Sharing(Branching):
    """Somebody who shares a dataset."""

    origin_address = ""

    def push(self, branch: str) -> None:
        """Push a branch to the origin."""
        here, there = self.refs.branches.get(branch), self.origin.branches.get(branch)
        allowed: list[type[HangarError] | None] = [None]
        warned = False
        if branch not in self.refs.branches:
            allowed = [RefNotFoundError]
        elif here is None:
            allowed = [NotInitializedError]
        elif there is not None and here in ancestors(self.history, there):
            warned = True
        elif there is not None and there not in ancestors(self.history, here):
            allowed = [HeadMovedError]
        with self.warned_if(warned):
            result = self.attempt(lambda: self.repository.remote.push("origin", branch), *allowed)
        if isinstance(result, HangarError):
            return
        assert here is not None or result is STORM
        if result is STORM:
            heads = self.heads_of_origin()
            event("push in a storm", "landed" if heads.get(branch) == here else "not")
            self.origin.exists |= bool(heads)
            assert heads.get(branch) in (there, here)
            if heads.get(branch) is not None:
                self.origin.branches[branch] = heads[branch]
            return
        assert result == branch
        self.origin.exists = True
        if not warned:
            self.origin.branches[branch] = here
        if here == self.origin.branches[branch] and here is not None:
            self.tracking[f"origin/{branch}"] = here

    def heads_of_origin(self) -> dict[str, str | None]:
        """What branches the origin really has."""
        from hangar_cloud.catalog.pointers import PointerLog

        store = self.repository._storage.remote_store("origin")
        return self.calm(lambda: {name: head.commit for name, head in PointerLog(store).heads().items()})

    def fetch(self, branch: str) -> None:
        """Fetch a branch of the origin."""
        there = self.origin.branches.get(branch)
        allowed = [RefNotFoundError] if there is None else [None]
        with self.warned_if(there is not None and self.tracking.get(f"origin/{branch}") == there):
            result = self.attempt(lambda: self.repository.remote.fetch("origin", branch), *allowed)
        if result is STORM or isinstance(result, HangarError):
            return
        assert result == f"origin/{branch}"
        assert there is not None
        self.tracking[result] = there

    def fetch_data(self, digest: str, whole_history: bool) -> None:
        """Fetch the data of a commit, and read it without a network."""
        result = self.attempt(
            lambda: self.repository.remote.fetch_data("origin", commit=digest, retrieve_all_history=whole_history)
        )
        if result is STORM:
            return
        wanted = ancestors(self.history, digest) if whole_history else {digest}
        assert set(result) == wanted
        offline = self.connect(offline=True)
        for one in sorted(wanted)[:3]:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                checkout = offline.checkout(commit=one)
            assert_contents(checkout, self.snapshot_of(one))
            checkout.close()

    def clone(self) -> None:
        """Make this repository a clone of the origin; may be repeated after a storm."""
        with_commit = {name: head for name, head in self.origin.branches.items() if head is not None}
        allowed = [None] if with_commit else [NotInitializedError]

        def call() -> Any:
            return self.repository.clone("Clone", "clone@example.org", self.origin_address)

        result = self.attempt(call, *allowed)
        if result is STORM:
            with self.weather.storm([]):
                made = self.repository.initialized
                result = self.expected_clone(with_commit) if made else self.attempt(call, *allowed)
        if isinstance(result, HangarError):
            return
        assert result == self.expected_clone(with_commit)
        head = with_commit[result]
        self.refs.exists, self.refs.branches = True, {result: head}
        self.tracking, self.current = {f"origin/{result}": head}, result

    def expected_clone(self, heads: dict[str, str]) -> str:
        """The branch that a clone stands on."""
        return "master" if "master" in heads else min(heads)

    @contextmanager
    def warned_if(self, wanted: bool) -> Iterator[None]:
        """A `UserWarning` comes just if it should, unless the weather struck."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        assert bool(caught) == wanted or self.weather.struck, [str(one.message) for one in caught]
