"""Batches for a plain Python loop: numpy, JAX, or anything else that takes arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.loaders.batch_stream import MEMORY, BatchStream, Transform


class NumpyDataset(BatchStream):
    """What `make_numpy_dataset` returns: each `iter` is an epoch of batches."""

    def __repr__(self) -> str:
        fields = ", ".join(self.field_names)
        return f"{type(self).__qualname__}({self.num_samples} samples in {len(self)} batches, fields: {fields})"


class _Collating:
    """Makes a batch of its samples. A class, so that it can be pickled if its function can."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Any]) -> None:
        self._collate = collate

    def __call__(self, batch: dict[str, Any]) -> Any:
        names = list(batch)
        return self._collate([dict(zip(names, sample, strict=True)) for sample in zip(*batch.values(), strict=True)])


def make_numpy_dataset(
    columns: Any,
    keys: Iterable[Any] | None = None,
    batch_size: int | None = None,
    drop_last: bool = False,
    shuffle: bool | str = True,
    collate_fn: Callable[[list[dict[str, Any]]], Any] | None = None,
    *,
    index_range: slice | None = None,
    field_names: Sequence[str] | None = None,
    window: int | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    machines: int = 1,
    transform: Transform | None = None,
    memory: int = MEMORY,
) -> NumpyDataset:
    """Batches of samples as dicts of arrays, read ahead, epoch after epoch.

    A batch has for each field an array of shape (samples, \\*shape), which the caller may change; for text, bytes,
    arrays whose shape varies and nested samples (dicts of subsamples) a list.

    Args:
        columns: a column, some columns, all columns of a checkout (``co.columns``), or a mapping from field names to
            columns. They may be of several checkouts for reading, and of several repositories.
        keys: of the samples wanted, by default those that all columns have. With pairs (sample, subsample) each
            subsample of the nested columns is a sample; flat columns give the value of its sample.
        batch_size: samples of one step, over all ranks. None gives samples one by one, without the first dimension.
        drop_last: leave out a last batch that is not full.
        shuffle: True mixes samples within windows of blocks that are read near-sequentially; "full" gives every order
            with the same chance; False the order of the keys; "storage" the order in which their bytes lie.
        collate_fn: makes a batch of a list of samples (dicts); not with `transform`.
        index_range: a part of the samples that all columns have; not looked at where there are `keys`.
        field_names: names of the fields, one for each column; by default the columns' names.
        window: about how many samples ``shuffle=True`` mixes; by default those of 64 MiB.
        seed: what the orders follow from, with the epoch's number.
        rank, world_size: which process this is, of how many that train together. All give the same other arguments.
        machines: on how many machines these are, each with as many ranks that follow each other. With more than one,
            and samples that are shuffled, a machine gets of each global batch mostly what lies in strips of its own,
            the same in each epoch: it fetches these as a whole, and has them in its cache from then on.
        transform: called with each batch; what it returns is given out.
        memory: about so many bytes are held: samples that are read ahead or, if they take at most half of it, all.

    Raises:
        TypeError: no columns, or what is no column.
        PermissionError: a column of a checkout for writing.
        KeyError: a column lacks one of the keys.
        ValueError: no sample is in all columns, or any other argument that cannot be meant.
    """
    if collate_fn is not None:
        if transform is not None or batch_size is None:
            raise InvalidArgumentError("collate_fn makes a batch: it goes with a batch_size, and not with a transform")
        transform = _Collating(collate_fn)
    return NumpyDataset(
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
    )
