"""A map-style torch dataset: any sample by its number, a batch of them in one planned read."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hangar_cloud.brought_blocks import BroughtBlocks
from hangar_cloud.errors import InvalidArgumentError, SampleNumberError, TransformError
from hangar_cloud.loaders.fields import Field
from hangar_cloud.loaders.selection import SampleKey, Selection, select
from hangar_cloud.loaders.torch_classes import reduced, torch_class
from hangar_cloud.loaders.torch_values import check_dtypes, import_torch, to_torch


def make_torch_dataset(
    columns: Any,
    keys: Iterable[Any] | None = None,
    index_range: slice | None = None,
    field_names: Sequence[str] | None = None,
    *,
    transform: Callable[[dict[str, Any]], Any] | None = None,
) -> Any:
    """A `torch.utils.data.Dataset` of columns, for a `torch.utils.data.DataLoader`.

    Its samples are dicts: a tensor for each array, text and bytes as they are, and a dict of subsamples for samples of
    nested columns. A DataLoader asks for the samples of a batch together, and they are read together. For training from
    a bucket `make_torch_stream` is several times as fast, as it reads blocks of neighbours.

    Args:
        columns: a column, some columns, all columns of a checkout (``co.columns``), or a mapping from field names to
            columns. They may be of several checkouts for reading.
        keys: of the samples wanted, by default those that all columns have. With pairs (sample, subsample) each
            subsample of the nested columns is a sample.
        index_range: a part of the samples that all columns have, in the order of their keys; not looked at where
            there are `keys`.
        field_names: keys of the dicts, one for each column; by default the columns' names.
        transform: called with each sample, in the process that reads it; what it returns is the sample.

    Raises:
        TypeError: no columns, or what is no column.
        PermissionError: a column of a checkout for writing.
        KeyError: a column lacks one of the keys.
        ValueError: no sample is in all columns, field names that do not fit, or a dtype that torch does not have.
        ImportError: torch is not installed.
    """
    import_torch("make_torch_dataset")
    selection = select(columns, keys, index_range, field_names)
    selection.records.clear()
    check_dtypes(selection.columns)
    if transform is not None and not callable(transform):
        raise InvalidArgumentError(f"transform must be a function of a sample, not {transform!r}")
    return torch_class(_Samples, "HangarTorchDataset")(selection, transform)


class _Samples:
    """Samples by number. The class that torch knows is made of this one when torch is there."""

    def __init__(self, selection: Selection, transform: Callable[[dict[str, Any]], Any] | None) -> None:
        self._keys = selection.keys
        self._fields = {
            name: Field(column, selection.by_subsample, BroughtBlocks(0)) for name, column in selection.columns.items()
        }
        self._transform = transform

    @property
    def keys(self) -> list[SampleKey]:
        """Keys of the samples, in the order of their numbers."""
        return list(self._keys)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._keys)

    def __getitem__(self, index: Any) -> Any:
        """The sample of a number; negative ones count from the end. Raises IndexError behind the last.

        Of several numbers (a list, a slice, or an array of one dimension) a batch: a dict of tensors
        (samples, \\*shape), or of lists. So ``DataLoader(dataset, sampler=BatchSampler(…), batch_size=None)`` needs no
        collating; the transform is not called then, as it changes samples.
        """
        if isinstance(index, slice):
            return to_torch(self._read(self._keys[index]))
        if isinstance(index, list) or getattr(index, "ndim", 0) == 1:
            return to_torch(self._read(self._keys_at(index)))
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples of some numbers, in one planned read for each column."""
        wanted = self._keys_at(indices)
        samples: list[dict[str, Any]] = [{} for _ in wanted]
        for name, values in to_torch(self._read(wanted)).items():
            for sample, value in zip(samples, values, strict=True):
                sample[name] = value
        if self._transform is None:
            return samples
        return [self._changed(key, sample) for key, sample in zip(wanted, samples, strict=True)]

    def _keys_at(self, indices: Any) -> list[SampleKey]:
        """The keys of samples by their numbers. Raises SampleNumberError."""
        told = f"samples of this dataset are told by numbers from 0 to below {len(self)}"
        numbers = indices.tolist() if hasattr(indices, "tolist") else list(indices)
        if any(isinstance(number, bool) for number in numbers):
            raise SampleNumberError(f"{told}, not by True and False; give the numbers of those that are wanted")
        try:
            return [self._keys[operator.index(number)] for number in numbers]
        except IndexError:
            beyond = next(number for number in numbers if not -len(self) <= number < len(self))
            raise SampleNumberError(f"there is no sample number {beyond}: {told}") from None
        except TypeError as error:
            raise SampleNumberError(f"{told}, not by {numbers!r}") from error

    def _read(self, keys: list[SampleKey]) -> dict[str, Any]:
        batch: dict[str, Any] = {}
        for name, field in self._fields.items():
            values = field.read_batch(keys)
            batch[name] = values if field.is_array else list(values)
        return batch

    def _changed(self, key: SampleKey, sample: dict[str, Any]) -> Any:
        assert self._transform is not None
        try:
            return self._transform(sample)
        except Exception as error:
            told = f"the transform failed on the sample {key!r}: {type(error).__name__}: {error}"
            raise TransformError(told) from error

    def __repr__(self) -> str:
        return f"HangarTorchDataset({len(self)} samples, fields: {', '.join(self._fields)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self, _Samples)
