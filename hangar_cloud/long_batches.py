"""Batches, in key order, of samples so long that each lies in blocks of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hangar_cloud.backends.pack_reader import UNREADABLE, PackedSample
from hangar_cloud.backends.reused_memory import ReusedMemory
from hangar_cloud.catalog.leaf import Leaf
from hangar_cloud.catalog.leaf_blocks import row_samples
from hangar_cloud.prefetching import Prefetch

if TYPE_CHECKING:
    from hangar_cloud.batches import BatchReading

# Bytes of batches that nobody has any more, which are used for the next ones.
_MOST_FREE: Final = 128 * 1024 * 1024


def long_batches(column: BatchReading, size: int, least: int) -> Iterator[tuple[list[Any], npt.NDArray[Any]]]:
    """All batches of a column of fixed shape, each written into one array as its samples come.

    Args:
        column: of long samples.
        size: samples in a batch.
        least: samples that a last batch has at least.
    """
    schema, count = column._entry.schema, column._entry.count
    memory = ReusedMemory(_MOST_FREE)
    keys: list[Any] = []
    items = memory.empty((0,), np.uint8)
    with column._ahead_in_order(hold=True) as ahead:
        for leaf, first in column._numbered_leaves():
            at = 0
            while at < len(leaf):
                if not keys:
                    wanted = min(size, count - first - at)
                    if wanted < least:
                        return
                    items = memory.empty((wanted, schema.fixed_size or 0), np.uint8)
                end = min(at + len(items) - len(keys), len(leaf))
                column._alive()
                if ahead is not None:
                    ahead.at(first + at)
                    ahead.help(first + end)
                _fill(column, leaf, at, end, items[len(keys) :], ahead)
                keys += leaf.keys[at:end]
                at = end
                if len(keys) == len(items):
                    yield keys, column._as_batch([items.view(f"V{items.shape[1]}").reshape(-1)])
                    keys = []


def _fill(
    column: BatchReading, leaf: Leaf, start: int, end: int, into: npt.NDArray[np.uint8], ahead: Prefetch | None
) -> None:
    """Write the payloads of rows of a leaf into the first rows of an array."""
    samples = row_samples(leaf, column._entry.schema, start, end)
    if samples is not None:
        with suppress(*UNREADABLE):
            payloads = _payloads(column, samples, ahead)
            if all(len(data) == into.shape[1] for data in payloads):
                for row, data in zip(into, payloads, strict=False):
                    row[:] = np.frombuffer(data, np.uint8)
                return
    # The error is to be about the sample that fails.
    into[: end - start] = column._read_items(leaf.keys[start:end]).view(np.uint8).reshape(end - start, -1)


def _payloads(
    column: BatchReading, samples: Sequence[PackedSample], ahead: Prefetch | None
) -> list[bytes | memoryview]:
    """The payloads of samples: what was fetched early is held since then. Raises as `PackReader.read_many`."""
    packs = column._packs
    held: dict[PackedSample, memoryview] = {}
    if ahead is not None and ahead.held is not None:
        packs.arriving.wait(sample.place[:2] for sample in samples)
        held = ahead.held.take(samples)
    missing = [sample for sample in samples if sample not in held]
    held.update(zip(missing, packs.read_many(missing), strict=True))
    return [held[sample] for sample in samples]
