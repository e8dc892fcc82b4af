"""What a launcher of many processes told this one."""

from __future__ import annotations

import os


def all_ranks_are_here(world_size: int) -> bool:
    """Whether all ranks run on this machine, as far as is known: `torchrun`, and what is made to replace it, say so in
    the environment."""
    return world_size == 1 or os.environ.get("LOCAL_WORLD_SIZE") == str(world_size)
