"""One line of addresses for samples of many packs, so that blocks and strips end where stretches of packs do (pure)."""

from __future__ import annotations

from typing import Final

import numpy as np

from hangar_cloud.backends.packs import STRETCH
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.records import Spots

# The last strip of a pack is mostly shorter than others. So packs have to be of some stretches to be lined up.
_LEAST_SPAN: Final = 4 * STRETCH
_LEAST_WANTED: Final = 0.9
# Packs are sealed when they are a bit longer than some stretches. So few bytes are no strip of their own.
_SHORT_END: Final = 1024 * 1024


def addresses(spots: Spots) -> Positions | None:
    """An address for each sample, never falling, in bytes; None where packs tell them no better than sizes do.

    Samples of a pack begin at a multiple of `STRETCH` as the pack does, if it is long, nearly all of it is wanted, and
    every sample takes as much of it as in memory. Others lie behind each other.

    Args:
        spots: of the samples, in the order of their bytes.
    """
    if not len(spots.pack):
        return None
    found = np.cumsum(spots.size) - spots.size
    firsts = np.flatnonzero(np.diff(spots.pack, prepend=spots.pack[0] - 1))
    lasts = np.append(firsts[1:], len(found)) - 1
    begins = spots.offset[firsts]
    spans = spots.offset[lasts] + spots.size[lasts] - begins
    wanted = found[lasts] + spots.size[lasts] - found[firsts]
    # Compressed ones lie closer together; so do equal ones, which are stored once.
    is_close = np.diff(spots.offset, append=0) < spots.size
    is_close[lasts] = False
    lined_up = (spots.pack[firsts] >= 0) & (spans >= _LEAST_SPAN) & (wanted >= spans * _LEAST_WANTED)
    lined_up &= np.logical_or.reduceat(is_close, firsts) == 0
    if not lined_up.any():
        return None
    end = 0
    parts = []
    for first, last, begin, is_lined_up in zip(*(a.tolist() for a in (firsts, lasts, begins, lined_up)), strict=True):
        if is_lined_up:
            shift = -(-end // STRETCH) * STRETCH - begin // STRETCH * STRETCH
            part = spots.offset[first : last + 1] + shift
            end = int(part[-1] + spots.size[last])
            whole = end // STRETCH * STRETCH
            if end - whole < _SHORT_END:
                part, end = np.minimum(part, whole - 1), whole
        else:
            part = found[first : last + 1] + (end - found[first])
            end = int(part[-1] + spots.size[last])
        parts.append(part)
    return np.concatenate(parts)
