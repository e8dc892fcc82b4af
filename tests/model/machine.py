"""The state machine: people at one dataset, who do anything that can be done, in any order."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hangar_cloud.backends.store import open_store
from hangar_cloud.errors import CommitConflictError, HangarError, NothingToCommitError, RepositoryExistsError
from tests.model.actor import Actor
from tests.model.edits import Edit, additions, edits
from tests.model.killing import run_and_kill
from tests.model.person import STORM, Refs
from tests.model.plain import Snapshot
from tests.model.plain_merge import History, ancestors
from tests.model.resolving import strategy_of
from tests.model.weather import FINE, LOST, REFUSED, SLOW, Weather

BRANCHES = ["master", "dev", "more"]
STASHES = ["one", "two"]
_MOST_ACTORS = 3

_calm = st.just([])
_storms = st.one_of(
    _calm,
    st.lists(st.sampled_from([FINE, FINE, FINE, SLOW, LOST, REFUSED]), max_size=12),
    st.tuples(st.integers(0, 25), st.sampled_from([LOST, REFUSED])).map(lambda at: [FINE] * at[0] + [at[1]]),
)


class Team(RuleBasedStateMachine):
    """Up to three people: at folders of their own that share a remote, or at the shared bucket itself.

    Attributes:
        scheme: of the shared bucket.
        weather: what happens to its requests.
        stormy: whether any of them fail.
    """

    scheme: ClassVar[str] = "file"
    weather: ClassVar[Weather] = Weather()
    stormy: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hangar-model-"))
        unique = uuid4().hex
        self.address = f"memory://model-{unique}" if self.scheme == "memory" else f"file://{self.folder}/origin"
        self.history: History = {}
        self.origin = Refs()
        self.actors: list[Actor] = []

    def teardown(self) -> None:
        try:
            for actor in self.actors:
                actor.close()
                findings = actor.repository.fsck()
                assert not [finding for finding in findings if finding.is_damage]
                for digest in actor.known():
                    actor.look_at(digest)
        finally:
            for actor in self.actors:
                if actor.writer is not None and actor.writer._alive.open:
                    actor.writer.close()
            if self.scheme == "memory":
                store = open_store(self.address)
                store.delete([info.path for info in store.list()])
            shutil.rmtree(self.folder, ignore_errors=True)

    # Who there is.

    @initialize(data=st.data(), bucket=st.booleans(), commit=st.booleans())
    def someone_starts(self, data: st.DataObject, bucket: bool, commit: bool) -> None:
        """A new dataset: in a folder whose owner will push it, or in the bucket."""
        actor = self.join(bucket, self.origin if bucket else Refs())
        with self.weather.storm(self.draw_storm(data)):
            made = actor.attempt(lambda: actor.repository.init("Model", "model@example.org"))
        if made is STORM:
            again = actor.attempt(
                lambda: actor.repository.init("Model", "model@example.org"), None, RepositoryExistsError
            )
            assert not isinstance(again, HangarError) or actor.repository.initialized
        actor.refs.exists = True
        actor.refs.move("master", None, "init")
        if not bucket:
            actor.repository.remote.add("origin", self.address)
        actor.look_at_refs()
        actor.open()
        for _ in range(2):
            actor.edit(data.draw(additions(self.contents(actor)), label="edit"))
        if commit:
            actor.commit()

    def join(self, bucket: bool, refs: Refs) -> Actor:
        """One more person."""
        number = len(self.actors)
        place = self.address if bucket else str(self.folder / f"folder-{number}")
        actor = Actor(place, self.folder / f"cache-{number}", refs, self.origin, self.history, self.weather)
        actor.origin_address = self.address
        self.actors.append(actor)
        return actor

    @precondition(lambda self: self.origin.exists and len(self.actors) < _MOST_ACTORS)
    @rule(data=st.data(), bucket=st.booleans())
    def someone_joins(self, data: st.DataObject, bucket: bool) -> None:
        """Somebody clones the bucket, or works on it directly from another machine."""
        if bucket:
            actor = self.join(True, self.origin)
        else:
            actor = self.join(False, Refs())
            with self.weather.storm(self.draw_storm(data)):
                actor.clone()
            if not actor.refs.exists:
                self.actors.pop()
                return
        actor.look_at_refs()

    def draw_actor(self, data: st.DataObject, fits: Callable[[Actor], bool] = lambda _: True) -> Actor | None:
        """One of those whom something can be done by."""
        able = [i for i, actor in enumerate(self.actors) if fits(actor)]
        if not able:
            return None
        number = data.draw(st.sampled_from(able), label="actor")
        return self.actors[number]

    def draw_storm(self, data: st.DataObject) -> list[str]:
        """What happens to the next requests."""
        return data.draw(_storms, label="weather") if self.stormy else []

    def act(self, data: st.DataObject, actor: Actor, operation: Callable[[], None]) -> None:
        """Do something in some weather, and look at what it did."""
        with self.weather.storm(self.draw_storm(data)):
            operation()
        actor.look_at_writer()
        actor.look_at_refs()

    def contents(self, actor: Actor) -> Snapshot:
        assert actor.staged is not None
        return actor.staged.snapshot

    # Writing.

    def writer_of(self, data: st.DataObject) -> Actor | None:
        """Somebody with a writer, opened now if need be."""
        actor = self.draw_actor(data)
        assert actor is not None
        if actor.writer is None:
            self.act(data, actor, lambda: actor.open(min(actor.areas, default="")))
        return actor if actor.writer is not None else None

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        self.edit_some(data, 3)

    @rule(data=st.data())
    def edit_and_commit(self, data: st.DataObject) -> None:
        actor = self.edit_some(data, 4)
        if actor is not None:
            self.act(data, actor, actor.commit)

    def edit_some(self, data: st.DataObject, most: int) -> Actor | None:
        actor = self.writer_of(data)
        if actor is not None:
            self.edit_by(data, actor, most)
        return actor

    def edit_by(self, data: st.DataObject, actor: Actor, most: int) -> None:
        for _ in range(data.draw(st.integers(1, most), label="edits")):
            edit = data.draw(edits(self.contents(actor)), label="edit")
            self.act(data, actor, partial(actor.edit, edit))

    @precondition(lambda self: self.origin.exists)
    @rule(data=st.data())
    def race(self, data: st.DataObject) -> None:
        """People at the bucket write at the same time, and commit one after the other."""
        if sum(actor.is_bucket for actor in self.actors) < 2 and len(self.actors) < _MOST_ACTORS:
            self.join(True, self.origin)
        racers = [actor for actor in self.actors if actor.is_bucket]
        for actor in racers:
            if actor.writer is None:
                self.act(data, actor, partial(actor.open, min(actor.areas, default="")))
            if actor.writer is not None:
                self.edit_by(data, actor, 2)
        for actor in racers:
            if actor.writer is not None:
                self.act(data, actor, actor.commit)

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        actor = self.writer_of(data)
        if actor is not None:
            self.act(data, actor, actor.commit)

    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        actor = self.draw_actor(data, lambda actor: actor.writer is not None)
        if actor is not None:
            self.act(data, actor, actor.reset)

    @rule(data=st.data(), branch=st.sampled_from(["", *BRANCHES]))
    def switch(self, data: st.DataObject, branch: str) -> None:
        actor = self.draw_actor(data)
        assert actor is not None
        actor.close()
        self.act(data, actor, lambda: actor.open(branch))

    @rule(data=st.data())
    def a_second_writer_is_refused(self, data: st.DataObject) -> None:
        actor = self.draw_actor(data, lambda actor: actor.writer is not None and not actor.is_bucket)
        if actor is not None:
            self.act(data, actor, actor.open)

    @rule(data=st.data())
    def close_and_reopen(self, data: st.DataObject) -> None:
        actor = self.draw_actor(data)
        assert actor is not None
        self.act(data, actor, actor.reopen)

    @rule(data=st.data(), name=st.sampled_from(STASHES))
    def stash(self, data: st.DataObject, name: str) -> None:
        actor = self.draw_actor(data, lambda actor: actor.writer is not None)
        if actor is not None:
            self.act(data, actor, lambda: actor.stash(name))

    @rule(data=st.data(), name=st.sampled_from([None, *STASHES]))
    def pop_a_stash(self, data: st.DataObject, name: str | None) -> None:
        actor = self.draw_actor(data, lambda actor: actor.writer is not None and bool(actor.stashes))
        if actor is not None:
            self.act(data, actor, lambda: actor.pop(name))

    # Branches.

    @rule(data=st.data(), name=st.sampled_from(BRANCHES), at_some=st.booleans())
    def create_branch(self, data: st.DataObject, name: str, at_some: bool) -> None:
        actor = self.draw_actor(data)
        assert actor is not None
        known = actor.known()
        base = data.draw(st.sampled_from(range(len(known))), label="commit") if at_some and known else None
        self.act(data, actor, lambda: actor.create_branch(name, None if base is None else known[base]))

    @rule(data=st.data(), name=st.sampled_from(BRANCHES), force=st.booleans())
    def remove_branch(self, data: st.DataObject, name: str, force: bool) -> None:
        actor = self.draw_actor(data, lambda actor: len(actor.refs.branches) > 1)
        if actor is not None:
            self.act(data, actor, lambda: actor.remove_branch(name, force))

    @rule(
        data=st.data(),
        how=st.sampled_from(["none", "ours", "theirs", "theirs", "function"]),
        decision=st.integers(0, 4**6),
    )
    def merge(self, data: st.DataObject, how: str, decision: int) -> None:
        actor = self.draw_actor(data, lambda actor: len(actor.heads()) > 1)
        if actor is None:
            return
        devs = sorted(actor.heads())
        dev = data.draw(st.sampled_from(devs), label="dev")
        branch = data.draw(st.sampled_from(sorted(actor.refs.branches)), label="branch")
        if actor.writer is not None and actor.is_bucket and actor.staged is not None:
            branch = actor.staged.branch
        strategy, outcome = strategy_of(how, decision)
        self.act(data, actor, lambda: actor.merge(branch, dev, strategy, outcome))

    @rule(data=st.data(), how=st.sampled_from(["none", "ours", "theirs", "function"]), decision=st.integers(0, 4**6))
    def diverge_and_merge(self, data: st.DataObject, how: str, decision: int) -> None:
        """Two branches change, and one takes in the other."""
        actor = self.draw_actor(data, lambda actor: actor.refs.branches.get("master") is not None)
        if actor is None:
            return
        actor.close()
        if "dev" not in actor.refs.branches:
            self.act(data, actor, lambda: actor.create_branch("dev", actor.refs.branches["master"]))
        for branch in ("master", "dev"):
            self.act(data, actor, partial(actor.open, branch))
            if actor.writer is not None:
                self.edit_by(data, actor, 3)
                self.act(data, actor, actor.commit)
                actor.close()
        strategy, outcome = strategy_of(how, decision)
        self.act(data, actor, lambda: actor.merge("master", "dev", strategy, outcome))

    @rule(data=st.data(), how=st.sampled_from(["ours", "theirs"]))
    def cross_merge(self, data: st.DataObject, how: str) -> None:
        """Each of two branches takes in what the other was: their next merge has two bases."""
        actor = self.draw_actor(data, lambda actor: {"master", "dev"} <= actor.heads().keys())
        if actor is None:
            return
        actor.close()
        if "more" in actor.refs.branches and actor.current != "more":
            self.act(data, actor, lambda: actor.remove_branch("more", True))
        head = actor.heads()["master"]
        if "more" not in actor.refs.branches:
            self.act(data, actor, lambda: actor.create_branch("more", head))
        for branch, dev in (("master", "dev"), ("dev", "more")):
            strategy, outcome = strategy_of(how, 0)
            self.act(data, actor, partial(actor.merge, branch, dev, strategy, outcome))

    # Others.

    @rule(data=st.data(), branch=st.sampled_from(BRANCHES[:2]))
    def push(self, data: st.DataObject, branch: str) -> None:
        actor = self.draw_actor(data, lambda actor: not actor.is_bucket)
        if actor is not None:
            self.act(data, actor, lambda: actor.push(branch))

    @rule(data=st.data(), branch=st.sampled_from(BRANCHES[:2]), then_merge=st.booleans())
    def fetch(self, data: st.DataObject, branch: str, then_merge: bool) -> None:
        actor = self.draw_actor(data, lambda actor: not actor.is_bucket and self.origin.exists)
        if actor is None:
            return
        self.act(data, actor, lambda: actor.fetch(branch))
        dev = f"origin/{branch}"
        if then_merge and dev in actor.tracking and branch in actor.refs.branches:
            strategy, outcome = strategy_of("theirs", 0)
            self.act(data, actor, lambda: actor.merge(branch, dev, strategy, outcome))

    @rule(data=st.data(), whole_history=st.booleans())
    def fetch_data(self, data: st.DataObject, whole_history: bool) -> None:
        actor = self.draw_actor(data, lambda actor: not actor.is_bucket and bool(self.fetchable(actor)))
        if actor is not None:
            there = self.fetchable(actor)
            digest = there[data.draw(st.sampled_from(range(len(there))), label="commit")]
            self.act(data, actor, lambda: actor.fetch_data(digest, whole_history))

    def fetchable(self, actor: Actor) -> list[str]:
        """Commits whose data the origin has, for certain."""
        there = set().union(*(ancestors(self.history, head) for head in self.origin.branches.values()), set())
        return [digest for digest in actor.known() if digest in there]

    # Looking, and dying.

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        actor = self.draw_actor(data, lambda actor: bool(actor.known()))
        if actor is None:
            return
        known = actor.known()
        one, other = (known[data.draw(st.sampled_from(range(len(known))), label="commit")] for _ in range(2))
        actor.look_at(one)
        actor.look_at_diff(one, other)
        actor.look_at_log(data.draw(st.sampled_from(sorted(actor.heads())), label="head"))

    @rule(data=st.data(), after=st.integers(0, 3000), opened=st.booleans(), commit=st.booleans())
    def kill(self, data: st.DataObject, after: int, opened: bool, commit: bool) -> None:
        """Another process takes over, writes, perhaps commits, and is killed at any moment."""
        actor = self.draw_actor(data, lambda actor: not (actor.is_bucket and self.scheme == "memory"))
        if actor is None:
            return
        actor.reopen()
        actor.open(min(actor.areas, default=""))
        if actor.writer is None:
            return
        assert actor.staged is not None
        contents = actor.staged.snapshot
        script: list[Edit] = []
        for _ in range(data.draw(st.integers(1, 4), label="edits")):
            script.append(data.draw(edits(contents).filter(lambda edit: edit.refused is None), label="edit"))
            contents = script[-1].after
        actor.close_to_fork()
        _kill(actor, script, after, opened, commit)
        actor.look_at_writer()
        actor.look_at_refs()


def _kill(actor: Actor, script: list[Edit], after: int, opened: bool, commit: bool) -> None:
    staged = actor.waiting
    child: dict[str, Any] = {}

    def open_writer() -> None:
        child["writer"] = actor.connect().checkout(write=True, branch=staged.branch)

    steps: list[Callable[[], Any]] = [open_writer]
    steps += [partial(_do, edit, child) for edit in script]
    if commit:
        steps.append(lambda: _commit(child["writer"]))
    done, killed = run_and_kill(steps, after, spared=1 if opened else 0)
    note(f"{done} of {len(steps)} steps done, {'killed' if killed else 'ended'}")
    actor.survey(script, done, commit)


def _do(edit: Edit, child: dict[str, Any]) -> None:
    edit.do(child["writer"])


def _commit(writer: Any) -> None:
    """Commit; it is seen later whether that should have been possible."""
    with contextlib.suppress(NothingToCommitError, CommitConflictError):
        writer.commit("in a process that dies")
