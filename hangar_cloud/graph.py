"""The commit graph as text, in the manner of `git log --graph` (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


def draw_graph(order: Sequence[str], parents: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> Iterator[str]:
    """Lines of the graph.

    Args:
        order: commits, children before their parents.
        parents: parents of each commit; those that are not in `order` are not drawn.
        labels: text behind each commit's star.
    """
    shown = set(order)
    lanes: list[str] = []
    for commit in order:
        if commit not in lanes:
            lanes.append(commit)
        position = lanes.index(commit)
        yield _row(len(lanes), position) + " " + labels[commit]
        ahead = [parent for parent in dict.fromkeys(parents[commit]) if parent in shown]
        yield from _branch_out(lanes, position, ahead)
        yield from _join(lanes)


def _row(lanes: int, star: int) -> str:
    return " ".join("*" if i == star else "|" for i in range(lanes))


def _branch_out(lanes: list[str], position: int, ahead: list[str]) -> Iterator[str]:
    """Replace a commit's lane by its parents' lanes."""
    if not ahead:
        width = len(lanes)
        del lanes[position]
        if position < len(lanes):
            yield _shift(position, width)
        return
    lanes[position] = ahead[0]
    for i, parent in enumerate(ahead[1:], 1):
        lanes.insert(position + i, parent)
        tail = " \\" * (len(lanes) - position - 1)
        yield "| " * position + "|" + tail[1:]


def _shift(position: int, width: int) -> str:
    """A line on which the lanes right of an ended one move left."""
    return ("| " * position + " /" * (width - position - 1)).rstrip()


def _join(lanes: list[str]) -> Iterator[str]:
    """Merge lanes that lead to the same commit, rightmost first."""
    position = len(lanes) - 1
    while position > 0:
        first = lanes.index(lanes[position])
        if first < position:
            width = len(lanes)
            if position - first == 1:
                yield "| " * first + "|/" + " /" * (width - position - 1)
            else:
                between = "|_" * (position - first - 1)
                yield "| " * first + "|" + between[1:] + "/" + " /" * (width - position - 1)
            del lanes[position]
        position -= 1
        position = min(position, len(lanes) - 1)
