"""Who gets what of an epoch: global batches, cut among ranks, and dealt to the workers of a rank (pure).

The batches of an epoch are fixed by the order alone. A global batch is what all ranks train on in one step; each rank
takes its part of it, so with another number of ranks the global batches stay. Steps are dealt to workers in turns,
from worker 0, and data loaders take batches from workers in turns too: so they come in the order of the steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from hangar_cloud.errors import InvalidArgumentError


@dataclass(frozen=True)
class Shares:
    """The steps of one rank.

    Attributes:
        count: samples in the epoch.
        batch_size: samples of a global batch: of one step, over all ranks.
        drop_last: leave out a last global batch that is not full.
        rank, world_size: which process this is, of how many.
        start: samples of the epoch that are left out at its beginning, as an earlier run had them.

    Raises:
        InvalidArgumentError: numbers that cannot be meant, such as more ranks than samples in a batch.
    """

    count: int
    batch_size: int
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InvalidArgumentError(f"batch_size must be 1 or more, not {self.batch_size}")
        if not 0 <= self.rank < self.world_size:
            raise InvalidArgumentError(f"rank must be from 0 to below world_size ({self.world_size}), not {self.rank}")
        if self.batch_size < self.world_size:
            raise InvalidArgumentError(
                f"a global batch of {self.batch_size} samples cannot be cut among {self.world_size} ranks: batch_size "
                "counts the samples of one step over all ranks"
            )

    @property
    def steps(self) -> int:
        """Number of steps: the same for each rank, so that ranks that wait for each other end together."""
        left = max(self.count - self.start, 0)
        return left // self.batch_size if self.drop_last else -(-left // self.batch_size)

    def part(self, step: int) -> tuple[int, int]:
        """First place in the epoch, and the one behind the last, of this rank's part of a step.

        Parts of one step differ by one sample at most. That of a last global batch that is not full may be empty.
        """
        first = self.start + step * self.batch_size
        size = min(self.batch_size, self.count - first)
        low, high = size * self.rank // self.world_size, size * (self.rank + 1) // self.world_size
        return first + low, first + high

    def consumed(self, steps: int) -> int:
        """Samples of the epoch that all ranks together have had after so many steps."""
        return min(self.start + steps * self.batch_size, self.count)
