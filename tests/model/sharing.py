"""Working together through a remote: push, fetch, clone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import event

from hangar_cloud.catalog.pointers import PointerLog
from hangar_cloud.errors import (
    HangarError,
    HeadMovedError,
    NotInitializedError,
    RefExistsError,
    RefNotFoundError,
)
from hangar_cloud.tags import Tags
from tests.model.looking import assert_contents
from tests.model.person import STORM
from tests.model.plain_merge import ancestors
from tests.model.referring import Referring


class Sharing(Referring):
    """Somebody who shares a dataset."""

    origin_address = ""

    def push(self, branch: str, force: bool = False) -> None:
        """Push a branch to the origin, by force even where that takes commits off it."""
        here, there = self.refs.branches.get(branch), self.origin.branches.get(branch)
        allowed: list[type[HangarError] | None] = [None]
        warned = False
        if branch not in self.refs.branches:
            allowed = [RefNotFoundError]
        elif here is None:
            allowed = [NotInitializedError]
        elif there is not None and (here == there if force else here in ancestors(self.history, there)):
            warned = True
        elif not force and there is not None and there not in ancestors(self.history, here):
            allowed = [HeadMovedError]
        with self.warned_if(warned):
            result = self.attempt(lambda: self.repository.remote.push("origin", branch, force=force), *allowed)
        if isinstance(result, HangarError):
            return
        assert here is not None or result is STORM
        action = "force-push" if force and there is not None else "push"
        if result is STORM:
            heads = self.heads_of_origin()
            event("push in a storm", "landed" if heads.get(branch) == here else "not")
            self.origin.exists |= bool(heads)
            assert heads.get(branch) in (there, here)
            if heads.get(branch) != there:
                self.origin.move(branch, heads[branch], action)
            return
        assert result == branch
        self.origin.exists = True
        if not warned:
            self.origin.move(branch, here, action)
        if here == self.origin.branches[branch] and here is not None:
            self.tracking[f"origin/{branch}"] = here

    def heads_of_origin(self) -> dict[str, str | None]:
        """What branches the origin really has."""
        store = self.repository._storage.remote_store("origin")
        return self.calm(lambda: {name: head.commit for name, head in PointerLog(store).heads().items()})

    def fetch(self, branch: str) -> None:
        """Fetch a branch of the origin."""
        there, name = self.origin.branches.get(branch), f"origin/{branch}"
        allowed = [RefNotFoundError] if there is None else [None]
        nothing_new = self.origin.tags.keys() <= self.refs.tags.keys()
        with self.warned_if(there is not None and self.tracking.get(name) == there and nothing_new):
            result = self.attempt(lambda: self.repository.remote.fetch("origin", branch), *allowed)
        if isinstance(result, HangarError):
            return
        if result is STORM:
            self.look_what_came(name, there)
            return
        assert result == name
        assert there is not None
        self.tracking[name] = there
        self.refs.tags = {**self.origin.tags, **self.refs.tags}

    def look_what_came(self, name: str, there: str | None) -> None:
        """What a fetch that the weather stopped had fetched."""
        found = self.repository._branches.tracking.all().get(name)
        assert found in (self.tracking.get(name), there)
        if found is not None:
            self.tracking[name] = found
        tags = self.true_tags()
        assert self.refs.tags.items() <= tags.items() <= {**self.origin.tags, **self.refs.tags}.items()
        self.refs.tags = tags

    def push_tag(self, name: str) -> None:
        """Push a tag to the origin."""
        here, there = self.refs.tags.get(name), self.origin.tags.get(name)
        allowed: list[type[HangarError] | None] = [None]
        if here is None:
            allowed = [RefNotFoundError]
        elif there not in (None, here):
            allowed = [RefExistsError]
        result = self.attempt(lambda: self.repository.remote.push_tag("origin", name), *allowed)
        if isinstance(result, HangarError):
            return
        if result is STORM:
            store = self.repository._storage.remote_store("origin")
            found = self.calm(lambda: {tag.name: tag.digest for tag in Tags(PointerLog(store, kind="tags"), "").all()})
            assert found.get(name) in (there, here)
            self.origin.tags = found
            return
        assert result == name
        assert here is not None
        self.origin.tags[name] = here

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
        self.refs.exists, self.refs.tags = True, dict(self.origin.tags)
        self.refs.move(result, head, "clone")
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
