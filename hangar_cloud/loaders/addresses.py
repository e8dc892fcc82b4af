"""One line of addresses for samples of many packs, so that blocks and strips end where packs were made to (pure)."""

from __future__ import annotations

import numpy as np

from hangar_cloud.backends.packs import STRETCH
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.records import Spots

# A pack that begins a stretch leaves the one before it short: only those are lined up that have some.
_LEAST_SPAN = 4 * STRETCH
_LEAST_WANTED = 0.9


def addresses(spots: Spots) -> Positions | None:
    """An address for each sample, rising, in bytes; None where packs do not tell them any better than sizes.

    Those of a pack that is long enough, and of which nearly all is wanted as it lies, begin at a multiple of `STRETCH`
    as the pack does. Others lie behind each other.

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
    is_long = (spans >= _LEAST_SPAN) & (spots.pack[firsts] >= 0)
    # Compressed samples are more bytes than they lie in.
    lined_up = is_long & (wanted >= spans * _LEAST_WANTED) & (wanted <= spans)
    if not lined_up.any():
        return None
    end = 0
    parts = []
    for first, last, begin, is_lined_up in zip(*(a.tolist() for a in (firsts, lasts, begins, lined_up)), strict=True):
        if is_lined_up:
            part = spots.offset[first : last + 1] + (-(-end // STRETCH) * STRETCH - begin // STRETCH * STRETCH)
        else:
            part = found[first : last + 1] + (end - found[first])
        parts.append(part)
        end = int(part[-1] + spots.size[last])
    return np.concatenate(parts)
