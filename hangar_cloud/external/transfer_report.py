"""What an import or an export did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

_SHOWN: Final = 10


class Refused(NamedTuple):
    """What was not imported.

    Attributes:
        source: the file, or the row and column.
        reason: why.
    """

    source: str
    reason: str


@dataclass
class ImportReport:
    """What an import did. Everything is staged; commit records it.

    Attributes:
        added: number of samples written, in all columns together.
        skipped: number of samples that were there already, and were left as they are.
        refused: what could not be imported, and why.
        columns: the columns that were written to, or would have been.
        made: those of them that this import made.
    """

    added: int = 0
    skipped: int = 0
    refused: list[Refused] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{_samples(self.added)} imported into {', '.join(self.columns) or 'no column'}"]
        if self.skipped:
            lines[0] += f"; {_samples(self.skipped)} there already"
        if self.refused:
            lines[0] += f"; {len(self.refused)} refused"
            lines += [f"  {one.source}: {one.reason}" for one in self.refused[:_SHOWN]]
        if len(self.refused) > _SHOWN:
            lines.append(f"  … and {len(self.refused) - _SHOWN} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        samples: number of samples written, in all columns together.
        files: number of files; of a format that keeps its files in a folder, 1.
        path: where they are.
    """

    samples: int
    files: int
    path: str

    def __str__(self) -> str:
        return f"{_samples(self.samples)} exported to {self.path}"


def _samples(count: int) -> str:
    return f"{count} sample{'' if count == 1 else 's'}"
