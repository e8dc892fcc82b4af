"""What `Repository.repack` tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hangar_cloud.garbage import Count

REPACKED_KINDS: Final = ("records", "packs")


def _nothing() -> dict[str, Count]:
    return dict.fromkeys(REPACKED_KINDS, Count())


@dataclass
class RepackReport:
    """The outcome of `Repository.repack`.

    Attributes:
        dry_run: True if nothing was written.
        before: all objects that are in use, by kind ("records", "packs").
        merged: those of them that were small or mostly dead, whose contents were copied (or, in a dry run, would be).
            A garbage collection deletes them, unless something that it keeps and a repack does not refers to them.
        made: the new objects; in a dry run an estimate, of the smallest number that can hold what is alive.
    """

    dry_run: bool
    before: dict[str, Count] = field(default_factory=_nothing)
    merged: dict[str, Count] = field(default_factory=_nothing)
    made: dict[str, Count] = field(default_factory=_nothing)

    @property
    def after(self) -> dict[str, Count]:
        """All objects that will be in use once the old ones were collected, by kind."""
        return {
            kind: Count(
                self.before[kind].objects - self.merged[kind].objects + self.made[kind].objects,
                self.before[kind].bytes - self.merged[kind].bytes + self.made[kind].bytes,
            )
            for kind in REPACKED_KINDS
        }

    @property
    def freed(self) -> Count:
        """What a garbage collection has to delete afterwards: the old objects."""
        return Count(
            sum(self.merged[kind].objects for kind in REPACKED_KINDS),
            sum(self.merged[kind].bytes for kind in REPACKED_KINDS),
        )

    def __repr__(self) -> str:
        lines = ["Hangar Repack" + (" (dry run: nothing was written)" if self.dry_run else "")]
        verb = "Would make" if self.dry_run else "Made"
        for kind in REPACKED_KINDS:
            if self.merged[kind].objects:
                lines.append(f"    {kind.capitalize():<8}: {self.before[kind]} in use")
                lines.append(f"        Small or mostly dead: {self.merged[kind]}")
                lines.append(f"        {verb:<20}: {self.made[kind]}")
        if self.freed.objects:
            lines.append(f"    Run gc to delete the old objects: {self.freed}")
        else:
            lines.append("    Nothing to do: there are no two small objects, and none that is mostly dead")
        return "\n".join(lines)
