"""The state machine, where people also name commits, go back to what was, and collect garbage."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.model.actor import Actor
from tests.model.machine import BRANCHES, Team

TAGS = ["v1", "v2"]
KEYS = ["batch 1", "batch 2"]


class KeepingTeam(Team):
    """People who do all that and this."""

    @rule(data=st.data(), name=st.sampled_from(TAGS), at_some=st.booleans())
    def create_tag(self, data: st.DataObject, name: str, at_some: bool) -> None:
        actor = self.draw_actor(data)
        assert actor is not None
        commit = self.draw_commit(data, actor) if at_some and actor.known() else None
        self.act(data, actor, lambda: actor.create_tag(name, commit))

    @rule(data=st.data(), name=st.sampled_from(TAGS))
    def delete_tag(self, data: st.DataObject, name: str) -> None:
        actor = self.draw_actor(data, lambda actor: bool(actor.refs.tags))
        if actor is not None:
            self.act(data, actor, lambda: actor.delete_tag(name))

    @precondition(lambda self: self.origin.exists)
    @rule(data=st.data(), name=st.sampled_from(TAGS))
    def push_tag(self, data: st.DataObject, name: str) -> None:
        actor = self.draw_actor(data, lambda actor: not actor.is_bucket and bool(actor.refs.tags))
        if actor is not None:
            self.act(data, actor, lambda: actor.push_tag(name))

    @rule(data=st.data(), branch=st.sampled_from(BRANCHES[:2]))
    def go_back_and_push_by_force(self, data: st.DataObject, branch: str) -> None:
        """Somebody takes commits off a branch, goes on from there, and pushes that all the same."""
        actor = self.draw_actor(data, lambda actor: not actor.is_bucket and bool(actor.known()))
        if actor is None or self.is_unsure(actor.origin, branch):
            return
        if branch in actor.refs.branches and data.draw(st.booleans(), label="go back"):
            actor.close()
            commit = self.draw_commit(data, actor)
            self.act(data, actor, partial(actor.reset_branch, branch, commit))
        self.act(data, actor, lambda: actor.push(branch, force=True))

    @rule(data=st.data(), branch=st.sampled_from(BRANCHES), closed=st.booleans())
    def reset_branch(self, data: st.DataObject, branch: str, closed: bool) -> None:
        actor = self.draw_actor(data, lambda actor: bool(actor.known()))
        if actor is not None and not self.is_unsure(actor.refs, branch):
            if closed:
                actor.close()
            commit = self.draw_commit(data, actor)
            self.act(data, actor, lambda: actor.reset_branch(branch, commit))

    @rule(data=st.data(), branch=st.sampled_from(BRANCHES))
    def restore_branch(self, data: st.DataObject, branch: str) -> None:
        actor = self.draw_actor(data, lambda actor: actor.refs.logs.keys() > actor.refs.branches.keys())
        if actor is not None and not self.is_unsure(actor.refs, branch):
            self.act(data, actor, lambda: actor.restore_branch(branch))

    @rule(data=st.data(), how=st.sampled_from(["delete", "reset"]), keep_log=st.booleans(), tagged=st.booleans())
    def lose_and_collect(self, data: st.DataObject, how: str, keep_log: bool, tagged: bool) -> None:
        """A commit is made that no branch holds afterwards, and everything is collected that nothing holds."""
        actor = self.draw_actor(data, lambda actor: actor.refs.branches.get("master") is not None)
        if actor is None or self.is_unsure(actor.refs, "more"):
            return
        actor.close()
        start = actor.refs.branches["master"]
        if "more" not in actor.refs.branches:
            self.act(data, actor, partial(actor.create_branch, "more", start))
        self.act(data, actor, partial(actor.open, "more"))
        if actor.writer is not None:
            self.edit_by(data, actor, 2)
            self.act(data, actor, actor.commit)
        if tagged and "more" in actor.refs.branches:
            self.act(data, actor, partial(actor.create_tag, "v1", actor.refs.branches["more"]))
        self.switch_to(data, actor, "master")
        if not self.is_unsure(actor.refs, "more"):
            lose = partial(actor.remove_branch, "more", True)
            self.act(data, actor, lose if how == "delete" else partial(actor.reset_branch, "more", start))
        self.collect_by(data, actor, keep_log)
        if how == "delete" and not self.is_unsure(actor.refs, "more"):
            self.act(data, actor, lambda: actor.restore_branch("more"))

    def switch_to(self, data: st.DataObject, actor: Actor, branch: str) -> None:
        """Let a branch be the one written to last, where staged changes allow it."""
        actor.close()
        self.act(data, actor, lambda: actor.open(branch))
        actor.close()

    @rule(data=st.data(), branch=st.sampled_from(BRANCHES))
    def look_back(self, data: st.DataObject, branch: str) -> None:
        actor = self.draw_actor(data)
        assert actor is not None
        actor.look_at_reflog(branch)
        actor.look_at_tags()

    @rule(data=st.data(), key=st.sampled_from(KEYS), again=st.booleans())
    def commit_once(self, data: st.DataObject, key: str, again: bool) -> None:
        """A job does its work, and perhaps is run again with the same or other work."""
        for _ in range(1 + again):
            actor = self.edit_some(data, 2)
            if actor is not None and actor.staged is not None and actor.staged.landed is None:
                self.act(data, actor, partial(actor.commit_once, key))

    @rule(data=st.data(), keep_log=st.booleans(), closed=st.booleans())
    def collect_garbage(self, data: st.DataObject, keep_log: bool, closed: bool) -> None:
        actor = self.draw_actor(data)
        assert actor is not None
        if closed:
            actor.close()
        self.collect_by(data, actor, keep_log)

    def collect_by(self, data: st.DataObject, actor: Actor, keep_log: bool) -> None:
        others = self.actors if actor.is_bucket else []
        elsewhere = set().union(*(other.needed() for other in others), set())
        self.act(data, actor, lambda: actor.collect_garbage(elsewhere, keep_log))

    def draw_commit(self, data: st.DataObject, actor: Actor) -> str:
        """One of the commits that somebody knows."""
        known = actor.known()
        return known[data.draw(st.sampled_from(range(len(known))), label="commit")]

    def is_unsure(self, refs: object, branch: str) -> bool:
        """Whether somebody may have committed to a branch without knowing: what that means once it moves is open."""
        areas = [
            area
            for actor in self.actors
            if actor.refs is refs
            for area in (*actor.areas.values(), *([] if actor.staged is None else [actor.staged]))
        ]
        return any(area.branch == branch and area.landed is not None for area in areas)
