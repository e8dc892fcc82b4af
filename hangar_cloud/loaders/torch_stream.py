"""A torch dataset that streams batches: shuffled in blocks, shared among ranks and workers, resumed in mid-epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from hangar_cloud.errors import InvalidArgumentError, SampleNumberError
from hangar_cloud.loaders.batch_stream import MEMORY, BatchStream, Transform
from hangar_cloud.loaders.permutations import Positions
from hangar_cloud.loaders.progress_state import Place, to_state
from hangar_cloud.loaders.torch_classes import reduced, torch_class
from hangar_cloud.loaders.torch_values import check_dtypes, import_torch, to_torch
from hangar_cloud.loaders.worker_memory import send_by_pieces

_MOST_WORKERS: Final = 128
# Places in what processes share: the first epoch; samples left out at its beginning; and how many epochs were begun by
# the process itself, by the one worker, by each of two workers, by each of three …
_EPOCH: Final = 0
_START: Final = 1
_BEGUN: Final = 2


def make_torch_stream(
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
    rank: int | None = None,
    world_size: int | None = None,
    machines: int = 1,
    transform: Transform | None = None,
    memory: int = MEMORY,
    pin_memory: bool = False,
) -> Any:
    """A `torch.utils.data.IterableDataset` of whole batches, for ``DataLoader(stream, batch_size=None)``.

    A batch is a dict of tensors (samples, \\*shape); of lists for text, bytes, arrays whose shape varies and nested
    samples. The batches, and their order, are the same for any number of workers.

    Each `iter` of the data loader is another epoch. ``set_epoch`` names the next one, also for workers that persist.
    ``state_dict`` and ``load_state_dict`` go on in the middle of one: torchdata's StatefulDataLoader calls them;
    with a DataLoader that has workers tell ``state_dict(batches=…)`` how many batches you used.

    Args:
        columns, keys, index_range, field_names, shuffle, window, seed, drop_last, machines: as for
            `make_numpy_dataset`.
        batch_size: samples of one step, over all ranks. None gives samples one by one, for a loader that makes batches.
        rank, world_size: by default those of `torch.distributed` where it is initialised, else 0 and 1.
        transform: called with each batch of tensors, in the process that reads it.
        memory: about so many bytes are held, in each process that reads.
        pin_memory: give page-locked tensors. With workers use the DataLoader's own `pin_memory` instead.

    Raises:
        as `make_numpy_dataset`, and
        ValueError: a dtype that torch does not have, or `pin_memory` without a GPU.
        ImportError: torch is not installed.
    """
    torch = import_torch("make_torch_stream")
    if (rank is None) != (world_size is None):
        raise InvalidArgumentError("give both rank and world_size, or neither")
    if pin_memory and not torch.cuda.is_available():
        raise InvalidArgumentError("pin_memory is for a GPU, and torch finds none here; leave it out")
    by_default = rank is None
    if rank is None or world_size is None:
        rank, world_size = _own_rank(torch)
    return torch_class(_TensorStream, "HangarTorchStream")(
        columns,
        keys,
        batch_size,
        index_range=index_range,
        field_names=field_names,
        shuffle=shuffle,
        window=window,
        seed=seed,
        drop_last=drop_last,
        rank=rank,
        world_size=world_size,
        machines=machines,
        transform=transform,
        memory=memory,
        pin=pin_memory,
        by_default=by_default,
    )


def _own_rank(torch: Any) -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _worker() -> tuple[int, int] | None:
    """The number of the worker that this process is, and how many there are; None if it is none."""
    from torch.utils.data import get_worker_info

    info = get_worker_info()
    if info is not None and info.num_workers > _MOST_WORKERS:
        raise InvalidArgumentError(f"{info.num_workers} workers are more than {_MOST_WORKERS}")
    return None if info is None else (info.id, info.num_workers)


def _slot(workers: int, worker: int) -> int:
    return 1 + workers * (workers - 1) // 2 + worker


class _TensorStream(BatchStream):
    """Batches of tensors. The class that torch knows is made of this one when torch is there.

    Workers have copies of this object, made when a loader starts them: for each epoch anew, or once. So where to begin,
    and how many epochs each worker has begun since, stands in memory that all processes share. No number in it has two
    writers at a time.
    """

    def __init__(
        self, columns: Any, keys: Any, batch_size: int | None, *, pin: bool, by_default: bool, **options: Any
    ) -> None:
        import torch

        super().__init__(columns, keys, batch_size, **options)
        check_dtypes({name: field.column for name, field in self._source.fields.items()})
        self._pin = pin
        self._rank_by_default = by_default
        self._shared = torch.zeros(_BEGUN + _slot(_MOST_WORKERS + 1, 0), dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._loaded_by_worker = False

    @property
    def epoch(self) -> int:
        """Number of the epoch that was begun last, by this process or by workers, or else comes first."""
        return int(self._shared[_EPOCH]) + max(self._begun_in_all() - 1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that the next `iter` begins, in workers that persist too."""
        super().set_epoch(epoch)
        self._share(epoch, 0)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """The place in training, as plain values.

        Args:
            batches: how many batches of this epoch (since it was begun or gone on with) were used. By default as
                many as the iterator has given; with workers, which run ahead, it has to be said.

        Raises:
            ValueError: workers have read, and `batches` is not said.
        """
        begun = self._begun_in_all()
        if batches is not None:
            place = self._after(self._beginning(max(begun - 1, 0)), batches)
            return to_state(place, **self._told())
        if begun and not self._begun:
            raise InvalidArgumentError(
                "workers read ahead, so how many batches were used is not known here: say state_dict(batches=…), or "
                "use torchdata's StatefulDataLoader"
            )
        return super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if _worker() is None:
            self._share(self._place.epoch, self._place.start)
        else:
            # What processes share may not be changed by one of several workers: each is given a state of its own.
            self._loaded_by_worker = True

    def __iter__(self) -> Iterator[Any]:
        self._check_rank()
        worker = _worker()
        if worker is not None and (memory := send_by_pieces(len(self._source.fields))) is not None:
            self._source.read_into(memory)
        slot = 0 if worker is None else _slot(worker[1], worker[0])
        # Not those of this number of workers: they begin this epoch now, one after the other.
        elsewhere = self._begun_in_all(0 if worker is None else worker[1])
        if self._loaded_by_worker:
            begun = self._place.epoch - int(self._shared[_EPOCH])
        else:
            begun = int(self._shared[_BEGUN + slot]) + elsewhere
            self._place = self._beginning(begun)
        self._loaded_by_worker, self._begun = False, True
        self._shared[_BEGUN + slot] = begun + 1 - elsewhere
        return self._batches(self._place, worker)

    def __getitem__(self, index: Any) -> Any:
        """Raises SampleNumberError: a stream has an order of its own."""
        raise SampleNumberError(
            "a stream gives batches in its own order, and none by number: iterate over it, or use make_torch_dataset, "
            "which gives any sample by its number"
        )

    def _check_rank(self) -> None:
        """Refuse to give the samples of other ranks too, where the group was made after the stream."""
        if not self._rank_by_default:
            return
        import torch

        if _own_rank(torch) not in ((0, 1), (self._rank, self._world_size)):
            rank, world_size = _own_rank(torch)
            raise InvalidArgumentError(
                f"this process is rank {rank} of {world_size}, and the stream was made for rank {self._rank} of "
                f"{self._world_size}: make it after torch.distributed.init_process_group, or give rank and world_size"
            )

    def _begun_in_all(self, but: int | None = None) -> int:
        """Epochs that were begun since the first: by this process (0), and by each number of workers."""
        firsts = [0, *(_slot(workers, 0) for workers in range(1, _MOST_WORKERS + 1))]
        return int(self._shared[[_BEGUN + slot for workers, slot in enumerate(firsts) if workers != but]].sum())

    def _beginning(self, begun: int) -> Place:
        """Where the epoch begins that comes after so many others."""
        start = 0 if begun else int(self._shared[_START])
        return Place(int(self._shared[_EPOCH]) + begun, start, start, 0, self._batch_size, None)

    def _share(self, epoch: int, start: int) -> None:
        self._shared.zero_()
        self._shared[_EPOCH], self._shared[_START] = epoch, start

    def _finished(self, batch: dict[str, Any], positions: Positions) -> Any:
        return super()._finished(to_torch(batch, self._pin), positions)

    def __repr__(self) -> str:
        fields = ", ".join(self.field_names)
        return f"HangarTorchStream({self.num_samples} samples in {len(self)} batches, fields: {fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers that are not forked know nothing of the group.
        self._check_rank()
        return reduced(self, _TensorStream)
