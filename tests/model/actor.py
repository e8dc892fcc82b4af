"""What a killed process leaves behind."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import event

from tests.model.collecting import Collecting
from tests.model.edits import Edit
from tests.model.looking import holds
from tests.model.person import Staged, parents
from tests.model.plain import Snapshot


class Actor(Collecting):
    """Somebody who does all there is to do, until the power fails."""

    def close_to_fork(self) -> None:
        """Close the writer, whose branch and staged changes another process is to take up."""
        assert self.staged is not None
        self.waiting = self.staged
        self.close()

    def survey(self, script: list[Edit], done: int, committed: bool) -> None:
        """Find out what a killed process has left, after `done` steps: opening, the edits, and perhaps a commit.

        Every step that ended has taken effect; the one that did not may have, wholly or not at all.
        """
        before = self.waiting
        if done > 0:
            self.settle()
        branch, head = before.branch, self.refs.branches[before.branch]
        finished = script[: max(done - 1, 0)]
        under_way = script[max(done - 1, 0) : done] if done > 0 else []
        contents = finished[-1].after if finished else before.snapshot
        staged = self.areas.pop(branch, None) or self.clean(branch, head)
        for edit in finished:
            if edit.touched:
                staged.since = staged.landed is not None
            staged.touched |= edit.touched
        staged.snapshot = contents
        landed = None
        if committed and done > len(script):
            _, merged, allowed = self.expected_commit(staged)
            landed = self.look_for_move(branch, parents(head), merged)
            assert None in allowed or landed is None
            assert allowed != [None] or not staged.dirty or landed is not None or done == len(script) + 1
        if landed is not None:
            staged = self.clean(branch, landed)
        self.repository = self.connect()
        self.writer = self.repository.checkout(write=True, branch=branch)
        self.current = branch if not self.is_bucket else self.current
        if landed is not None:
            contents = staged.snapshot
        possible = [contents, *(after for edit in under_way for after in (edit.after, *edit.partly))]
        outcomes = [self.found_on(staged, after, landed or head) for after in possible]
        left = [found for found in outcomes if holds(self.writer, found.snapshot)]
        assert left, "what was staged is not there, or half of an edit is"
        self.staged = left[0]
        event("killed", f"in step {done} of {len(script) + committed}" + (", landed" if landed else ""))
        if self.writer._working.dirty and under_way:
            self.staged_now(left[0].snapshot, under_way[0].touched)
        self.settle()

    def found_on(self, staged: Staged, contents: Snapshot, head: str | None) -> Staged:
        """What a new writer finds where these contents were left."""
        found = replace(staged, snapshot=contents)
        return found if found.dirty else self.clean(staged.branch, head)
