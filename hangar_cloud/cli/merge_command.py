"""Merging a branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository
from hangar_cloud.cli.guard import GuardedCommand
from hangar_cloud.cli.sample_keys import both_there, parse_place

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_SIDES = ("ours", "theirs", "ancestor")


@click.command(cls=GuardedCommand)
@click.option("-m", "--message", metavar="<message>", help="Of the merge commit. Default: what is merged into what.")
@click.option(
    "--into", "master", metavar="BRANCH", shell_complete=completing.branches, help="Default: the branch written to."
)
@click.option(
    "-s",
    "--strategy",
    type=click.Choice(["ours", "theirs"]),
    help="Settle every conflict: ours is what the branch has that is merged into, theirs what DEV has.",
)
@click.option("--ours", metavar="PLACE", multiple=True, help="Keep what is there in one conflict. May be repeated.")
@click.option("--theirs", metavar="PLACE", multiple=True, help="Take what DEV has in one conflict.")
@click.option("--ancestor", metavar="PLACE", multiple=True, help="Go back to what both started from in one conflict.")
@click.argument("dev", shell_complete=completing.commits)
@with_repository
def merge(
    repository: Repository, dev: str, message: str | None, master: str | None, strategy: str | None, **settled: Any
) -> None:
    """Merge DEV into the branch that is written to.

    DEV is a branch, here or of a remote (origin/master), a tag, or the first digits of a commit. If there are
    conflicts, nothing is changed, and they are named. A PLACE is a sample in conflict, COLUMN:KEY, of a nested
    column COLUMN:SAMPLE:SUBSAMPLE, and metadata:KEY; it goes before --strategy. Where a number 7 and a text 7
    are in conflict, labels:int:7 and labels:str:7 tell them apart.

    \b
    Take theirs, but keep one caption:
      hangar merge dev --strategy theirs --ours captions:17
    """
    into = master or repository._branches.current()
    places = {text: side for side in _SIDES for text in settled[side]}
    chosen = _Chosen(places, strategy) if places else strategy
    digest = repository.merge(message or f"merge {dev} into {into}", into, dev, strategy=chosen)
    if isinstance(chosen, _Chosen) and chosen.unused:
        names = ", ".join(sorted(chosen.unused))
        click.echo(f"These were in no conflict, and were merged as ever: {names}", err=True)
    click.echo(f"Branch {into} is at {click.style(digest[:12], fg='yellow')}.")


class _Chosen:
    """Settles samples by what was said of each, and the others by a strategy; what neither names stays in conflict."""

    def __init__(self, places: dict[str, str], strategy: str | None) -> None:
        self._strategy = strategy
        self._meant: dict[tuple[str, Any], list[tuple[str, str]]] = {}
        self._met: dict[str, Any] = {}
        self.unused = set(places)
        for text, side in places.items():
            column, keys = parse_place(text)
            for key in keys:
                self._meant.setdefault((column, key), []).append((text, side))

    def __call__(self, column: str, key: Any, ancestor: Any, ours: Any, theirs: Any) -> Any:
        side = self._side(column, key)
        return {"ours": ours, "theirs": theirs, "ancestor": ancestor}.get(side or "")

    def _side(self, column: str, key: Any) -> str | None:
        """What was said of a sample; what names it alone goes before what may mean another too."""
        said = sorted(self._meant.get((column, key), []), key=lambda one: len(parse_place(one[0])[1]))
        if not said:
            return self._strategy
        text, side = said[0]
        if self._met.setdefault(text, key) != key:
            raise both_there(column, [self._met[text], key])
        self.unused.discard(text)
        return side
