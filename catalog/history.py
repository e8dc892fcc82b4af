"""Walking commits: ancestors, order, short digests (pure over a look-up of commits)."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable

from hangar_cloud.catalog.commits import Commit

LookUp = Callable[[str], Commit]


def ancestors(starts: Iterable[str], look_up: LookUp) -> dict[str, Commit]:
    """Every commit reachable from `starts` (they included), newest first, children before parents.

    Commits of one time are in the order of their digests, so the answer depends on the history alone.
    """
    found: dict[str, Commit] = {}
    waiting = list(dict.fromkeys(starts))
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found[digest] = look_up(digest)
            waiting += found[digest].parents
    children = dict.fromkeys(found, 0)
    for commit in found.values():
        for parent in commit.parents:
            children[parent] += 1
    ready = [(_newest_first(found[digest]), digest) for digest, count in children.items() if count == 0]
    heapq.heapify(ready)
    ordered: dict[str, Commit] = {}
    while ready:
        _, digest = heapq.heappop(ready)
        ordered[digest] = found[digest]
        for parent in found[digest].parents:
            children[parent] -= 1
            if children[parent] == 0:
                heapq.heappush(ready, (_newest_first(found[parent]), parent))
    return ordered


def is_ancestor(older: str, newer: str, look_up: LookUp) -> bool:
    """True if `older` is `newer` or reachable from it."""
    seen: set[str] = set()
    waiting = [newer]
    while waiting:
        digest = waiting.pop()
        if digest == older:
            return True
        if digest not in seen:
            seen.add(digest)
            waiting += look_up(digest).parents
    return False


def merge_bases(one: str, other: str, look_up: LookUp) -> list[str]:
    """The best common ancestors of two commits, sorted: none for unrelated histories, several for
    criss-cross ones. A commit that is an ancestor of the other is their only merge base.

    Looks at no more than what came since, and a little, however long the history is, unless clocks went backwards or
    there are several.
    """
    candidates = _common_candidates(one, other, look_up)
    if len(candidates) < 2:
        return candidates
    # One may be an ancestor of another where clocks went backwards: to tell takes the whole history.
    common = ancestors([one], look_up).keys() & ancestors([other], look_up).keys()
    beaten: set[str] = set()
    for digest in common:
        beaten.update(look_up(digest).parents)
    # Every ancestor of a common ancestor is common too, so the best are those that are nobody's parent among them.
    return sorted(common - beaten)


def _common_candidates(one: str, other: str, look_up: LookUp) -> list[str]:
    """Common ancestors, with all of the best among them, however the clocks went.

    Goes through both histories at once, the newest first, until all that is left is behind common ancestors. What is
    behind those is none of the best, so nothing is lost that is not reached in another way.
    """
    mine, theirs, beaten = 1, 2, 4
    sides = {one: mine, other: theirs} if one != other else {one: mine | theirs}
    waiting = [(_newest_first(look_up(digest)), digest) for digest in sides]
    heapq.heapify(waiting)
    found: set[str] = set()
    while any(not sides[digest] & beaten for _, digest in waiting):
        _, digest = heapq.heappop(waiting)
        side = sides[digest]
        if side == mine | theirs:
            found.add(digest)
            side |= beaten
        for parent in look_up(digest).parents:
            known = sides.get(parent, 0)
            if known | side != known:
                sides[parent] = known | side
                heapq.heappush(waiting, (_newest_first(look_up(parent)), parent))
    return sorted(digest for digest in found if not sides[digest] & beaten)


def divergence(one: str, other: str, look_up: LookUp, most: int = 1000) -> tuple[int, int] | None:
    """How many commits only `one` has behind it, and how many only `other`.

    Looks at the newest first and stops where all that is left is behind both, which is exact as long as no commit is
    older than its parents. None after `most` commits: who asks how far apart they are does not want to wait for a
    whole history.
    """
    sides = {one: 1, other: 2} if one != other else {one: 3}
    waiting = [(_newest_first(look_up(digest)), digest) for digest in sides]
    heapq.heapify(waiting)
    for _ in range(most):
        if all(sides[digest] == 3 for _, digest in waiting):
            counts = Counter(sides.values())
            return counts[1], counts[2]
        _, digest = heapq.heappop(waiting)
        for parent in look_up(digest).parents:
            side = sides.get(parent, 0) | sides[digest]
            if side != sides.get(parent):
                sides[parent] = side
                heapq.heappush(waiting, (_newest_first(look_up(parent)), parent))
    return None


def _newest_first(commit: Commit) -> tuple[int, ...]:
    return tuple(-ord(character) for character in commit.time)
