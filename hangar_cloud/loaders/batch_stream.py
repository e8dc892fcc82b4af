"""A stream of batches: the order, a rank's share of it, reading, and the place where it stands."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

from hangar_cloud.backends.lazy_property import lazy_property
from hangar_cloud.errors import InvalidArgumentError, TransformError
from hangar_cloud.loaders.bringing import Share
from hangar_cloud.loaders.feed import Step, batches
from hangar_cloud.loaders.homes import DealtOrder, Homes
from hangar_cloud.loaders.launched import all_ranks_are_here
from hangar_cloud.loaders.order import BlockShuffle, EpochOrder, FixedOrder, FullShuffle
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.progress_state import Place, from_state, to_state
from hangar_cloud.loaders.selection import SampleKey, select
from hangar_cloud.loaders.shares import Shares
from hangar_cloud.loaders.source import LEAST_BLOCK, SampleSource

MEMORY: Final = 512 * 1024 * 1024
_WINDOW_BYTES: Final = 64 * 1024 * 1024
_SHUFFLES: Final = (True, False, "full", "storage")
_SHOWN: Final = 5

Transform = Callable[[dict[str, Any]], Any]


class BatchStream:
    """Batches of samples, epoch after epoch.

    Each `iter` is an epoch; the next one comes in another order, which follows from seed and epoch alone. `state_dict`
    and `load_state_dict` go on in the middle of one. The arguments are those of `make_numpy_dataset`.
    """

    def __init__(
        self,
        columns: Any,
        keys: Iterable[Any] | None = None,
        batch_size: int | None = None,
        *,
        index_range: slice | None = None,
        field_names: Sequence[str] | None = None,
        shuffle: bool | str = True,
        window: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        machines: int = 1,
        transform: Transform | None = None,
        memory: int = MEMORY,
    ) -> None:
        batch_size = None if batch_size is None else _whole("batch_size", batch_size, 1)
        window = None if window is None else _whole("window", window, 1)
        seed, rank, memory = _whole("seed", seed), _whole("rank", rank), _whole("memory, in bytes,", memory, 1)
        world_size, machines = _whole("world_size", world_size, 1), _whole("machines", machines, 1)
        if world_size % machines:
            raise InvalidArgumentError(
                f"machines={machines} does not go with world_size={world_size}: each machine has as many ranks as the "
                "others, so give a number that divides world_size. If there are more ranks than that, make this once "
                "they are known: with torch, behind init_process_group"
            )
        if not any(shuffle is known or (isinstance(shuffle, str) and shuffle == known) for known in _SHUFFLES):
            raise InvalidArgumentError(f"shuffle must be True, False, 'full' or 'storage', not {shuffle!r}")
        if transform is not None and not callable(transform):
            raise InvalidArgumentError(f"transform must be a function of a batch, not {transform!r}")
        selection = select(columns, keys, index_range, field_names)
        # Three portions are held at a time: one that is used up, and two that are read meanwhile. Blocks of text and
        # the like, which are decoded for several samples, are the fourth. Where windows are fetched as a whole,
        # portions are small, and what was fetched for the next ones takes most of it.
        self._portion_bytes = memory // 4
        self._source = SampleSource(selection, memory // 2, memory * 5 // 8, memory // 4)
        for field in self._source.fields.values():
            field.bound_decoded(memory // 4)
        selection.records.clear()
        self._shuffle, self._seed = shuffle, seed
        self._edges, self._lanes = self._source.edges()
        self._blocks = self._window_blocks(window)
        self._singly = batch_size is None
        self._batch_size = world_size if batch_size is None else batch_size
        self._drop_last, self._rank, self._world_size = drop_last, rank, world_size
        self._transform = transform
        self._shares(0)  # refuses numbers that do not fit
        self._machines = machines
        is_dealt = machines > 1 and shuffle in (True, "full")
        self._homes = Homes(self._source.edges_of_strips(), machines) if is_dealt else None
        self._fingerprint: str | None = None
        self._epoch = 0
        self._begun = False
        self._place = Place(0, 0, 0, 0, self._batch_size, None)

    @property
    def field_names(self) -> list[str]:
        """Names of the fields of a batch."""
        return list(self._source.fields)

    @property
    def keys(self) -> list[SampleKey]:
        """Keys of the samples, in the order asked for."""
        return list(self._source._selection.keys)

    @property
    def num_samples(self) -> int:
        """Number of samples, over all ranks."""
        return self._source.count

    @property
    def epoch(self) -> int:
        """Number of the epoch that was begun last, or else comes first."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that the next `iter` begins."""
        epoch = _whole("epoch", epoch)
        self._epoch, self._begun = epoch, False
        self._place = Place(epoch, 0, 0, 0, self._batch_size, None)

    def __len__(self) -> int:
        """Number of batches (or samples, without a batch_size) that this rank has in a whole epoch."""
        shares = self._shares(0)
        start, stop = shares.part(shares.steps - 1) if shares.steps else (0, 1)
        return shares.steps - (self._singly and start == stop)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch, or the rest of the one whose state was loaded."""
        if self._begun:
            self.set_epoch(self._epoch + 1)
        self._begun = True
        return self._batches(self._place)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """The place in training, as plain values.

        Args:
            batches: how many batches of this epoch (since it was begun or gone on with) were used. By default as
                many as the iterator has given; workers of a data loader run ahead and know nothing of this object.
        """
        place = self._place if batches is None else self._after(self._place, batches)
        return to_state(place, **self._told())

    def _after(self, place: Place, batches: int) -> Place:
        """The place so many batches behind where an epoch was begun or gone on with."""
        batches, shares = _whole("batches", batches), self._shares(place.start)
        if batches > shares.steps:
            raise InvalidArgumentError(
                f"epoch {place.epoch} had {shares.steps} batches from where it was begun or gone on with, so {batches} "
                "of them cannot have been used; count the batches of this epoch alone"
            )
        return place._replace(consumed=shares.consumed(batches), next_step=batches, workers=None)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a place: the next `iter` gives the rest of that epoch. Nothing is read.

        Raises:
            ValueError: not a state, or one of other data, another seed or another order.
        """
        place = from_state(state, **self._told())
        if place.workers is None:
            place = place._replace(start=place.consumed, next_step=0, batch_size=self._batch_size)
        elif place.batch_size != self._batch_size:
            raise InvalidArgumentError(
                f"a worker's state goes on with its batch_size ({place.batch_size}), not {self._batch_size}"
            )
        self._place, self._epoch, self._begun = place, place.epoch, False

    def _told(self) -> dict[str, Any]:
        if self._fingerprint is None:
            self._fingerprint = self._source.fingerprint()
        return {
            "seed": self._seed,
            "order": self._order_told,
            "samples": self._source.count,
            "fingerprint": self._fingerprint,
        }

    @lazy_property
    def _order_told(self) -> str:
        if self._shuffle is not True:
            return str(self._shuffle)
        order = f"{self._shuffle} {self._blocks}"
        # States of the time when all blocks were of 1 MiB do not say so.
        if self._source.block_bytes != LEAST_BLOCK:
            order += f" of {self._source.block_bytes}"
        # Nor do those of the time before strips.
        if self._source.strip_blocks != 1:
            order += f" in strips of up to {self._source.strip_blocks}"
        if self._lanes is not None:
            told = blake2b(self._edges.tobytes() + self._lanes.tobytes(), digest_size=8).hexdigest()
            order += f" by the stretches of packs {told}"
        return order

    def _window_blocks(self, window: int | None) -> int:
        blocks = max(len(self._edges) - 1, 1)
        if window is not None:
            return min(max(1, round(window * blocks / max(self._source.count, 1))), blocks)
        return min(max(1, _WINDOW_BYTES // self._source.block_bytes), blocks)

    def _order(self, epoch: int) -> EpochOrder:
        count = self._source.count
        if self._shuffle == "full":
            return FullShuffle(count, self._seed, epoch)
        if self._shuffle is True:
            return BlockShuffle(self._edges, self._blocks, self._seed, epoch, self._source.strip_blocks, self._lanes)
        fixed = None if self._shuffle == "storage" else self._source.key_order
        return FixedOrder(count, fixed, self._source.parts_in_order(fixed))

    def _shares(self, start: int) -> Shares:
        return Shares(self._source.count, self._batch_size, self._drop_last, self._rank, self._world_size, start)

    def _batches(self, place: Place, worker: tuple[int, int] | None = None) -> Iterator[Any]:
        """The batches from a place on: all of this rank's, or those of a worker (its number, how many there are)."""
        if place.workers is not None and place.workers != worker:
            raise InvalidArgumentError(
                f"this state is that of worker {place.workers[0]} of {place.workers[1]}; go on with as many workers, "
                "or with the state of a whole epoch: state_dict(batches=…)"
            )
        shares = self._shares(place.start)
        number, workers = worker or (0, 1)
        # Workers that go on each from a place of its own do not begin together.
        apart = place.workers is not None and place.workers[1] > 1
        share = None if apart else self._sharing(shares, place, number, workers)
        first = place.next_step if place.workers else place.next_step + number
        self._place = place = place._replace(next_step=first, workers=worker)
        return self._steps_of(place, shares, range(first, shares.steps, workers), share)

    def _steps_of(self, place: Place, shares: Shares, numbers: range, share: Share | None) -> Iterator[Any]:
        steps: Iterator[Step] = ((number, *shares.part(number)) for number in numbers)
        order, most = self._dealt(self._order(place.epoch), shares), self._portion_bytes
        for number, positions, batch in batches(self._source, order, steps, most, share):
            if self._singly and not len(positions):
                return
            given = self._finished(batch, positions)
            after = place._replace(
                consumed=shares.consumed(number + 1), next_step=number + numbers.step, batch_size=self._batch_size
            )
            # An older iterator that is still used would undo set_epoch and load_state_dict.
            if self._place is place:
                self._place = after
            place = after
            yield given

    def _dealt(self, order: EpochOrder, shares: Shares) -> EpochOrder:
        """The order as this machine has it."""
        if self._homes is None:
            return order
        return DealtOrder(order, self._homes, self._rank * self._machines // self._world_size, shares)

    def _sharing(self, shares: Shares, place: Place, number: int, workers: int) -> Share | None:
        """Which of the processes this is that read the epoch, or this machine's part of it, from a place on; None if
        some do so elsewhere."""
        if self._homes is None and (self._machines > 1 or not all_ranks_are_here(self._world_size)):
            return None
        # Those that have any step of it.
        having = max(min(workers, shares.steps - place.next_step), 1)
        ranks = self._world_size // self._machines
        return Share(self._rank % ranks * having + number, ranks * having, shares.consumed(place.next_step))

    def _finished(self, batch: dict[str, Any], positions: Positions) -> Any:
        """A batch as it is given out."""
        if self._singly:
            batch = {name: values[0] for name, values in batch.items()}
        if self._transform is None:
            return batch
        try:
            return self._transform(batch)
        except Exception as error:
            raise self._failed(positions, error) from error

    def _failed(self, positions: Positions, error: Exception) -> TransformError:
        keys = [self._source.keys[i] for i in positions[:_SHOWN].tolist()]
        more = f" and {len(positions) - _SHOWN} more" if len(positions) > _SHOWN else ""
        named = ", ".join(map(repr, keys)) + more
        return TransformError(f"the transform failed on the samples {named}: {type(error).__name__}: {error}")


def _whole(name: str, number: Any, least: int = 0) -> int:
    """A whole number as an int: orders follow from how seed and epoch are written, and numpy writes its own otherwise.

    Raises InvalidArgumentError for anything else, and for less than the least.
    """
    try:
        whole = operator.index(number)
    except TypeError:
        whole = -1
    if isinstance(number, bool) or whole < least:
        raise InvalidArgumentError(f"{name} must be a whole number from {least} on, not {number!r}")
    return whole
